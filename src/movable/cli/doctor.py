"""``movable doctor``: what can be known of this machine, and what it takes."""

import argparse
from typing import TYPE_CHECKING, Final

from movable.cli.output import Output

if TYPE_CHECKING:
    from movable.capture.diagnosis import Diagnosis

_NAME_WIDTH: Final = 26


class DoctorCommand:
    """Say which sources this machine has, what each adds, and what a capture would cost.

    Exit code: 0 if a full capture is possible, 77 if it takes root, 1 if this kernel cannot be
    captured.
    """

    name = "doctor"
    examples = """\
examples:
  sudo movable doctor                     everything that a capture could hold here
  movable doctor                          what is there for an ordinary user
  movable doctor --json                   for a script, with the exit code above"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare no arguments but the common ones."""

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Look, and say what was found."""
        from movable.capture.diagnosis import diagnose, to_json  # Here: it imports NumPy.

        diagnosis = diagnose()
        if args.json:
            output.json(to_json(diagnosis))
        else:
            output.text(to_text(diagnosis))
        return diagnosis.exit_code


def to_text(diagnosis: "Diagnosis") -> str:
    """Return what is printed for people."""
    from movable.capture.diagnosis import DISTURBS

    gib = diagnosis.nr_present * diagnosis.page_size / (1 << 30)
    lines = [f"Linux {diagnosis.release}, {gib:,.1f} GiB of {diagnosis.page_size}-byte pages", ""]
    for state in diagnosis.states:
        mark = "yes" if state.is_readable else "no "
        why = f"   [{state.reason}]" if state.reason else ""
        lines.append(f"  {mark}  {state.source.name:<{_NAME_WIDTH}} {state.source.unlocks}{why}")
    lines += ["", *_verdict(diagnosis), "", "Does it disturb the machine?"]
    lines += [f"  - {sentence}" for sentence in DISTURBS]
    return "\n".join(lines)


def _verdict(diagnosis: "Diagnosis") -> list[str]:
    cost = diagnosis.cost
    if cost is not None:
        return [
            f"A capture takes about {cost.capture_s:.1f} s, "
            f"{cost.memory_bytes / (1 << 20):,.0f} MiB of memory while it runs, "
            f"and a file of about {cost.file_bytes / 1024:,.0f} KiB.",
        ]
    if diagnosis.exit_code == 1:
        return ["No capture: this kernel has no page files (CONFIG_PROC_PAGE_MONITOR)."]
    return ["A capture takes root.  Without it, open a snapshot that root captured."]
