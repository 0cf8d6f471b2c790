// SPDX-License-Identifier: GPL-2.0-only
/*
 * A pool of pages as a graphics driver holds them: single pages, reached by their number (slot),
 * used by a device and not by page tables. They move if the pool was made movable and the driver
 * accepts; page->private holds the slot plus one while the pool has the page.
 *
 * `lock` protects the slots, page->private of the pool's pages, and the counters. A page's lock is
 * taken before it.
 */
#include <linux/hash.h>
#include <linux/highmem.h>
#include <linux/migrate.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/vmalloc.h>

#include "movable_lab.h"

#define MAX_PERCENT 100
#define MAX_PERMILLE 1000

struct slot {
	struct page *page;
	bool isolated;
};

struct layout {
	unsigned long nr_pages;
	unsigned int keep;	/* Percent of what is allocated; the rest is given back. */
	unsigned int run;	/* Pages that are kept or given back together. */
	u32 seed;		/* 0: evenly. */
	bool movable;		/* The pages are marked, and can move. */
	bool gfp_movable;	/* They are asked for with __GFP_MOVABLE. */
};

struct counters {
	unsigned long isolated, migrated, putback, refused, failed, bad_moves;
};

static DEFINE_MUTEX(command_lock);
static DEFINE_SPINLOCK(lock);
static struct slot *slots;
static unsigned long nr_slots, nr_held;
static struct layout layout;
static struct counters counters;
static unsigned int accept_permille = MAX_PERMILLE;

#if LAB_DRIVERS_MARK_PAGES

/* Whether the driver lets go of a slot now: the same slots each time, and more of them the more. */
static bool accepts(unsigned long slot)
{
	return hash_long(slot + 1, 32) % MAX_PERMILLE < accept_permille;
}

/* Return the slot that has `page`; NULL if none has. The caller holds `lock`. */
static struct slot *slot_of(struct page *page)
{
	unsigned long number = page_private(page);

	if (!number || number > nr_slots || slots[number - 1].page != page)
		return NULL;
	return &slots[number - 1];
}

static bool pool_isolate(struct page *page, isolate_mode_t mode)
{
	struct slot *slot;
	bool isolates;

	spin_lock(&lock);
	slot = slot_of(page);
	isolates = slot && !slot->isolated && accepts(slot - slots);
	if (isolates) {
		slot->isolated = true;
		counters.isolated++;
	} else {
		counters.refused++;
	}
	spin_unlock(&lock);
	return isolates;
}

static const struct movable_operations pool_ops;

static int pool_migrate(struct page *dst, struct page *src, enum migrate_mode mode)
{
	struct slot *slot;
	bool is_good;

	spin_lock(&lock);
	slot = slot_of(src);
	if (!slot) {
		counters.failed++;
		spin_unlock(&lock);
		return -EBUSY;
	}
	copy_highpage(dst, src);
	is_good = lab_is_filled(dst, slot - slots);
	get_page(dst); /* The pool's; the core keeps and drops its own. */
	__SetPageMovable(dst, &pool_ops);
	set_page_private(dst, slot - slots + 1);
	set_page_private(src, 0);
	slot->page = dst;
	slot->isolated = false;
	counters.migrated++;
	counters.bad_moves += !is_good;
	spin_unlock(&lock);

	__ClearPageMovable(src);
	put_page(src);
	return 0;
}

static void pool_putback(struct page *page)
{
	struct slot *slot;

	spin_lock(&lock);
	slot = slot_of(page);
	if (slot)
		slot->isolated = false;
	counters.putback++;
	spin_unlock(&lock);
}

static const struct movable_operations pool_ops = {
	.isolate_page = pool_isolate,
	.migrate_page = pool_migrate,
	.putback_page = pool_putback,
};

static void mark(struct page *page)
{
	lock_page(page);
	__SetPageMovable(page, &pool_ops);
	unlock_page(page);
}

/* Under the page's lock no callback runs; afterwards none will: isolated or not, the core lets go. */
static void unmark(struct page *page)
{
	__ClearPageMovable(page);
}

#else

static void mark(struct page *page)
{
}

static void unmark(struct page *page)
{
}

#endif

static struct page *page_with_reference(unsigned long number)
{
	struct page *page;

