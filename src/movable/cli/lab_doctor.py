"""``movable lab doctor``: what the lab has here, and what to install."""

import argparse

from movable.cli.output import Output


class LabDoctorCommand:
    """Say what the lab needs of this machine, what is missing, and which kernels are at hand.

    Nothing is fetched or built.  Exit code: 0 if a guest can run, else 1.
    """

    name = "doctor"
    examples = """\
examples:
  movable lab doctor
  movable lab doctor --json                     for a script, with the exit code above"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare nothing."""

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Look, and say what was found."""
        from movable.lab.doctor import diagnose
        from movable.lab.module import can_mark_pages

        found = diagnose()
        if args.json:
            output.json(found.to_json())
            return 0 if found.can_run else 1
        for need in found.needs:
            said = need.found if need.is_there else f"missing: {need.without}"
            output.text(f"  {'yes' if need.is_there else 'no ':<4} {need.name:<26} {said}")
        if found.missing_packages:
            output.text(f"\napt-get install {' '.join(found.missing_packages)}")
        output.text("\nKernels at hand")
        for kernel in found.kernels:
            drivers = "" if can_mark_pages(kernel) else "; no movable pages for modules' drivers"
            truth = "with the lab's module" if kernel.headers else "without the lab's module"
            output.text(f"  {kernel.release:<34} {truth}{drivers}")
        if not found.kernels:
            output.text("  none: the first run fetches one, or `movable lab kernels 6.1 6.12 6.17`")
        return 0 if found.can_run else 1
