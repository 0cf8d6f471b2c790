/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent: process 1 of a guest of movable's lab.
 *
 * It takes one command a line from the second serial port and answers each.  It allocates nothing
 * after its start, so that what it does between two snapshots changes the guest's memory little.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static int control = -1;

double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_BOOTTIME, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void send_line(const char *kind, const char *format, va_list arguments)
{
	char line[MAX_LINE];
	size_t length, sent = 0;

	snprintf(line, sizeof(line), "%s ", kind);
	length = strlen(line);
	vsnprintf(line + length, sizeof(line) - length - 1, format, arguments);
	for (char *at = line; *at; at++)
		if (*at == '\n')
			*at = ' ';
	dprintf(STDOUT_FILENO, "[%9.3f] %s\n", now(), line);	/* On the console. */
	length = strlen(line);
	line[length++] = '\n';
	while (sent < length) {
		ssize_t nr_bytes = write(control, line + sent, length - sent);

		if (nr_bytes < 0 && errno != EINTR)
			return;
		if (nr_bytes > 0)
			sent += nr_bytes;
	}
}

void note(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	send_line("note", format, arguments);
	va_end(arguments);
}

void answer_ok(double started, const char *format, ...)
{
	char kind[32];
	va_list arguments;

	snprintf(kind, sizeof(kind), "ok %.6f", now() - started);
	va_start(arguments, format);
	send_line(kind, format, arguments);
	va_end(arguments);
}

void answer_error(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	send_line("error", format, arguments);
	va_end(arguments);
}

static void sleep_for(char **words, int nr_words)
{
	double started = now(), seconds = nr_words > 1 ? atof(words[1]) : 0;
	struct timespec time = { seconds, (seconds - (long)seconds) * 1e9 };

	while (nanosleep(&time, &time) && errno == EINTR)
		;
	answer_ok(started, "slept");
}

static void keep(char **words, int nr_words)
{
	double started = now();

	if (nr_words < 3 || arena_keep(words[1], words[2]))
		answer_error("%s cannot be kept: %s", nr_words > 2 ? words[2] : "nothing",
			     strerror(errno));
	else
		answer_ok(started, "%zu", arena_used());
}

static const struct {
	const char *name;
	void (*run)(char **words, int nr_words);
} commands[] = {
	{ "snapshot", snapshot }, { "keep", keep },	    { "write", write_file },
	{ "spawn", spawn_program }, { "tell", tell_program }, { "stop", stop_program },
	{ "run", run_program },	  { "drain", drain },	    { "sleep", sleep_for },
};

static void obey(char *line)
{
	char *words[MAX_WORDS + 1], *rest = NULL;
	int nr_words = 0;

	dprintf(STDOUT_FILENO, "[%9.3f] > %s\n", now(), line);
	for (char *word = strtok_r(line, " ", &rest); word && nr_words < MAX_WORDS;
	     word = strtok_r(NULL, " ", &rest))
		words[nr_words++] = word;
	words[nr_words] = NULL;
	if (!nr_words)
		return;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(words[0], commands[i].name)) {
			commands[i].run(words, nr_words);
			return;
		}
	answer_error("no command %s", words[0]);
}

static int open_control(void)
{
	int port = open("/dev/ttyS1", O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct termios settings;

	if (port < 0 || tcgetattr(port, &settings))
		return -1;
	cfmakeraw(&settings);
	settings.c_cflag |= CLOCAL | CREAD;
	cfsetspeed(&settings, B115200);
	return tcsetattr(port, TCSANOW, &settings) ? -1 : port;
}

int main(void)
{
	static char line[MAX_LINE];
	struct utsname names;
	const char *why;
	size_t length = 0;
	FILE *console = fopen("/dev/console", "w");

	if (console)
		dup2(fileno(console), STDOUT_FILENO);
	control = open_control();
	if (control < 0) {
		dprintf(STDOUT_FILENO, "lab: no second serial port: %s\n", strerror(errno));
		return 1;
	}
	why = arena_open();
	mlockall(MCL_CURRENT | MCL_FUTURE);
	uname(&names);
	if (why)
		answer_error("no arena: %s", why);
	else
		answer_ok(0, "%s", names.release);
	for (;;) {
		char byte;
		ssize_t nr_bytes = read(control, &byte, 1);

		if (nr_bytes < 0 && errno != EINTR)
			return 1;	/* The kernel panics then, and the host sees it. */
		if (nr_bytes < 1)
			continue;
		if (byte != '\n') {
			if (length < sizeof(line) - 1)
				line[length++] = byte;
			continue;
		}
		line[length] = '\0';
		length = 0;
		obey(line);
	}
}
