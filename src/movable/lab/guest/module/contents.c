// SPDX-License-Identifier: GPL-2.0-only
/*
 * The contents of the pool's pages: no two pages have the same, so that one which is lost,
 * swapped with another or copied in part shows.
 */
#include <linux/highmem.h>

#include "movable_lab.h"

#define NR_WORDS (PAGE_SIZE / sizeof(u64))
#define ODD 0x9e3779b97f4a7c15ULL /* 2^64 divided by the golden ratio: spreads small numbers. */

static u64 word_of(unsigned long slot, unsigned int index)
{
	u64 x = ((u64)slot << 9 | index) * ODD;

	return x ^ x >> 29;
}

void lab_fill(struct page *page, unsigned long slot)
{
	u64 *words = kmap_local_page(page);
	unsigned int index;

	for (index = 0; index < NR_WORDS; index++)
		words[index] = word_of(slot, index);
	kunmap_local(words);
}

bool lab_is_filled(struct page *page, unsigned long slot)
{
	const u64 *words = kmap_local_page(page);
	unsigned int index;

	for (index = 0; index < NR_WORDS; index++)
		if (words[index] != word_of(slot, index))
			break;
	kunmap_local(words);
	return index == NR_WORDS;
}
