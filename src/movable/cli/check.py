"""``movable check``: a driver's callbacks under every interleaving."""

import argparse
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from movable.cli.output import Output
from movable.errors import UsageError

if TYPE_CHECKING:
    from movable.check.strategy import Scenario
    from movable.check.timeline import Timeline
    from movable.check.verdict import Verdict
    from movable.driver.load import Loaded

EXIT_VIOLATED = 3


class CheckCommand:
    """Check a driver for races with compaction, in every interleaving of its steps.

    Runs the driver's own text and the protocol's against each other, two to four threads at a time,
    and either covers every schedule or prints a short one that breaks a rule of the contract.
    Steps happen in one order that all threads see: weak memory is not covered.
    """

    name = "check"
    examples = """\
examples:
  movable check driver.py                          the default scenarios
  movable check driver.py --scenario C,C,F         two compactions and a free
  movable check driver.py --replay mv1:CF:1:0:...  a schedule that failed before
  movable check --bugs                             does it find the bugs of history?"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument(
            "driver", type=Path, nargs="?", metavar="DRIVER.py", help="file with a movable.Driver"
        )
        parser.add_argument("--class", dest="cls", metavar="NAME", help="which driver in the file")
        parser.add_argument(
            "--scenario",
            metavar="C,C,F",
            help="threads: C compaction, B isolate and put back, F free, A access, D dequeue, "
            "N alloc, T teardown, S shrink (default: the suite)",
        )
        parser.add_argument(
            "--threads",
            type=int,
            metavar="N",
            help="only scenarios of the suite with at most N threads",
        )
        parser.add_argument(
            "--pages",
            type=int,
            metavar="N",
            help="pages (default: 1; 2 for two threads, unless one allocates)",
        )
        parser.add_argument("--faults", type=int, metavar="N", help="faults (default: 0, then 1)")
        parser.add_argument(
            "--strategy",
            default="auto",
            metavar="auto|dpor|exhaustive|icb:N|pct:D|replay",
            help="how schedules are chosen (default: auto)",
        )
        parser.add_argument(
            "--budget", default="30s", metavar="30s", help="time for all scenarios (default: 30s)"
        )
        parser.add_argument("--era", default="6.0", metavar="ERA", help="2015, 4.8, 6.0 or 6.17")
        parser.add_argument("--replay", metavar="TOKEN", help="repeat one schedule")
        parser.add_argument(
            "--format",
            choices=("text", "svg", "html", "json"),
            default="text",
            help="how a violating schedule is shown",
        )
        parser.add_argument("--bugs", action="store_true", help="check the bugs of history")

    def run(self, args: argparse.Namespace, output: Output) -> int:
        """Check, and show the verdicts."""
        with redirect_stdout(sys.stderr):  # What a driver prints is not the result.
            return self._run(args, output)

    def _run(self, args: argparse.Namespace, output: Output) -> int:
        if args.bugs:
            if args.driver is not None:
                raise UsageError(
                    f"--bugs checks the bugs of history: {args.driver} is none of them"
                )
            return _check_bugs(args, output)
        if args.driver is None:
            raise UsageError("which driver? movable check DRIVER.py, or movable check --bugs")
        from movable.driver.load import load_driver

        loaded = load_driver(args.driver, args.cls)
        for remark in loaded.remarks:
            output.note(f"movable: {args.driver}:{remark.line}: {remark.text}")
        if args.replay:
            return _replay(args, output, loaded)
        return _check(args, output, loaded)


def _check(args: argparse.Namespace, output: Output, loaded: "Loaded") -> int:
    from movable.check.suite import check_all

    scenarios = _scenarios(args, loaded)
    verdicts: list[Verdict] = []
    with output.progress(f"checking {len(scenarios)} scenarios") as progress:
        for verdict in check_all(
            loaded.driver,
            scenarios,
            strategy=args.strategy,
            seconds=_seconds(args.budget),
            source=loaded.source,
        ):
            verdicts.append(verdict)
            progress(f"checked {len(verdicts)} of {len(scenarios)} scenarios")
    order = {scenario.name: number for number, scenario in enumerate(scenarios)}
    verdicts.sort(key=lambda verdict: order[verdict.name])
    failed = _simplest(verdicts)
    if args.json or (failed is None and args.format == "json"):
        output.json(
            {
                "schema": 1,
                "driver": loaded.driver.__name__,
                "era": args.era,
                "scenarios": [verdict.to_json() for verdict in verdicts],
            }
        )
    elif failed is None and args.format in ("svg", "html"):
        output.note(f"movable: nothing to show: {_summary(loaded, verdicts)}")
    elif failed is not None and args.format != "text":
        _show_schedule(args.format, output, loaded, _token(failed))
    else:
        _show(output, loaded, verdicts, failed)
    return EXIT_VIOLATED if failed is not None else 0


def _simplest(verdicts: list["Verdict"]) -> "Verdict | None":
    """Return the violation that is told in the fewest switches and steps."""
    failed = [verdict for verdict in verdicts if verdict.violation is not None]

    def size(verdict: "Verdict") -> tuple[int, int]:
        broken = verdict.violation
        return (broken.nr_switches, broken.nr_steps) if broken is not None else (0, 0)

    return min(failed, key=size, default=None)


def _summary(loaded: "Loaded", verdicts: list["Verdict"]) -> str:
    nr_proved = sum(verdict.is_exhaustive for verdict in verdicts)
    nr_empty = sum(verdict.is_empty for verdict in verdicts)
    empty = f" In {nr_empty} no page was movable: compaction had nothing to do." if nr_empty else ""
    return (
        f"{loaded.driver.__name__}: {nr_proved} of {len(verdicts)} scenarios proved; steps happen "
        f"in one order that all threads see (sequential consistency).{empty}"
    )


def _show(
    output: Output, loaded: "Loaded", verdicts: list["Verdict"], failed: "Verdict | None"
) -> None:
    for verdict in verdicts:
        output.text(f"{verdict.name:26} {verdict.seconds:6.2f} s  {verdict.describe()}")
    output.text("")
    output.text(_summary(loaded, verdicts))
    if failed is not None and failed.violation is not None:
        from movable.driver.contract import RULES

        broken = failed.violation
        rule = RULES[broken.rule]
        output.text("")
        output.text(f"{broken.rule}: {broken.text}")
        output.text(f"  the rule: {rule.text} ({rule.source})")
        if rule.seen_in:
            output.text(f"  similar:  {rule.seen_in} (movable check --bugs)")
        output.text("")
        if broken.nr_steps:
            _show_schedule("text", output, loaded, broken.token)
            output.text("")
        output.text(f"replay: movable check {loaded.path} --replay {broken.token}")


def _show_schedule(form: str, output: Output, loaded: "Loaded", token: str) -> "Timeline":
    from movable.check.picture import timeline_html, timeline_svg
    from movable.check.schedule import from_token
    from movable.check.strategy import Scenario, make_program
    from movable.check.timeline import record, timeline_text

    schedule = from_token(token.split("+")[-1])
    scenario = Scenario(schedule.scenario, schedule.nr_pages, schedule.nr_faults, schedule.era)
    timeline = record(make_program(loaded.driver, scenario), schedule.codes)
    if form == "svg":
        output.text(timeline_svg(timeline))
    elif form == "html":
        output.text(timeline_html(timeline))
    elif form == "json":
        output.json(timeline.to_json())
    else:
        output.text(timeline_text(timeline, width=output.width))
    return timeline


def _replay(args: argparse.Namespace, output: Output, loaded: "Loaded") -> int:
    from movable.check.replay import replay_token

    again = replay_token(loaded.driver, args.replay, loaded.source)
    if again.source_changed:
        output.note("movable: the driver has changed since the token was made")
    if again.has_diverged:
        output.note("movable: the schedule could not be followed: some steps are not possible")
    form = "json" if args.json else args.format
    if again.has_steps:
        _show_schedule(form, output, loaded, args.replay)
    if form == "text":
        found = again.finding
        text = f"{found.rule}: {found.text}" if found is not None else "no violation"
        output.text(f"\n{text}")
    return EXIT_VIOLATED if again.finding is not None else 0


def _scenarios(args: argparse.Namespace, loaded: "Loaded") -> list["Scenario"]:
    from movable.check.strategy import Scenario
    from movable.check.suite import suite
    from movable.driver.eras import era_of

    era_of(args.era)  # Before anything else is asked for.
    for name, value in (("--pages", args.pages), ("--faults", args.faults)):
        if value is not None and not 0 <= value <= 6:
            raise UsageError(f"{name} {value}: from 0 to 6 are few enough to check")
    if args.scenario is not None:
        letters = args.scenario.replace(",", "").upper()
        if not 1 <= len(letters) <= 8:
            raise UsageError(f"--scenario {args.scenario!r}: one to eight threads")
        nr_pages = 1 if args.pages is None else args.pages
        return [Scenario(letters, nr_pages, args.faults or 0, args.era)]
    if args.pages == 0:
        raise UsageError("--pages 0: the suite needs a page; --scenario N,N --pages 0 does not")
    scenarios = [
        one if args.faults is None else replace(one, nr_faults=args.faults)
        for one in suite(loaded.driver, args.era, nr_pages=args.pages)
        if (args.faults is None or one.nr_faults == min(args.faults, 1))
        and (args.threads is None or len(one.letters) <= args.threads)
    ]
    if not scenarios:
        raise UsageError(f"--threads {args.threads}: no scenario of the suite has so few")
    return scenarios


def _check_bugs(args: argparse.Namespace, output: Output) -> int:
    from movable.check.corpus import try_bug
    from movable.driver.examples.known_bugs import BUGS

    results = []
    with output.progress("checking the bugs of history") as progress:
        for bug in BUGS:
            progress(f"checking {bug.id}: {bug.title}")
            results.append(try_bug(bug))
    if args.json:
        output.json({"schema": 1, "bugs": [result.to_json() for result in results]})
    else:
        output.text(f"{'bug':9} {'rule':5} {'in':>5} {'ms':>6} {'switches':>8}  fixed    title")
        for result in results:
            rule = result.rule if result.found else "-"
            fixed = "proved" if result.fixed_proved else "NOT"
            output.text(
                f"{result.bug.id:9} {rule:5} {result.nr_schedules:5} {result.seconds * 1e3:6.1f} "
                f"{result.nr_switches:8}  {fixed:7}  {result.bug.title}"
            )
        nr_found = sum(result.found for result in results)
        output.text(f"\n{nr_found} of {len(results)} found")
    is_good = all(result.found and result.fixed_proved for result in results)
    return 0 if is_good else 1


def _token(verdict: "Verdict") -> str:
    return verdict.violation.token if verdict.violation is not None else ""


def _seconds(text: str) -> float:
    """Return the seconds in "30s", "2m" or "0.5"."""
    unit = {"s": 1.0, "m": 60.0}.get(text[-1:], 0.0)
    number = text[:-1] if unit else text
    try:
        seconds = float(number) * (unit or 1.0)
    except ValueError:
        raise UsageError(f"--budget {text!r}: not a time like 30s or 2m") from None
    if not 0 < seconds <= 86_400:
        raise UsageError(f"--budget {text!r}: more than nothing, and at most a day")
    return seconds
