"""The words of ``movable --help``."""

from collections.abc import Mapping

_HEAD = """\
usage: movable [SNAPSHOT] [--rules NAME] [--json]
       movable COMMAND [SNAPSHOT] [options]

See what fragments a Linux machine's memory, and predict what compaction recovers.

Without a command: one screen about this machine, or about SNAPSHOT.  SNAPSHOT is a .movable file,
a directory of raw /proc files, a tarball of one, or one of the samples that come along
(sample:gpu, sample:slab).  Without it, commands look at the live machine, for which they must be
root; that is all that capture, doctor and watch do.

commands:"""

_TAIL = """\
options:
  -h, --help     this text; after a command, that command's
  --version      the version
  --json         the result as JSON, for every command

examples:
  sudo movable                                this machine on one screen
  sudo movable capture -o host.movable        take it away; from here on no root is needed
  movable host.movable
  movable sample:gpu                          a recorded machine, to try things on
  movable report host.movable -o report.html  one file to send to somebody
  movable explain 0x1a2b sample:gpu           why does compaction skip this page?

exit codes: 0 done, 1 could not, 2 wrong usage, 3 the answer is no, 4 yes after compaction,
77 no permission."""


def overview(commands: Mapping[str, str]) -> str:
    """Return the text of ``movable --help``; `commands` maps a name to its one line."""
    lines = [f"  {name:<10} {line}" for name, line in commands.items()]
    return "\n".join([_HEAD, *lines, "", _TAIL])
