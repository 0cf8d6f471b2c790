"""Many scores in a few numbers: medians, 90th percentiles, the worst, and how many are exact."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from movable.predict.scorecard import Figure, Score, Skipped


@dataclass(frozen=True, slots=True)
class Spread:
    """How large errors are, in per cent: nearest-rank percentiles, and which run is the worst."""

    nr_runs: int
    nr_exact: int
    nr_within_1_percent: int
    median: float | None
    p90: float | None
    worst: float | None
    worst_name: str

    @classmethod
    def of(cls, scores: Sequence[Score], figure: Callable[[Score], Figure | None]) -> "Spread":
        """Return the spread of the errors of one figure, over the runs that have it."""
        errors = sorted(_errors(scores, figure))
        values = [error for error, _ in errors]
        return cls(
            nr_runs=len(values),
            nr_exact=sum(error == 0 for error in values),
            nr_within_1_percent=sum(error <= 1 for error in values),
            median=rank(values, 50),
            p90=rank(values, 90),
            worst=values[-1] if values else None,
            worst_name=errors[-1][1] if errors else "",
        )


def _errors(
    scores: Sequence[Score], figure: Callable[[Score], Figure | None]
) -> Iterable[tuple[float, str]]:
    for score in scores:
        found = figure(score)
        if found is not None and (error := found.error_percent) is not None:
            yield error, score.name


def rank(values: Sequence[float], percent: int) -> float | None:
    """Return the nearest-rank percentile of ascending `values`; None if there are none."""
    if not values:
        return None
    return values[max(0, -(-len(values) * percent // 100) - 1)]


@dataclass(frozen=True, slots=True)
class Group:
    """The scores of one sort of run, summed up.

    `page_agreement` is (median, 90 % of runs at least, worst).  `nr_huge_in_range` counts over
    `nr_huge_after.nr_runs`.  `nr_scans_equal` counts runs in which both scan counters are right,
    among the runs whose migrations are exact.
    """

    name: str
    nr_predicted: int
    nr_not_predicted: int
    nr_migrated: Spread
    nr_huge_after: Spread
    nr_huge_within_1: int
    nr_huge_in_range: int
    nr_scans_equal: int
    unusable_index: Spread
    page_agreement: tuple[float | None, float | None, float | None]
    nr_obtained: Spread
    nr_obtained_in_range: int

    @classmethod
    def of(cls, name: str, scores: Sequence[Score]) -> "Group":
        """Sum up `scores`."""
        done = [score for score in scores if score.is_predicted]
        agreements = sorted(s.page_agreement for s in done if s.page_agreement is not None)
        return cls(
            name=name,
            nr_predicted=len(done),
            nr_not_predicted=len(scores) - len(done),
            nr_migrated=Spread.of(done, lambda score: score.counters.nr_migrated),
            nr_huge_after=Spread.of(done, lambda score: score.huge.figure),
            nr_huge_within_1=sum(_is_within_1(score.huge.figure) for score in done),
            nr_huge_in_range=sum(score.huge.is_in_range is True for score in done),
            nr_scans_equal=sum(_has_equal_scans(score) for score in done),
            unusable_index=Spread.of(done, lambda score: score.unusable),
            page_agreement=(
                rank(agreements, 50),
                rank(agreements, 10),
                agreements[0] if agreements else None,
            ),
            nr_obtained=Spread.of(done, lambda score: score.nr_obtained),
            nr_obtained_in_range=sum(score.is_obtained_in_range is True for score in done),
        )


def _is_within_1(figure: Figure) -> bool:
    if figure.real is None or figure.predicted is None:
        return False
    return abs(figure.real - figure.predicted) <= 1


def _has_equal_scans(score: Score) -> bool:
    counters = score.counters
    return (
        counters.nr_migrated.is_exact
        and counters.nr_migrate_scanned.is_exact
        and counters.nr_free_scanned.is_exact
    )


@dataclass(frozen=True, slots=True)
class Summary:
    """All scores together, and by sort of run; only sorts that occur."""

    everything: Group
    groups: tuple[Group, ...]
    nr_skipped: int

    def to_json(self) -> dict[str, object]:
        """Return the JSON form: the figures of all runs, and those of each group under "groups"."""
        return {
            **_group_json(self.everything),
            "nr_skipped": self.nr_skipped,
            "groups": {group.name: _group_json(group) for group in self.groups},
        }


def _group_json(group: Group) -> dict[str, object]:
    values = asdict(group)
    del values["name"]
    median, p90, worst = group.page_agreement
    return {**values, "page_agreement": {"median": median, "p90": p90, "worst": worst}}


def summary_of(scores: Sequence[Score], skipped: Sequence[Skipped]) -> Summary:
    """Sum up `scores`."""
    sorts: tuple[tuple[str, Callable[[Score], bool]], ...] = (
        ("ordinary", lambda score: score.is_ordinary),
        ("disturbed", lambda score: bool(score.conditions) and not score.is_goal_run),
        ("whatif", lambda score: score.is_whatif),
        ("goal", lambda score: score.is_goal_run),
    )
    groups = tuple(Group.of(name, [s for s in scores if fits(s)]) for name, fits in sorts)
    return Summary(
        everything=Group.of("all", scores),
        groups=tuple(group for group in groups if group.nr_predicted or group.nr_not_predicted),
        nr_skipped=len(skipped),
    )


def scores_json(scores: Sequence[Score], skipped: Sequence[Skipped]) -> dict[str, object]:
    """Return the fixed JSON form of a whole scoring; keys may be added."""
    return {
        "schema": 1,
        "scenarios": [score.to_json() for score in scores],
        "skipped": [{"name": skip.name, "reason": skip.reason} for skip in skipped],
        "summary": summary_of(scores, skipped).to_json(),
    }