	spin_lock(&lock);
	page = slots[number].page;
	if (page)
		get_page(page);
	spin_unlock(&lock);
	return page;
}

/* Empty one slot, wherever migration has brought its page. */
static void release_slot(unsigned long number)
{
	struct page *page;
	bool is_ours;

	while ((page = page_with_reference(number)) != NULL) {
		lock_page(page); /* A migration under way ends first. */
		spin_lock(&lock);
		is_ours = slots[number].page == page;
		if (is_ours) {
			slots[number].page = NULL;
			set_page_private(page, 0);
			nr_held--;
		}
		spin_unlock(&lock);
		if (is_ours && layout.movable)
			unmark(page);
		unlock_page(page);
		if (is_ours)
			put_page(page);
		put_page(page);
	}
}

static void release_all(void)
{
	unsigned long number;

	for (number = 0; number < nr_slots; number++) {
		release_slot(number);
		if (!(number % 1024))
			cond_resched();
	}
	vfree(slots);
	slots = NULL;
	nr_slots = 0;
}

static gfp_t gfp_of(const struct layout *wanted)
{
	gfp_t gfp = wanted->gfp_movable ? GFP_HIGHUSER_MOVABLE : GFP_KERNEL;

	return gfp | __GFP_NORETRY | __GFP_NOWARN;
}

/* Whether the run of pages number `run` of `nr_runs` is kept. */
static bool is_kept(const struct layout *wanted, unsigned long run)
{
	u32 rank;

	if (!wanted->seed) /* Evenly: where the rounded product steps up. */
		return (run + 1) * wanted->keep / MAX_PERCENT > run * wanted->keep / MAX_PERCENT;
	rank = hash_32(run * 2654435761u ^ wanted->seed * 40503u, 32);
	return (u64)rank * MAX_PERCENT >> 32 < wanted->keep;
}

static void place(unsigned long number, struct page *page)
{
	lab_fill(page, number);
	spin_lock(&lock);
	set_page_private(page, number + 1);
	slots[number].page = page;
	nr_held++;
	spin_unlock(&lock);
	if (layout.movable)
		mark(page);
}

/* Allocate until the pool is full; pages between that are not kept go to `rest` for now. */
static int fill_pool(struct list_head *rest)
{
	unsigned long number = 0, nr_allocated = 0;
	struct page *page;

	while (number < nr_slots) {
		page = alloc_page(gfp_of(&layout));
		if (!page)
			return -ENOMEM;
		if (is_kept(&layout, nr_allocated++ / layout.run))
			place(number++, page);
		else
			list_add(&page->lru, rest);
		if (!(nr_allocated % 1024))
			cond_resched();
		if (fatal_signal_pending(current))
			return -EINTR;
	}
	return 0;
}

static int hold(const struct layout *wanted)
{
	struct page *page, *next;
	LIST_HEAD(rest);
	int error;

	if (wanted->movable && !LAB_DRIVERS_MARK_PAGES) {
		pr_err("movable_gpu: since Linux 6.17 only page types the kernel knows can move; "
		       "use the balloon or zsmalloc, or movable=0\n");
		return -EOPNOTSUPP;
	}
	release_all();
	slots = vzalloc(array_size(wanted->nr_pages, sizeof(*slots)));
	if (!slots)
		return -ENOMEM;
	layout = *wanted;
	nr_slots = wanted->nr_pages;
	memset(&counters, 0, sizeof(counters));
	error = fill_pool(&rest);
	list_for_each_entry_safe(page, next, &rest, lru) {
		list_del(&page->lru);
		__free_page(page);
	}
	if (error) {
		pr_err("movable_gpu: memory for %lu of %lu pages only\n", nr_held, nr_slots);
		release_all();
	}
	return error;
}

