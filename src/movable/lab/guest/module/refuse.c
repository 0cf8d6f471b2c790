// SPDX-License-Identifier: GPL-2.0-only
/*
 * Refusal on demand for pages of drivers that are not ours (the balloon, zsmalloc): a probe on the
 * function that isolates them makes it fail before the driver is asked. Linux has no switch for it.
 */
#include <linux/kprobes.h>
#include <linux/migrate.h>

#include "movable_lab.h"

static atomic_long_t nr_refused, nr_zsmalloc_migrated;

#if LAB_DRIVERS_MARK_PAGES
#define ISOLATE "isolate_movable_page"
#define ISOLATE_RETURNS_BOOL \
	__builtin_types_compatible_p(typeof(isolate_movable_page(NULL, 0)), bool)
#else
#define ISOLATE "isolate_movable_ops_page"
#define ISOLATE_RETURNS_BOOL true
#endif

/* Runs in place of the probed function: its registers and return address are that function's. */
static noinline long not_isolated(void)
{
	return ISOLATE_RETURNS_BOOL ? false : -EBUSY;
}

static int before_isolate(struct kprobe *probe, struct pt_regs *regs)
{
	const struct page *page = (const struct page *)regs_get_kernel_argument(regs, 0);

	if (lab_pool_owns(page) || !lab_page_has_movable_ops(page))
		return 0;
	atomic_long_inc(&nr_refused);
	instruction_pointer_set(regs, (unsigned long)not_isolated);
	return 1;
}

/* A probe that may change where execution goes on needs one: it keeps the probe from being inlined. */
static void after_isolate(struct kprobe *probe, struct pt_regs *regs, unsigned long flags)
{
}

static int before_zsmalloc_migrate(struct kprobe *probe, struct pt_regs *regs)
{
	atomic_long_inc(&nr_zsmalloc_migrated);
	return 0;
}

static struct kprobe isolate_probe = {
	.symbol_name = ISOLATE,
	.pre_handler = before_isolate,
	.post_handler = after_isolate,
};

static struct kprobe zsmalloc_probe = {
	.symbol_name = "zs_page_migrate",
	.pre_handler = before_zsmalloc_migrate,
};

static bool is_refusing, counts_zsmalloc;

int lab_refuse_others(bool refuse)
{
	int error = 0;

	if (!counts_zsmalloc) { /* Not an error: zsmalloc may not be there, or come later. */
		zsmalloc_probe.addr = NULL;
		zsmalloc_probe.flags = 0;
		counts_zsmalloc = !register_kprobe(&zsmalloc_probe);
	}
	if (refuse == is_refusing)
		return 0;
	if (refuse) {
		isolate_probe.addr = NULL;
		isolate_probe.flags = 0;
		error = register_kprobe(&isolate_probe);
		if (error)
			pr_err("movable_gpu: no probe on %s(): %d\n", ISOLATE, error);
	} else {
		unregister_kprobe(&isolate_probe);
	}
	if (!error)
		is_refusing = refuse;
	return error;
}

void lab_refuse_stats(struct seq_file *file)
{
	seq_printf(file, "others_refused=%ld zsmalloc_migrated=%ld\n",
		   atomic_long_read(&nr_refused), atomic_long_read(&nr_zsmalloc_migrated));
}

void lab_refuse_exit(void)
{
	if (is_refusing)
		unregister_kprobe(&isolate_probe);
	if (counts_zsmalloc)
		unregister_kprobe(&zsmalloc_probe);
}
