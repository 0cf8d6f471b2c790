/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A user of memory: fills it, gives a part of it back, says that it is ready, and stays.
 *
 *	workload anon  pages=N [keep=S] [run=R] [seed=K] [thp=1] [mlock=S] [pin=S] [fill=S]
 *	workload shmem pages=N [keep=S] [run=R] [seed=K]
 *	workload file  pages=N path=FILE [keep=S] [run=R] [seed=K] [dirty=1]
 *	workload slab  pages=N path=DIRECTORY [keep=S] [seed=K]
 *	workload job   pages=N [seed=K]
 *	workload drop  pages=N path=DIRECTORY
 *
 * With once=1 it ends instead of staying: page cache and slab remain.
 * S is a share between 0 and 1.  Runs of R pages, in the order in which they were touched, are kept
 * at random or given back.  Pinned pages lie in pipes (vmsplice): nobody can move those.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PAGE = 4096, HUGE = 2 << 20, PIPE_PAGES = 256, NR_PHASES = 4, FILES_A_LOOK = 512 };

static struct {
	long pages, run;
	double keep, mlock, pin, fill;
	int thp, dirty, once;
	uint64_t seed;
	const char *path;
} want = { .run = 1, .keep = 1, .seed = 1 };

static long nr_pinned;

static void die(const char *what)
{
	printf("%s: %s\n", what, strerror(errno));
	exit(1);
}

/* A random share of 1; xorshift64*, Marsaglia and Vigna. */
static double draw(void)
{
	want.seed ^= want.seed >> 12;
	want.seed ^= want.seed << 25;
	want.seed ^= want.seed >> 27;
	return (double)((want.seed * 0x2545f4914f6cdd1dull) >> 11) / (double)(1ull << 53);
}

static void fill_page(char *page)
{
	uint64_t *words = (uint64_t *)page;
	long nr_words = want.fill * (PAGE / 8);

	words[0] = (uintptr_t)page;
	for (long i = 1; i < nr_words; i++) {
		draw();
		words[i] = want.seed;
	}
}