static int parse_word(char *word, struct layout *wanted)
{
	char *value = strchr(word, '=');

	if (!value)
		return -EINVAL;
	*value++ = '\0';
	if (!strcmp(word, "pages"))
		return kstrtoul(value, 0, &wanted->nr_pages);
	if (!strcmp(word, "keep"))
		return kstrtouint(value, 0, &wanted->keep);
	if (!strcmp(word, "run"))
		return kstrtouint(value, 0, &wanted->run);
	if (!strcmp(word, "seed"))
		return kstrtou32(value, 0, &wanted->seed);
	if (!strcmp(word, "movable"))
		return kstrtobool(value, &wanted->movable);
	if (strcmp(word, "gfp"))
		return -EINVAL;
	wanted->gfp_movable = !strcmp(value, "movable");
	return wanted->gfp_movable || !strcmp(value, "kernel") ? 0 : -EINVAL;
}

static int parse(char *command, struct layout *wanted)
{
	char *word;

	while ((word = strsep(&command, " ,\t\n")) != NULL)
		if (*word && parse_word(word, wanted)) {
			pr_err("movable_gpu: pool: do not understand \"%s\"\n", word);
			return -EINVAL;
		}
	if (!wanted->nr_pages || wanted->nr_pages > totalram_pages() || !wanted->run ||
	    !wanted->keep || wanted->keep > MAX_PERCENT) {
		pr_err("movable_gpu: pool: pages=1.., keep=1..100, run=1..\n");
		return -EINVAL;
	}
	return 0;
}

int lab_pool_command(char *command)
{
	struct layout wanted = {
		.keep = MAX_PERCENT, .run = 1, .movable = LAB_DRIVERS_MARK_PAGES, .gfp_movable = true,
	};
	int error = 0;

	mutex_lock(&command_lock);
	command = strim(command);
	if (!strcmp(command, "release"))
		release_all();
	else
		error = parse(command, &wanted) ?: hold(&wanted);
	mutex_unlock(&command_lock);
	return error;
}

void lab_pool_release(void)
{
	mutex_lock(&command_lock);
	release_all();
	mutex_unlock(&command_lock);
}

void lab_pool_show(struct seq_file *file)
{
	mutex_lock(&command_lock);
	if (slots)
		seq_printf(file, "pages=%lu,keep=%u,run=%u,seed=%u,movable=%d,gfp=%s\n", nr_slots,
			   layout.keep, layout.run, layout.seed, layout.movable,
			   layout.gfp_movable ? "movable" : "kernel");
	mutex_unlock(&command_lock);
}

/* Return how many slots do not hold what was written to them. */
static unsigned long count_bad(void)
{
	unsigned long number, nr_bad = 0;
	struct page *page;

	for (number = 0; number < nr_slots; number++) {
		page = page_with_reference(number);
		if (!page || !lab_is_filled(page, number))
			nr_bad++;
		if (page)
			put_page(page);
		if (!(number % 1024))
			cond_resched();
	}
	return nr_bad;
}

void lab_pool_stats(struct seq_file *file)
{
	struct counters now;

	mutex_lock(&command_lock);
	spin_lock(&lock);
	now = counters;
	spin_unlock(&lock);
	seq_printf(file, "pool=%lu held=%lu isolated=%lu migrated=%lu putback=%lu refused=%lu failed=%lu",
		   nr_slots, nr_held, now.isolated, now.migrated, now.putback, now.refused,
		   now.failed);
	seq_printf(file, " bad_moves=%lu contents_bad=%lu\n", now.bad_moves, count_bad());
	mutex_unlock(&command_lock);
}

/* "0", "1", or a percentage with at most one decimal, such as "40%" or "99.5%". */
int lab_pool_set_accept(const char *text)
{
	unsigned int whole, tenth = 0;
	char end = '\0';
	int nr_read;

	nr_read = sscanf(text, "%u.%1u%c", &whole, &tenth, &end);
	if (nr_read < 3)
		nr_read = sscanf(text, "%u%c", &whole, &end);
	if (nr_read < 1 || whole > MAX_PERCENT)
		return -EINVAL;
	if (end != '%') {
		if (whole > 1 || tenth)
			return -EINVAL;
		whole *= MAX_PERCENT;
	}
	if (whole * 10 + tenth > MAX_PERMILLE)
		return -EINVAL;
	spin_lock(&lock);
	accept_permille = whole * 10 + tenth;
	spin_unlock(&lock);
	return 0;
}

void lab_pool_show_accept(struct seq_file *file)
{
	seq_printf(file, "%u.%u%%\n", accept_permille / 10, accept_permille % 10);
}
