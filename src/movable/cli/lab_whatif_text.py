"""A what-if experiment as text: what the kernel did beside what was predicted."""

from collections.abc import Iterator

from movable.lab.whatif import Experiment, Outcome
from movable.mm.constants import PAGE_SIZE


def whatif_lines(found: Experiment) -> Iterator[str]:
    """Yield the lines that tell of an experiment."""
    yield (
        f"Linux {found.kernel}, {found.memory_mib} MiB: {found.driver} with {found.nr_pages} pages "
        f"({_mib(found.nr_pages)})"
    )
    yield ""
    yield f"{'':34}{'the kernel':>12}{'predicted':>12}  range"
    yield from _outcome("driver refuses", found.refused)
    yield from _outcome("driver accepts", found.accepted)
    real, predicted = found.gain
    yield f"{'gain, huge pages':34}{real:>+12}{predicted:>+12}"
    yield f"{'    predicted before either':34}{'':12}{found.gain_from_before:>+12}"
    yield ""
    yield _deeds(found)
    yield _contents(found)


def _outcome(title: str, outcome: Outcome) -> Iterator[str]:
    real, predicted = outcome.real, outcome.predicted
    low, high = predicted.nr_huge_after_range
    huge = f"{title}: huge pages after"
    yield f"{huge:34}{real.nr_huge_after:>12}{predicted.nr_huge_after:>12}  {low} to {high}"
    yield f"{'    pages moved':34}{real.nr_migrated:>12}{predicted.nr_migrated:>12}"


def _deeds(found: Experiment) -> str:
    refusals, moved = found.counts.nr_refusals, found.counts.nr_migrated
    if moved is None:
        return "This kernel does not count how many pages the driver moved."
    told = f"moved {moved} of its pages ({_mib(moved)})"
    return f"The driver {'' if refusals is None else f'refused {refusals} times, then '}{told}."


def _contents(found: Experiment) -> str:
    nr_bad, nr_checked = found.counts.nr_bad, found.counts.nr_checked
    if not nr_checked:
        return "Nobody reads a balloon's pages: there are no contents to compare."
    if nr_bad:
        return f"{nr_bad} of {nr_checked} pages have the WRONG CONTENTS."
    return f"The contents of all {nr_checked} pages were compared: none differs."


def _mib(nr_pages: int) -> str:
    return f"{nr_pages * PAGE_SIZE / (1 << 20):.0f} MiB"
