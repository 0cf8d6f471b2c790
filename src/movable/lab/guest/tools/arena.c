/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena: where snapshots go.
 *
 * It is memory of the host that the guest sees as a device (ivshmem), so a snapshot takes none of
 * the guest's own memory, and what was copied is the host's even if the guest dies.  Each file is a
 * record: a header, whose `magic` is written last, and the contents.
 */
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, SMALL = 4096, ALIGN = 64, MAX_NAME = 104, MAX_LIST = 16384 };

static const uint64_t MAGIC = 0x31414e455241564d; /* "MVARENA1", as the bytes lie. */

struct record {
	uint64_t magic;
	uint64_t nr_bytes;
	uint64_t reserved;
	char name[MAX_NAME];
};

static char *arena;
static size_t arena_size, cursor;
static char list[MAX_LIST];

size_t arena_used(void)
{
	return cursor;
}

static int holds(const char *device, const char *file, const char *wanted)
{
	char path[512], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", device, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return !strncmp(text, wanted, strlen(wanted));
}

static const char *map_device(const char *device)
{
	char path[512];
	struct stat status;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/enable", device);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "1", 1) != 1)
		return "the device cannot be enabled";
	close(fd);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource2", device);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &status))
		return "its memory cannot be opened";
	arena_size = status.st_size;
	arena = mmap(NULL, arena_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return arena == MAP_FAILED ? strerror(errno) : NULL;
}

const char *arena_open(void)
{
	DIR *devices = opendir("/sys/bus/pci/devices");
	const char *why = "there is no ivshmem device";
	struct dirent *entry;

	if (!devices)
		return "there is no PCI bus";
	while ((entry = readdir(devices)))
		if (holds(entry->d_name, "vendor", "0x1af4") &&
		    holds(entry->d_name, "device", "0x1110")) {
			why = map_device(entry->d_name);
			break;
		}
	closedir(devices);
	return why;
}

/* How much to read at once. For a sysctl, the kernel allocates as much as is asked for. */
static size_t chunk_for(const char *path)
{
	return strncmp(path, "/proc/sys/", 10) ? CHUNK : SMALL;
}

int arena_keep(const char *name, const char *path)
{
	struct record *record = (struct record *)(arena + cursor);
	size_t start = cursor + sizeof(*record), nr_bytes = 0, chunk = chunk_for(path);
	ssize_t nr_read = -1;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	while (start + nr_bytes < arena_size) {
		size_t room = arena_size - start - nr_bytes;

		nr_read = read(fd, arena + start + nr_bytes, room < chunk ? room : chunk);
		if (nr_read <= 0)
			break;
		nr_bytes += nr_read;
	}
	close(fd);
	if (nr_read) {
		if (nr_read > 0 || start + nr_bytes >= arena_size)
			errno = ENOSPC;
		return -1;
	}
	snprintf(record->name, sizeof(record->name), "%s", name);
	record->nr_bytes = nr_bytes;
	cursor = (start + nr_bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	__sync_synchronize();
	record->magic = MAGIC;
	return 0;
}

/* Read a list of files, "NAME PATH" a line, into `list`. */
static ssize_t read_list(const char *which)
{
	char path[128];
	ssize_t nr_bytes;
	int fd;

	snprintf(path, sizeof(path), "/lists/%s", which);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	nr_bytes = read(fd, list, sizeof(list) - 1);
	close(fd);
	list[nr_bytes > 0 ? nr_bytes : 0] = '\0';
	return nr_bytes;
}

/* snapshot NAME LIST: copy the files of a list; those that are not there are left out. */
void snapshot(char **words, int nr_words)
{
	double started = now();
	char name[MAX_NAME], *rest = NULL;
	int nr_kept = 0;

	if (nr_words < 3 || read_list(words[2]) < 0) {
		answer_error("no such list of files");
		return;
	}
	for (char *line = strtok_r(list, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *path = strchr(line, ' ');

		if (!path)
			continue;
		*path++ = '\0';
		snprintf(name, sizeof(name), "%.32s/%.64s", words[1], line);
		if (!arena_keep(name, path)) {
			nr_kept++;
		} else if (errno == ENOSPC) {
			answer_error("the arena of %zu bytes is full at %s", arena_size, path);
			return;
		}
	}
	answer_ok(started, "%d files, %zu bytes", nr_kept, cursor);
}
