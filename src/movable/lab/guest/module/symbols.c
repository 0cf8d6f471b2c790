// SPDX-License-Identifier: GPL-2.0-only
/*
 * Functions that the kernel does not export, found by name.
 *
 * kallsyms_lookup_name() itself is not exported either, but a kprobe may name any function, and
 * says where it found it.
 */
#include <linux/kprobes.h>
#include <linux/migrate.h>

#include "movable_lab.h"

#define ENDBR64 0xfa1e0ff3U

struct lab_symbols lab_symbols;

typedef unsigned long (*lookup_fn)(const char *name);

static lookup_fn find_lookup(void)
{
	struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };
	unsigned long address;

	if (register_kprobe(&probe))
		return NULL;
	address = (unsigned long)probe.addr;
	unregister_kprobe(&probe);
	/* With IBT the probe sits behind the landing pad, where a call must not go. */
	if (*(u32 *)(address - 4) == ENDBR64)
		address -= 4;
	return (lookup_fn)address;
}

static void *find(lookup_fn lookup, const char *name)
{
	unsigned long address = lookup(name);

	if (!address)
		pr_err("movable_gpu: this kernel has no %s()\n", name);
	return (void *)address;
}

int lab_find_symbols(void)
{
	lookup_fn lookup = find_lookup();

	if (!lookup) {
		pr_err("movable_gpu: needs CONFIG_KPROBES and CONFIG_KALLSYMS\n");
		return -ENOENT;
	}
	lab_symbols.drain_all_pages = find(lookup, "drain_all_pages");
	lab_symbols.lru_add_drain_all = find(lookup, "lru_add_drain_all");
	if (!lab_symbols.drain_all_pages || !lab_symbols.lru_add_drain_all)
		return -ENOENT;
#if LAB_DRIVERS_MARK_PAGES
	lab_symbols.get_pfnblock_flags_mask = find(lookup, "get_pfnblock_flags_mask");
	return lab_symbols.get_pfnblock_flags_mask ? 0 : -ENOENT;
#else
	lab_symbols.get_pfnblock_migratetype = find(lookup, "get_pfnblock_migratetype");
	lab_symbols.get_pfnblock_bit = find(lookup, "get_pfnblock_bit");
	return lab_symbols.get_pfnblock_migratetype && lab_symbols.get_pfnblock_bit ? 0 : -ENOENT;
#endif
}

int lab_pageblock_migratetype(struct page *page, unsigned long pfn)
{
#if LAB_DRIVERS_MARK_PAGES
	return lab_symbols.get_pfnblock_flags_mask(page, pfn, MIGRATETYPE_MASK);
#else
	return lab_symbols.get_pfnblock_migratetype(page, pfn);
#endif
}

bool lab_pageblock_skip(struct page *page, unsigned long pfn)
{
#if LAB_DRIVERS_MARK_PAGES
	return lab_symbols.get_pfnblock_flags_mask(page, pfn, 1UL << PB_migrate_skip) != 0;
#else
	return lab_symbols.get_pfnblock_bit(page, pfn, PB_compact_skip);
#endif
}

bool lab_page_has_movable_ops(const struct page *page)
{
#if LAB_DRIVERS_MARK_PAGES
	/* A slab's word at the place of page->mapping may look like the mark, as in Linux's own test. */
	return !PageSlab((struct page *)page) && __PageMovable((struct page *)page);
#else
	return page_has_movable_ops(page);
#endif
}
