/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of a block device with contents of their own: written, or compared with what was written.
 *
 *	contents write  DEVICE NR_PAGES
 *	contents check  DEVICE NR_PAGES
 *
 * The contents do not compress, so that zram gives each page of the device a page of memory.  Both
 * go around the page cache.  The last line says how many pages differ.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAGE = 4096, NR_WORDS = PAGE / 8 };

static uint64_t page[NR_WORDS] __attribute__((aligned(PAGE)));
static uint64_t wanted[NR_WORDS];

/* xorshift64*, Marsaglia and Vigna. */
static void make(uint64_t *words, long number)
{
	uint64_t x = (uint64_t)(number + 1) * 0x9e3779b97f4a7c15ull;

	for (int i = 0; i < NR_WORDS; i++) {
		x ^= x >> 12;
		x ^= x << 25;
		x ^= x >> 27;
		words[i] = x * 0x2545f4914f6cdd1dull;
	}
}

int main(int argc, char **argv)
{
	int writes = argc == 4 && !strcmp(argv[1], "write");
	long nr_pages = argc == 4 ? atol(argv[3]) : 0, nr_bad = 0;
	int fd = argc == 4 ? open(argv[2], (writes ? O_WRONLY : O_RDONLY) | O_DIRECT) : -1;

	if (fd < 0) {
		printf("contents: %s: %s\n", argc == 4 ? argv[2] : "3 words", strerror(errno));
		return 1;
	}
	for (long number = 0; number < nr_pages; number++) {
		make(writes ? page : wanted, number);
		if ((writes ? pwrite(fd, page, PAGE, number * PAGE) :
			      pread(fd, page, PAGE, number * PAGE)) != PAGE) {
			printf("contents: page %ld of %ld: %s\n", number, nr_pages, strerror(errno));
			return 1;
		}
		nr_bad += !writes && memcmp(page, wanted, PAGE);
	}
	printf("contents: %ld of %ld pages differ\n", nr_bad, nr_pages);
	return 0;
}
