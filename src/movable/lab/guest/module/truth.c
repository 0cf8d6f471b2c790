// SPDX-License-Identifier: GPL-2.0-only
/*
 * pageblock_types: one line a pageblock, "PFN MIGRATETYPE SKIP".
 *
 * truth_pages, one line a page:
 *	P PFN ORDER MIGRATETYPE	on a per-CPU list; a block of order n is its first page with
 *				that order, and 2^n - 1 lines with order 0
 *	M PFN			has movable operations: this driver's, the balloon's, zsmalloc's
 *	R PFN REFS MAPS		has references that its mappings do not explain
 */
#include <linux/memory_hotplug.h>
#include <linux/migrate.h>
#include <linux/mutex.h>
#include <linux/page-flags.h>
#include <linux/vmalloc.h>

#include "movable_lab.h"

struct pcp_page {
	u32 pfn;
	u8 order;
	u8 migratetype;
};

#define MAX_PCP_PAGES 65536

static DEFINE_MUTEX(reader);
static struct pcp_page *pcp_pages;
static unsigned long nr_pcp_pages;

unsigned long lab_end_pfn(void)
{
	unsigned long end_pfn = 0;
	int nid;

	for_each_online_node(nid)
		end_pfn = max(end_pfn, node_end_pfn(nid));
	return end_pfn;
}

static void *blocks_start(struct seq_file *file, loff_t *position)
{
	return *position << pageblock_order < lab_end_pfn() ? position : NULL;
}

static void *blocks_next(struct seq_file *file, void *v, loff_t *position)
{
	++*position;
	return blocks_start(file, position);
}

static void nothing_to_stop(struct seq_file *file, void *v)
{
}

static int blocks_show(struct seq_file *file, void *v)
{
	unsigned long pfn = *(loff_t *)v << pageblock_order;
	struct page *page = pfn_to_online_page(pfn);

	if (!pfn)
		seq_puts(file, "# PFN MIGRATETYPE SKIP: 0 unmovable, 1 movable, 2 reclaimable\n");
	if (page)
		seq_printf(file, "%lu %d %d\n", pfn, lab_pageblock_migratetype(page, pfn),
			   lab_pageblock_skip(page, pfn));
	return 0;
}

static const struct seq_operations blocks_seq = {
	.start = blocks_start,
	.next = blocks_next,
	.stop = nothing_to_stop,
	.show = blocks_show,
};

static int blocks_open(struct inode *inode, struct file *file)
{
	return seq_open(file, &blocks_seq);
}

const struct proc_ops lab_pageblock_types_ops = {
	.proc_open = blocks_open,
	.proc_read = seq_read,
	.proc_lseek = seq_lseek,
	.proc_release = seq_release,
};

/* Lists of small orders come first, by order and type; then, with THP, those of order 9. */
static void add_pcp_page(struct page *page, unsigned int list)
{
	bool is_huge = list >= NR_LOWORDER_PCP_LISTS;
	unsigned int order = is_huge ? pageblock_order : list / MIGRATE_PCPTYPES;
	unsigned long pfn = page_to_pfn(page), index;
	int migratetype = is_huge ? lab_pageblock_migratetype(page, pfn) : list % MIGRATE_PCPTYPES;

	for (index = 0; index < 1UL << order && nr_pcp_pages < MAX_PCP_PAGES; index++)
		pcp_pages[nr_pcp_pages++] = (struct pcp_page){
			.pfn = pfn + index,
			.order = index ? 0 : order,
			.migratetype = migratetype,
		};
}

static void add_pcp(struct per_cpu_pages *pcp)
{
	unsigned int list;
	struct page *page;

	for (list = 0; list < NR_PCP_LISTS; list++)
		list_for_each_entry(page, &pcp->lists[list], pcp_list)
			add_pcp_page(page, list);
}

