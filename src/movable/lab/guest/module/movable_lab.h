/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of movable_gpu.ko share. README.md tells what each control file does. */
#ifndef MOVABLE_LAB_H
#define MOVABLE_LAB_H

#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/types.h>
#include <linux/version.h>

/*
 * Until 6.16 any driver may mark its pages. Since 6.17 a page is movable by its type, and only
 * types that the kernel itself knows (offline, zsmalloc) can have operations.
 */
#define LAB_DRIVERS_MARK_PAGES (LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0))

/* Functions of mm/ that modules are not given: see symbols.c. */
struct lab_symbols {
	void (*drain_all_pages)(struct zone *zone);
	void (*lru_add_drain_all)(void);
#if LAB_DRIVERS_MARK_PAGES
	unsigned long (*get_pfnblock_flags_mask)(const struct page *page, unsigned long pfn,
						 unsigned long mask);
#else
	enum migratetype (*get_pfnblock_migratetype)(const struct page *page, unsigned long pfn);
	bool (*get_pfnblock_bit)(const struct page *page, unsigned long pfn,
				 enum pageblock_bits bit);
#endif
};

extern struct lab_symbols lab_symbols;

int lab_find_symbols(void);
int lab_pageblock_migratetype(struct page *page, unsigned long pfn);
bool lab_pageblock_skip(struct page *page, unsigned long pfn);
bool lab_page_has_movable_ops(const struct page *page);

/* pool.c: the driver. */
int lab_pool_command(char *command);
void lab_pool_show(struct seq_file *file);
void lab_pool_stats(struct seq_file *file);
void lab_pool_release(void);
int lab_pool_set_accept(const char *text);
void lab_pool_show_accept(struct seq_file *file);

/* contents.c: what is written in the page number `slot`, and whether it still is. */
void lab_fill(struct page *page, unsigned long slot);
bool lab_is_filled(struct page *page, unsigned long slot);

/* truth.c and free_lists.c: what /proc does not show. */
extern const struct proc_ops lab_pageblock_types_ops;
extern const struct proc_ops lab_truth_pages_ops;
extern const struct proc_ops lab_free_lists_ops;
int lab_truth_init(void);
void lab_truth_exit(void);
int lab_free_lists_init(void);
void lab_free_lists_exit(void);
unsigned long lab_end_pfn(void);

/* storm.c: many allocations of one order. */
int lab_storm_command(char *command);
void lab_storm_show(struct seq_file *file);
void lab_storm_release(void);

#endif
