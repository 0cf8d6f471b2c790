"""What a driver's text shows before it runs: forgotten awaits, and state the checker cannot see.

A primitive that is not awaited does not happen: that is an error.  State kept outside the
primitives, clocks, random numbers and the order of sets make runs differ or hide accesses: those
are warnings, since what they do may not matter.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

PRIMITIVES: Final = frozenset(
    (
        "add_tail",
        "alloc_page",
        "cancel",
        "choice",
        "clear_mark",
        "clear_page_movable",
        "compare_exchange",
        "complete",
        "copy_folio_from",
        "copy_from",
        "fault",
        "flush",
        "get_unless_zero",
        "has_mark",
        "isolated",
        "lock",
        "owner",
        "page_movable",
        "put",
        "queue",
        "read_lock",
        "read_unlock",
        "refcount",
        "remove",
        "set_isolated",
        "set_mark",
        "set_page_movable",
        "test_and_set",
        "trylock",
        "unlock",
        "wait",
        "wait_event",
        "wait_locked",
        "wake_up",
        "write_lock",
        "write_trylock",
        "write_unlock",
    )
)
"""Names that mean a step whatever they are called on; `get`, `add`, `read` could be anything."""

UNSTEADY: Final = {
    "random": "random numbers",
    "time": "the clock",
    "secrets": "random numbers",
    "uuid": "random numbers",
    "datetime": "the clock",
}


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about one line of a driver."""

    line: int
    text: str
    is_error: bool


def lint(tree: ast.Module) -> list[Remark]:
    """Return the remarks about a driver's text, in the order of its lines."""
    remarks = [*_forgotten_awaits(tree), *_unsteady(tree), *_unseen_state(tree)]
    return sorted(remarks, key=lambda remark: remark.line)


def _forgotten_awaits(tree: ast.Module) -> Iterator[Remark]:
    awaited = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Await)}
    returned = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Return)}
    for function in ast.walk(tree):
        if not isinstance(function, ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and id(node) not in awaited | returned:
                name = _called(node)
                if name in PRIMITIVES:
                    text = f"{name}() is not awaited, so it does not happen"
                    yield Remark(node.lineno, text, is_error=True)


def _called(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _unsteady(tree: ast.Module) -> Iterator[Remark]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            whole = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            if what := UNSTEADY.get((whole or "").split(".")[0]):
                text = f"uses {what}: two runs of one schedule may differ"
                yield Remark(node.lineno, text, is_error=False)
        if isinstance(node, ast.For | ast.comprehension) and isinstance(node.iter, ast.Set):
            yield Remark(node.iter.lineno, "depends on the order of a set", is_error=False)


def _unseen_state(tree: ast.Module) -> Iterator[Remark]:
    for cls in ast.walk(tree):
        if not isinstance(cls, ast.ClassDef):
            continue
        for method in cls.body:
            if isinstance(method, ast.AsyncFunctionDef):
                yield from _assigned_attributes(method)


def _assigned_attributes(method: ast.AsyncFunctionDef) -> Iterator[Remark]:
    for node in ast.walk(method):
        if not isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if (
                isinstance(target, ast.Attribute)
                and isinstance(target.value, ast.Name)
                and target.value.id == "self"
            ):
                text = f"self.{target.attr} is shared state that the checker cannot see: use env"
                yield Remark(node.lineno, text, is_error=False)
