/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Empty the per-CPU lists of free pages, so that a snapshot shows free pages as free.
 *
 * The lab's module does it at once.  Without it: a very high vm.percpu_pagelist_high_fraction makes
 * the lists' upper limit tiny, and each page that is freed then pushes a batch out; 6.7 and later
 * also shrink the lists by themselves, about once a second, which is all that those of another node
 * do: what one CPU has of it no page that is freed here reaches.  It is over when nothing changed
 * for longer than that.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MAX_TURNS = 150, IDLE_TURNS = 25, NR_PAGES_A_TURN = 64, FEW = 192, PAGE = 4096 };

static const char FRACTION[] = "/proc/sys/vm/percpu_pagelist_high_fraction";
static char text[65536];

static int put(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t nr_bytes = fd < 0 ? -1 : write(fd, value, strlen(value));

	if (fd >= 0)
		close(fd);
	return nr_bytes < 0 ? -1 : 0;
}

/* Pages on all per-CPU lists, from /proc/zoneinfo. */
static long nr_pcp_pages(void)
{
	int fd = open("/proc/zoneinfo", O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t nr_bytes;
	long total = 0;

	if (fd < 0)
		return 0;
	while ((nr_bytes = read(fd, text + length, sizeof(text) - 1 - length)) > 0)
		length += nr_bytes;
	close(fd);
	text[length] = '\0';
	for (char *at = text; (at = strstr(at, "count:")); at += 6)
		total += atol(at + 6);
	return total;
}

/* Map and unmap a few pages on every CPU: each list sheds a batch beyond its limit. */
static void churn(void)
{
	for (int cpu = 0; cpu < sysconf(_SC_NPROCESSORS_ONLN); cpu++) {
		cpu_set_t set;
		char *pages;

		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		sched_setaffinity(0, sizeof(set), &set);
		pages = mmap(NULL, NR_PAGES_A_TURN * PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (pages != MAP_FAILED)
			munmap(pages, NR_PAGES_A_TURN * PAGE);
	}
}

void drain(char **words, int nr_words)
{
	struct timespec pause = { 0, 100 * 1000 * 1000 };
	double started = now();
	long before = nr_pcp_pages(), left = before, last = before;
	int nr_idle = 0;
	cpu_set_t all;

	(void)words;
	(void)nr_words;
	if (!put("/proc/movable_lab/drain", "1")) {
		answer_ok(started, "per-CPU pages %ld to %ld, by the module", before, nr_pcp_pages());
		return;
	}
	sched_getaffinity(0, sizeof(all), &all);
	if (put(FRACTION, "100000")) {
		answer_error("%s cannot be written: %s", FRACTION, strerror(errno));
		return;
	}
	for (int turn = 0; turn < MAX_TURNS && left > FEW && nr_idle < IDLE_TURNS; turn++) {
		churn();
		nanosleep(&pause, NULL);
		left = nr_pcp_pages();
		nr_idle = last - left > NR_PAGES_A_TURN ? 0 : nr_idle + 1;
		last = left;
	}
	sched_setaffinity(0, sizeof(all), &all);
	put(FRACTION, "0");
	answer_ok(started, "per-CPU pages %ld to %ld, by their limit", before, left);
}
