// SPDX-License-Identifier: GPL-2.0-only
/*
 * The free lists of node 0, in list order: little-endian 32-bit words. Each list, empty or not,
 * begins with 0xF0000000 | zone << 16 | order << 8 | migratetype; then come the PFNs of its
 * blocks, the next one used first. The memory for it is set aside when the module is loaded.
 */
#include <linux/mutex.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "movable_lab.h"

#define LIST_HEADER 0xf0000000U
#define NR_LISTS (MAX_NR_ZONES * NR_PAGE_ORDERS * MIGRATE_TYPES)

#ifndef NR_PAGE_ORDERS /* 6.1 calls it MAX_ORDER. */
#define NR_PAGE_ORDERS MAX_ORDER
#endif

static DEFINE_MUTEX(reader);
static u32 *words;
static size_t nr_words, max_words;

static void put_word(u32 word)
{
	if (nr_words < max_words)
		words[nr_words++] = word;
}

static void put_zone(struct zone *zone)
{
	unsigned int order, migratetype;
	struct page *page;

	for (order = 0; order < NR_PAGE_ORDERS; order++)
		for (migratetype = 0; migratetype < MIGRATE_TYPES; migratetype++) {
			put_word(LIST_HEADER | zone_idx(zone) << 16 | order << 8 | migratetype);
			list_for_each_entry(page, &zone->free_area[order].free_list[migratetype],
					    buddy_list)
				put_word(page_to_pfn(page));
		}
}

static int free_lists_open(struct inode *inode, struct file *file)
{
	struct pglist_data *node = NODE_DATA(first_online_node);
	unsigned long flags;
	struct zone *zone;

	if (!mutex_trylock(&reader))
		return -EBUSY;
	nr_words = 0;
	for (zone = node->node_zones; zone < node->node_zones + MAX_NR_ZONES; zone++) {
		if (!populated_zone(zone))
			continue;
		spin_lock_irqsave(&zone->lock, flags);
		put_zone(zone);
		spin_unlock_irqrestore(&zone->lock, flags);
	}
	return 0;
}

static ssize_t free_lists_read(struct file *file, char __user *to, size_t size, loff_t *offset)
{
	return simple_read_from_buffer(to, size, offset, words, nr_words * sizeof(*words));
}

static int free_lists_close(struct inode *inode, struct file *file)
{
	mutex_unlock(&reader);
	return 0;
}

const struct proc_ops lab_free_lists_ops = {
	.proc_open = free_lists_open,
	.proc_read = free_lists_read,
	.proc_lseek = default_llseek,
	.proc_release = free_lists_close,
};

int lab_free_lists_init(void)
{
	max_words = lab_end_pfn() + NR_LISTS; /* At worst every page is free, alone. */
	words = vmalloc(array_size(max_words, sizeof(*words)));
	return words ? 0 : -ENOMEM;
}

void lab_free_lists_exit(void)
{
	vfree(words);
}
