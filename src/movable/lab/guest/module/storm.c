// SPDX-License-Identifier: GPL-2.0-only
/*
 * An allocation storm: COUNT blocks of ORDER asked for one after another, and held until the next
 * command. The modes are those of `movable predict --action order:ORDER:COUNT:MODE`.
 */
#include <linux/gfp.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>

#include "movable_lab.h"

#ifndef MAX_PAGE_ORDER /* 6.1's MAX_ORDER is the first order that is too large. */
#define MAX_PAGE_ORDER (MAX_ORDER - 1)
#endif

static const struct {
	const char *name;
	gfp_t gfp;
} modes[] = { /* By the number that recordings give as the mode. */
	{ "kernel+noretry", GFP_KERNEL | __GFP_NORETRY },
	{ "movable+noretry", GFP_HIGHUSER_MOVABLE | __GFP_NORETRY },
	{ "movable+retry_mayfail", GFP_HIGHUSER_MOVABLE | __GFP_RETRY_MAYFAIL },
	{ "kernel+retry_mayfail", GFP_KERNEL | __GFP_RETRY_MAYFAIL },
	{ "kernel", GFP_KERNEL },
	{ "movable", GFP_HIGHUSER_MOVABLE },
};

static DEFINE_MUTEX(command_lock);
static LIST_HEAD(held);
static struct {
	unsigned int order, count, mode, ok, first_fail;
	s64 total_us, max_us;
} last;

static void release(void)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &held, lru) {
		list_del(&page->lru);
		__free_pages(page, page_private(page));
	}
}

static bool take_one(void)
{
	gfp_t gfp = modes[last.mode].gfp | __GFP_NOWARN;
	ktime_t start = ktime_get();
	struct page *page = alloc_pages(gfp, last.order);
	s64 us = ktime_us_delta(ktime_get(), start);

	last.total_us += us;
	last.max_us = max(last.max_us, us);
	if (!page)
		return false;
	set_page_private(page, last.order);
	list_add(&page->lru, &held);
	return true;
}

static int storm(void)
{
	unsigned int number;

	last.ok = last.total_us = last.max_us = 0;
	last.first_fail = last.count;
	for (number = 0; number < last.count; number++) {
		if (take_one())
			last.ok++;
		else
			last.first_fail = min(last.first_fail, number);
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

static int find_mode(const char *name)
{
	unsigned int number;

	if (!kstrtouint(name, 10, &number))
		return number < ARRAY_SIZE(modes) ? number : -EINVAL;
	for (number = 0; number < ARRAY_SIZE(modes); number++)
		if (!strcmp(name, modes[number].name))
			return number;
	return -EINVAL;
}

static int parse_and_run(const char *command)
{
	unsigned int order, count;
	char mode[32] = "kernel";
	int number;

	if (sscanf(command, "%u %u %31s", &order, &count, mode) < 2)
		return -EINVAL;
	number = find_mode(mode);
	if (number < 0 || order > MAX_PAGE_ORDER || !count)
		return -EINVAL;
	last.order = order;
	last.count = count;
	last.mode = number;
	return storm();
}

int lab_storm_command(char *command)
{
	int error = 0;

	mutex_lock(&command_lock);
	release();
	command = strim(command);
	if (strcmp(command, "release"))
		error = parse_and_run(command);
	mutex_unlock(&command_lock);
	return error;
}

void lab_storm_show(struct seq_file *file)
{
	mutex_lock(&command_lock);
	if (last.count)
		seq_printf(file,
			   "storm order=%u n=%u mode=%u ok=%u fail=%u first_fail=%u total_us=%lld max_us=%lld\n",
			   last.order, last.count, last.mode, last.ok, last.count - last.ok,
			   last.first_fail, last.total_us, last.max_us);
	mutex_unlock(&command_lock);
}

void lab_storm_release(void)
{
	mutex_lock(&command_lock);
	release();
	mutex_unlock(&command_lock);
}
