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
        "choice",
        "clear_mark",
        "clear_page_movable",
        "compare_exchange",
        "copy_folio_from",
        "copy_from",
        "fault",
        "get_unless_zero",
        "has_mark",
        "lock",
        "page_movable",
        "put",
        "read_lock",
        "read_unlock",
        "ref_freeze",
        "ref_unfreeze",
        "refcount",
        "set_count",
        "set_isolated",
        "set_mark",
        "set_page_movable",
        "test_and_set",
        "trylock",
        "unlock",
        "wait_event",
        "wait_locked",
        "wake_up",
        "write_lock",
        "write_trylock",
        "write_unlock",
    )
)
"""Names that mean a step whatever they are called on."""

OF_SHARED: Final = PRIMITIVES | {
    "add",
    "add_return",
    "cancel",
    "clear",
    "complete",
    "empty",
    "first",
    "flush",
    "last",
    "load",
    "next",
    "pending",
    "queue",
    "read",
    "remove",
    "set",
    "test",
    "wait",
    "write",
}
"""Names that mean a step when called on an attribute that one of `MAKERS` made."""

MAKERS: Final = frozenset(("atomic", "completion", "flags", "list_head", "packed", "work"))
"""What of `Env` makes shared state whose methods are steps; a cell's or a map's are not."""

AS_STATEMENT: Final = frozenset(("get", "read", "write", "owner", "isolated"))
"""Names that mean a step when called for its own sake: of a map, `get` has an argument."""

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
    remarks = [
        *_forgotten_awaits(tree),
        *_forgotten_coroutines(tree),
        *_unsteady(tree),
        *_unseen_state(tree),
    ]
    return sorted(remarks, key=lambda remark: remark.line)


def _forgotten_awaits(tree: ast.Module) -> Iterator[Remark]:
    awaited = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Await)}
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    shared = _shared_attributes(tree)
    for function in ast.walk(tree):
        if not isinstance(function, ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and id(node) not in awaited:
                name = _called(node)
                is_statement = id(node) in statements and name in AS_STATEMENT
                is_step = name in (OF_SHARED if _attribute_of_self(node) in shared else PRIMITIVES)
                if is_step or (is_statement and (name != "get" or not node.args)):
                    text = f"{name}() is not awaited, so it does not happen"
                    yield Remark(node.lineno, text, is_error=True)


def _forgotten_coroutines(tree: ast.Module) -> Iterator[Remark]:
    """Yield calls of the file's own coroutines whose result is dropped, or taken for a truth."""
    functions = {one.name for one in tree.body if isinstance(one, ast.AsyncFunctionDef)}
    for cls in (one for one in tree.body if isinstance(one, ast.ClassDef)):
        methods = {one.name for one in cls.body if isinstance(one, ast.AsyncFunctionDef)}
        for node in ast.walk(cls):
            for call in _values_used(node):
                on = call.func
                is_method = (
                    isinstance(on, ast.Attribute)
                    and isinstance(on.value, ast.Name)
                    and on.value.id == "self"
                    and on.attr in methods
                )
                if is_method or (isinstance(on, ast.Name) and on.id in functions):
                    text = f"{_called(call)}() is not awaited, so it does not happen"
                    yield Remark(call.lineno, text, is_error=True)


def _values_used(node: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls whose value `node` drops or tests."""
    values: list[ast.expr] = []
    if isinstance(node, ast.Expr):
        values = [node.value]
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        values = [node.test]
    elif isinstance(node, ast.BoolOp):
        values = node.values
    elif isinstance(node, ast.UnaryOp):
        values = [node.operand]
    elif isinstance(node, ast.Compare):
        values = [node.left, *node.comparators]
    yield from (value for value in values if isinstance(value, ast.Call))


def _shared_attributes(tree: ast.Module) -> set[str]:
    """Return the attributes of drivers that hold what one of `MAKERS` made."""
    return {
        target.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if _called(node.value) in MAKERS
        for target in node.targets
        if isinstance(target, ast.Attribute)
    }


def _called(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _attribute_of_self(call: ast.Call) -> str:
    """Return "something" for ``self.something.name()``, empty for all else."""
    on = call.func.value if isinstance(call.func, ast.Attribute) else None
    holder = on.value if isinstance(on, ast.Attribute) else None
    is_self = isinstance(holder, ast.Name) and holder.id == "self"
    return on.attr if is_self and isinstance(on, ast.Attribute) else ""


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