static void find_pcp_pages(void)
{
	struct per_cpu_pages *pcp;
	unsigned long flags;
	struct zone *zone;
	int nid, cpu;

	nr_pcp_pages = 0;
	for_each_online_node(nid) {
		zone = NODE_DATA(nid)->node_zones;
		for (; zone < NODE_DATA(nid)->node_zones + MAX_NR_ZONES; zone++) {
			if (!populated_zone(zone))
				continue;
			for_each_online_cpu(cpu) {
				pcp = per_cpu_ptr(zone->per_cpu_pageset, cpu);
				spin_lock_irqsave(&pcp->lock, flags);
				add_pcp(pcp);
				spin_unlock_irqrestore(&pcp->lock, flags);
			}
		}
	}
}

/* As /proc/kpagecount counts: mappings of this page, and of its large folio as a whole. */
static int mapcount_of(struct page *page, struct folio *folio)
{
	int nr = max(atomic_read(&page->_mapcount), -1) + 1; /* Less than -1 is a page type. */

	return folio_test_large(folio) ? nr + folio_entire_mapcount(folio) : nr;
}

static bool is_explained(int nr_references, int nr_mappings)
{
	return nr_references == nr_mappings || (!nr_mappings && nr_references == 1);
}

static void show_page(struct seq_file *file, unsigned long pfn, struct page *page)
{
	struct folio *folio;
	int nr_references, nr_mappings;

	if (PageBuddy(page) || PageTail(page) || PageReserved(page) || !page_count(page))
		return;
	if (lab_page_has_movable_ops(page)) {
		seq_printf(file, "M %lu\n", pfn);
		return;
	}
	folio = (struct folio *)page;
	if (PageSlab(page) || PageHuge(page))
		return;
	nr_references = page_count(page);
	nr_mappings = mapcount_of(page, folio);
	if (!is_explained(nr_references, nr_mappings))
		seq_printf(file, "R %lu %d %d\n", pfn, nr_references, nr_mappings);
}

static void *pages_start(struct seq_file *file, loff_t *position)
{
	if (!*position && !file->private) {
		find_pcp_pages();
		file->private = pcp_pages; /* Found once a reading. */
	}
	return *position < nr_pcp_pages + lab_end_pfn() ? position : NULL;
}

/* A step is a page on a per-CPU list, or the next PFN that has a line: most have none. */
static void *pages_next(struct seq_file *file, void *v, loff_t *position)
{
	++*position;
	return *position < nr_pcp_pages + lab_end_pfn() ? position : NULL;
}

static int pages_show(struct seq_file *file, void *v)
{
	unsigned long position = *(loff_t *)v;
	struct page *page;

	if (!position)
		seq_puts(file, "# P PFN ORDER MIGRATETYPE, M PFN, R PFN REFS MAPS\n");
	if (position < nr_pcp_pages) {
		const struct pcp_page *one = &pcp_pages[position];

		seq_printf(file, "P %u %u %u\n", one->pfn, one->order, one->migratetype);
		return 0;
	}
	page = pfn_to_online_page(position - nr_pcp_pages);
	if (page)
		show_page(file, position - nr_pcp_pages, page);
	if (!(position % 4096))
		cond_resched();
	return 0;
}

static const struct seq_operations pages_seq = {
	.start = pages_start,
	.next = pages_next,
	.stop = nothing_to_stop,
	.show = pages_show,
};

static int pages_open(struct inode *inode, struct file *file)
{
	int error;

	if (!mutex_trylock(&reader))
		return -EBUSY;
	error = seq_open(file, &pages_seq);
	if (error)
		mutex_unlock(&reader);
	return error;
}

static int pages_close(struct inode *inode, struct file *file)
{
	mutex_unlock(&reader);
	return seq_release(inode, file);
}

const struct proc_ops lab_truth_pages_ops = {
	.proc_open = pages_open,
	.proc_read = seq_read,
	.proc_lseek = seq_lseek,
	.proc_release = pages_close,
};

int lab_truth_init(void)
{
	pcp_pages = vmalloc(array_size(MAX_PCP_PAGES, sizeof(*pcp_pages)));
	return pcp_pages ? 0 : -ENOMEM;
}

void lab_truth_exit(void)
{
	vfree(pcp_pages);
}
