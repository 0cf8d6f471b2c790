"""What a scenario led to, as text."""

from movable.mm.constants import NR_PAGE_ORDERS, PAGE_SIZE
from movable.model.scenario_run import ScenarioResult, nr_huge_pages

_COLUMNS = ("nr_pages", "isolated", "migrated", "putback", "refused", "failed")
_MAX_FAULTS = 20


def scenario_text(result: ScenarioResult) -> str:
    """Return the result in words and tables."""
    parts = [f"{result.scenario}: {result.nr_seconds:.1f} s", *_free(result)]
    if result.drivers:
        parts += _drivers(result)
    if result.contents_checked or result.contents_bad:
        parts += ["", f"Contents: {result.contents_checked} pages compared after they moved, "
                  f"{result.contents_bad} differ"]  # fmt: skip
    for way, by_order in result.success_by_hour.items():
        parts += _success(way, by_order, result)
    parts += _faults(result)
    parts += ["", *(f"- {doubt}" for doubt in result.doubts)] if result.doubts else []
    return "\n".join(parts)


def _free(result: ScenarioResult) -> list[str]:
    before, after = result.nr_free_blocks_before, result.nr_free_blocks_after
    heads = "".join(f"{order:>8}" for order in range(NR_PAGE_ORDERS))
    return [
        "",
        "Free blocks by order",
        f"  {'':8}{heads}    huge",
        f"  {'before':8}{''.join(f'{nr:>8}' for nr in before)}{nr_huge_pages(before):>8}",
        f"  {'after':8}{''.join(f'{nr:>8}' for nr in after)}{nr_huge_pages(after):>8}",
    ]


def _drivers(result: ScenarioResult) -> list[str]:
    heads = "".join(f"{name.removeprefix('nr_'):>10}" for name in _COLUMNS)
    lines = ["", "Driver pages", f"  {'':10}{heads}    MiB moved"]
    for name, counts in result.drivers.items():
        values = counts.to_json()
        row = "".join(f"{values[column]:>10}" for column in _COLUMNS)
        lines.append(f"  {name:10}{row}{counts.migrated * PAGE_SIZE >> 20:>13}")
    return lines


def _success(way: str, by_order: object, result: ScenarioResult) -> list[str]:
    assert isinstance(by_order, dict)
    lines = ["", f"{way.replace('_', ' ')}: tries that succeeded, by day, per cent"]
    for order, hours in by_order.items():
        days = [hours[start : start + 24] for start in range(0, len(hours), 24)]
        shares = "".join(f"{100 * sum(day) / len(day):>7.1f}" for day in days)
        lines.append(f"  order {order:<4}{shares}")
    huge = result.nr_huge_by_hour.get(way, [])
    if huge:
        ends = "".join(f"{nr:>7}" for nr in huge[23::24])
        lines.append(f"  huge pages{ends}")
    return lines


def _faults(result: ScenarioResult) -> list[str]:
    if not result.faults:
        return []
    shown = [f"  {fault}" for fault in result.faults[:_MAX_FAULTS]]
    more = len(result.faults) - len(shown)
    return ["", "Faults", *shown, *([f"  and {more} more"] if more else [])]