static char *map_pages(int flags, int fd, long nr_pages)
{
	char *memory = mmap(NULL, nr_pages * PAGE + HUGE, PROT_READ | PROT_WRITE,
			    flags | MAP_NORESERVE, fd, 0);

	if (memory == MAP_FAILED)
		die("mmap");
	return (char *)(((uintptr_t)memory + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
}

static void pin_page(char *page)
{
	static int into[2] = { -1, -1 }, nr_in = PIPE_PAGES;
	struct iovec vector = { page, PAGE };

	if (nr_in == PIPE_PAGES) {
		if (pipe(into) || fcntl(into[1], F_SETPIPE_SZ, PIPE_PAGES * PAGE) < 0)
			die("pipe");
		nr_in = 0;
	}
	if (vmsplice(into[1], &vector, 1, 0) != PAGE)
		die("vmsplice");
	nr_in++;
	nr_pinned++;
}

static long hold_run(char *run, long nr_pages)
{
	if (want.mlock > 0 && draw() < want.mlock && mlock(run, nr_pages * PAGE))
		die("mlock");
	for (long i = 0; want.pin > 0 && i < nr_pages; i++)
		if (draw() < want.pin)
			pin_page(run + i * PAGE);
	return nr_pages;
}

/* Call `give_back` for the runs that are not kept, and return how many pages are. */
static long keep_some(char *memory, void (*give_back)(char *memory, long first, long nr_pages))
{
	long nr_kept = 0;

	for (long first = 0; first < want.pages; first += want.run) {
		long left = want.pages - first, nr_pages = left < want.run ? left : want.run;

		if (draw() >= want.keep)
			give_back(memory, first, nr_pages);
		else
			nr_kept += memory ? hold_run(memory + first * PAGE, nr_pages) : nr_pages;
	}
	return nr_kept;
}

static void discard(char *memory, long first, long nr_pages)
{
	if (madvise(memory + first * PAGE, nr_pages * PAGE, MADV_DONTNEED))
		die("madvise");
}

static long use_anon(void)
{
	char *memory = map_pages(MAP_PRIVATE | MAP_ANONYMOUS, -1, want.pages);

	if (madvise(memory, want.pages * PAGE, want.thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) &&
	    errno != EINVAL)	/* EINVAL: a kernel without huge pages. */
		die("madvise");
	for (long i = 0; i < want.pages; i++)
		fill_page(memory + i * PAGE);
	return keep_some(memory, discard);
}

static int hole_fd;

static void punch(char *memory, long first, long nr_pages)
{
	(void)memory;
	if (fallocate(hole_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, first * PAGE,
		      nr_pages * PAGE))
		die("fallocate");
}

static long use_shmem(void)
{
	char *memory;

	hole_fd = memfd_create("workload", 0);
	if (hole_fd < 0 || ftruncate(hole_fd, want.pages * PAGE))
		die("memfd");
	memory = mmap(NULL, want.pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, hole_fd, 0);
	if (memory == MAP_FAILED)
		die("mmap");
	for (long i = 0; i < want.pages; i++)
		fill_page(memory + i * PAGE);
	return keep_some(memory, punch);
}

static void forget(char *memory, long first, long nr_pages)
{
	(void)memory;
	if (posix_fadvise(hole_fd, first * PAGE, nr_pages * PAGE, POSIX_FADV_DONTNEED))
		die("fadvise");
}

static long use_file(void)
{
	static char page[PAGE];

	hole_fd = open(want.path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (hole_fd < 0)
		die(want.path);
	for (long i = 0; i < want.pages; i++) {
		fill_page(page);
		if (write(hole_fd, page, PAGE) != PAGE)
			die(want.path);
	}
	if (!want.dirty && fsync(hole_fd))
		die(want.path);
	return keep_some(NULL, forget);
}

/* Pages of slab, from /proc/meminfo. */
static long nr_slab_pages(void)
{
	char text[4096], *at;
	int fd = open("/proc/meminfo", O_RDONLY);
	ssize_t nr_bytes = read(fd, text, sizeof(text) - 1);

	close(fd);
	text[nr_bytes > 0 ? nr_bytes : 0] = '\0';
	at = strstr(text, "\nSlab:");
	return at ? atol(at + 6) / 4 : 0;
}

/* Files without contents: inodes and directory entries, until slab has grown enough. */
static long use_slab(void)
{
	long before = nr_slab_pages(), nr_files = 0;
	long nr_at_once = want.pages < FILES_A_LOOK ? want.pages : FILES_A_LOOK;
	char path[256];

	mkdir(want.path, 0700);
	while (nr_slab_pages() - before < want.pages)
		for (long i = 0; i < nr_at_once; i++) {
			int fd;

			snprintf(path, sizeof(path), "%s/%ld", want.path, nr_files++);
			fd = open(path, O_WRONLY | O_CREAT, 0600);
			if (fd < 0)
				die(path);
			close(fd);
		}
	for (long i = 0; i < nr_files; i++)
		if (draw() >= want.keep) {
			snprintf(path, sizeof(path), "%s/%ld", want.path, i);
			unlink(path);
		}
	return nr_slab_pages() - before;
}

/* A compilation: it takes memory and gives half of that back, several times. */
static long use_job(void)
{
	long nr_kept = 0;

	want.keep = 0.5;
	want.pages = 2 * want.pages / NR_PHASES;
	for (int phase = 0; phase < NR_PHASES; phase++)
		nr_kept += use_anon();
	return nr_kept;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* Drop page cache of the files in a directory, those that come first by name first. */
static long drop(void)
{
	struct dirent **files;
	long nr_dropped = 0;
	int nr_files = scandir(want.path, &files, NULL, by_name);

	for (int i = 0; i < nr_files && nr_dropped < want.pages; i++) {
		char path[512];
		struct stat status;
		int fd;

		snprintf(path, sizeof(path), "%s/%s", want.path, files[i]->d_name);
		fd = open(path, O_RDONLY);
		if (fd < 0 || fstat(fd, &status) || !S_ISREG(status.st_mode))
			continue;
		fsync(fd);
		posix_fadvise(fd, 0, (want.pages - nr_dropped) * PAGE, POSIX_FADV_DONTNEED);
		nr_dropped += status.st_size / PAGE;
		close(fd);
	}
	return nr_dropped;
}

static void parse(const char *word)
{
	const char *value = strchr(word, '=');

	if (!value)
		die("expected name=value");
	value++;
	if (!strncmp(word, "pages=", 6))
		want.pages = atol(value);
	else if (!strncmp(word, "run=", 4))
		want.run = atol(value) > 0 ? atol(value) : 1;
	else if (!strncmp(word, "seed=", 5))
		want.seed = strtoull(value, NULL, 10) * 0x9e3779b97f4a7c15ull + 1;
	else if (!strncmp(word, "keep=", 5))
		want.keep = atof(value);
	else if (!strncmp(word, "mlock=", 6))
		want.mlock = atof(value);
	else if (!strncmp(word, "pin=", 4))
		want.pin = atof(value);
	else if (!strncmp(word, "fill=", 5))
		want.fill = atof(value);
	else if (!strncmp(word, "thp=", 4))
		want.thp = atoi(value);
	else if (!strncmp(word, "dirty=", 6))
		want.dirty = atoi(value);
	else if (!strncmp(word, "once=", 5))
		want.once = atoi(value);
	else if (!strncmp(word, "path=", 5))
		want.path = value;
	else
		die(word);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		long (*use)(void);
	} uses[] = {
		{ "anon", use_anon }, { "shmem", use_shmem }, { "file", use_file },
		{ "slab", use_slab }, { "job", use_job },     { "drop", drop },
	};
	struct rlimit limit = { 1 << 16, 1 << 16 };

	setvbuf(stdout, NULL, _IOLBF, 0);
	setrlimit(RLIMIT_NOFILE, &limit);
	for (int i = 2; i < argc; i++)
		parse(argv[i]);
	for (size_t i = 0; argc > 1 && i < sizeof(uses) / sizeof(uses[0]); i++) {
		long nr_pages = want.pages, nr_kept;

		if (strcmp(argv[1], uses[i].name))
			continue;
		nr_kept = uses[i].use();
		printf("%skept %ld of %ld pages pinned %ld type %s\n", want.once ? "" : "ready ",
		       nr_kept, nr_pages, nr_pinned, argv[1]);
		while (!want.once)
			pause();
		return 0;
	}
	printf("no use of memory is called %s\n", argc > 1 ? argv[1] : "nothing");
	return 1;
}
