/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the agent, the program that runs a guest of movable's lab, share. */
#ifndef MOVABLE_LAB_AGENT_H
#define MOVABLE_LAB_AGENT_H

#include <stddef.h>

enum { MAX_LINE = 1024, MAX_WORDS = 64 };

/* Seconds since boot. */
double now(void);

/* Answer the host: "note ..." any number of times, then "ok SECONDS ..." or "error ...". */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void answer_ok(double started, const char *format, ...) __attribute__((format(printf, 2, 3)));
void answer_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The arena: memory of the host, mapped as a device, that files of the guest are copied into. */
const char *arena_open(void);
size_t arena_used(void);
/* Copy the file at `path` into the arena as `name`.  0, or -1 if it cannot be read or is too big. */
int arena_keep(const char *name, const char *path);
void snapshot(char **words, int nr_words);

void write_file(char **words, int nr_words);
void spawn_program(char **words, int nr_words);
void tell_program(char **words, int nr_words);
void stop_program(char **words, int nr_words);
void run_program(char **words, int nr_words);

void drain(char **words, int nr_words);

#endif
