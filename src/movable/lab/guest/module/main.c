// SPDX-License-Identifier: GPL-2.0-only
/* movable_gpu: the lab's driver of movable pages, and what the kernel knows beside /proc. */
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "movable_lab.h"

#define MAX_COMMAND 256

static struct proc_dir_entry *directory;

static char *pool;
module_param(pool, charp, 0444);
MODULE_PARM_DESC(pool, "what to hold from the start, as /proc/movable_lab/pool is written");

/* One control file: what reading shows, what writing does; either may be missing. */
struct control {
	const char *name;
	void (*show)(struct seq_file *file);
	int (*command)(char *text);
};

static int set_accept(char *text)
{
	return lab_pool_set_accept(text);
}

static int drain(char *text)
{
	rcu_barrier(); /* What waits to be freed is freed first. */
	lab_symbols.lru_add_drain_all();
	lab_symbols.drain_all_pages(NULL);
	return 0;
}

static const struct control controls[] = {
	{ "pool", lab_pool_show, lab_pool_command },
	{ "accept", lab_pool_show_accept, set_accept },
	{ "stats", lab_pool_stats, NULL },
	{ "drain", NULL, drain },
	{ "alloc", lab_storm_show, lab_storm_command },
};

static int control_show(struct seq_file *file, void *v)
{
	const struct control *control = file->private;

	if (control->show)
		control->show(file);
	return 0;
}

static int control_open(struct inode *inode, struct file *file)
{
	return single_open(file, control_show, pde_data(inode));
}

static ssize_t control_write(struct file *file, const char __user *from, size_t size,
			     loff_t *offset)
{
	const struct control *control = pde_data(file_inode(file));
	char *text;
	int error;

	if (!control->command || size >= MAX_COMMAND)
		return -EINVAL;
	text = memdup_user_nul(from, size);
	if (IS_ERR(text))
		return PTR_ERR(text);
	error = control->command(text);
	kfree(text);
	return error ?: size;
}

static const struct proc_ops control_ops = {
	.proc_open = control_open,
	.proc_read = seq_read,
	.proc_write = control_write,
	.proc_lseek = seq_lseek,
	.proc_release = single_release,
};

static bool make_files(void)
{
	const struct control *one;
	bool ok;

	directory = proc_mkdir("movable_lab", NULL);
	if (!directory)
		return false;
	ok = proc_create("pageblock_types", 0400, directory, &lab_pageblock_types_ops) &&
	     proc_create("truth_pages", 0400, directory, &lab_truth_pages_ops) &&
	     proc_create("labfree", 0400, directory, &lab_free_lists_ops);
	for (one = controls; ok && one < controls + ARRAY_SIZE(controls); one++)
		ok = proc_create_data(one->name, 0600, directory, &control_ops, (void *)one);
	return ok;
}

static void clean_up(void)
{
	proc_remove(directory);
	lab_storm_release();
	lab_pool_release();
	lab_free_lists_exit();
	lab_truth_exit();
}

static int __init movable_gpu_init(void)
{
	int error = lab_find_symbols() ?: lab_truth_init() ?: lab_free_lists_init();

	if (!error && !make_files())
		error = -ENOMEM;
	if (!error && pool)
		error = lab_pool_command(pool);
	if (error)
		clean_up();
	return error;
}

static void __exit movable_gpu_exit(void)
{
	clean_up();
}

module_init(movable_gpu_init);
module_exit(movable_gpu_exit);
MODULE_DESCRIPTION("Holds pages that can move, and shows where the kernel's pages are");
MODULE_LICENSE("GPL");
