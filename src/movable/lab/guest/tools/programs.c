/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that the agent starts, and files that it writes. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_PROGRAMS = 256, MAX_PROGRAM_NAME = 32 };

extern char **environ;

struct program {
	char name[MAX_PROGRAM_NAME];
	pid_t pid;
	int input, output;
};

static struct program programs[MAX_PROGRAMS];

/* write PATH VALUE...: the action of most scenarios. */
void write_file(char **words, int nr_words)
{
	char value[MAX_LINE] = "";
	double started;
	size_t length = 0;
	ssize_t nr_written;
	int fd, error;

	for (int i = 2; i < nr_words; i++)
		length += snprintf(value + length, sizeof(value) - length, "%s%s",
				   i > 2 ? " " : "", words[i]);
	fd = nr_words > 2 ? open(words[1], O_WRONLY | O_CLOEXEC) : -1;
	if (fd < 0) {
		answer_error("%s cannot be opened: %s", nr_words > 1 ? words[1] : "nothing",
			     strerror(errno));
		return;
	}
	started = now();
	nr_written = write(fd, value, length);
	error = errno;
	close(fd);
	if (nr_written < 0)
		answer_error("%s does not take %s: %s", words[1], value, strerror(error));
	else
		answer_ok(started, "written");
}

static struct program *find(const char *name)
{
	for (int i = 0; i < MAX_PROGRAMS; i++)
		if (programs[i].pid && !strcmp(programs[i].name, name))
			return &programs[i];
	return NULL;
}

static int start(struct program *program, char **words)
{
	int input[2], output[2], error;
	posix_spawn_file_actions_t actions;
	char path[MAX_LINE];

	if (pipe2(input, O_CLOEXEC) || pipe2(output, O_CLOEXEC))
		return errno;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, input[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, output[1], STDERR_FILENO);
	snprintf(path, sizeof(path), "%s%s", words[0][0] == '/' ? "" : "/bin/", words[0]);
	error = posix_spawn(&program->pid, path, &actions, NULL, words, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(input[0]);
	close(output[1]);
	program->input = input[1];
	program->output = output[0];
	if (error) {
		program->pid = 0;
		close(program->input);
		close(program->output);
	}
	return error;
}

/* Pass lines on as notes, up to one that says "ready".  1: that came; 0: the output ended. */
static int pass_on(struct program *program, char *ready, size_t size)
{
	static char line[MAX_LINE];
	size_t length = 0;
	char byte;

	for (;;) {
		ssize_t nr_bytes = read(program->output, &byte, 1);

		if (nr_bytes < 0 && errno == EINTR)
			continue;
		if (nr_bytes == 1 && byte != '\n') {
			if (length < sizeof(line) - 1)
				line[length++] = byte;
			continue;
		}
		line[length] = '\0';
		if (!strncmp(line, "ready", 5)) {
			snprintf(ready, size, "%s", line[5] ? line + 6 : "");
			return 1;
		}
		if (length)
			note("%s", line);
		length = 0;
		if (nr_bytes < 1)
			return 0;
	}
}

static int finish(struct program *program)
{
	int status = 0;

	close(program->input);
	close(program->output);
	while (waitpid(program->pid, &status, 0) < 0 && errno == EINTR)
		;
	program->pid = 0;
	return status;
}

static void say_how_it_ended(const char *name, int status)
{
	if (WIFSIGNALED(status))
		answer_error("%s was killed by signal %d%s", name, WTERMSIG(status),
			     WTERMSIG(status) == SIGKILL ? ": out of memory?" : "");
	else
		answer_error("%s ended with status %d", name, WEXITSTATUS(status));
}

static void await_ready(struct program *program, double started)
{
	char ready[MAX_LINE];

	if (pass_on(program, ready, sizeof(ready)))
		answer_ok(started, "%s", ready);
	else
		say_how_it_ended(program->name, finish(program));
}

/* spawn NAME PROGRAM ARGUMENTS...: start it, and wait until it says that it is ready. */
void spawn_program(char **words, int nr_words)
{
	double started = now();
	struct program *program = NULL;
	int error;

	for (int i = 0; i < MAX_PROGRAMS && !program; i++)
		if (!programs[i].pid)
			program = &programs[i];
	if (nr_words < 3 || !program || find(words[1])) {
		answer_error("spawn takes a new name and a program, and there may be %d",
			     MAX_PROGRAMS);
		return;
	}
	snprintf(program->name, sizeof(program->name), "%s", words[1]);
	error = start(program, words + 2);
	if (error)
		answer_error("%s cannot be started: %s", words[2], strerror(error));
	else
		await_ready(program, started);
}

/* tell NAME LINE: write to its standard input, and wait until it is ready again. */
void tell_program(char **words, int nr_words)
{
	double started = now();
	struct program *program = nr_words > 2 ? find(words[1]) : NULL;

	if (!program) {
		answer_error("no program %s runs", nr_words > 1 ? words[1] : "");
		return;
	}
	for (int i = 2; i < nr_words; i++)
		dprintf(program->input, "%s%s", i > 2 ? " " : "", words[i]);
	dprintf(program->input, "\n");
	await_ready(program, started);
}

/* stop NAME, or stop for all of them, in the order in which they were started. */
void stop_program(char **words, int nr_words)
{
	double started = now();
	int nr_stopped = 0;

	for (int i = 0; i < MAX_PROGRAMS; i++) {
		if (!programs[i].pid || (nr_words > 1 && strcmp(programs[i].name, words[1])))
			continue;
		kill(programs[i].pid, SIGKILL);
		finish(&programs[i]);
		nr_stopped++;
	}
	answer_ok(started, "%d", nr_stopped);
}

/* run PROGRAM ARGUMENTS...: wait for its end; its lines become notes. */
void run_program(char **words, int nr_words)
{
	static struct program program;
	char ready[MAX_LINE];
	double started = now();
	int error = nr_words > 1 ? start(&program, words + 1) : EINVAL;
	int status;

	if (error) {
		answer_error("%s cannot be started: %s", nr_words > 1 ? words[1] : "nothing",
			     strerror(error));
		return;
	}
	while (pass_on(&program, ready, sizeof(ready)))
		;
	status = finish(&program);
	if (status)
		say_how_it_ended(words[1], status);
	else
		answer_ok(started, "ended");
}
