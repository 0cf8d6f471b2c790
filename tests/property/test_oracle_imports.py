"""The twins must not share code with what they judge."""

import ast
from pathlib import Path

import pytest

ORACLE = Path(__file__).parents[1] / "oracle"
ALLOWED = ("movable.mm", "oracle", "collections", "dataclasses", "typing")


def imports_of(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    return names | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("path", sorted(ORACLE.glob("*.py")), ids=lambda path: path.stem)
def test_oracle_imports_only_the_vocabulary(path: Path) -> None:
    for name in imports_of(path):
        assert any(name == root or name.startswith(f"{root}.") for root in ALLOWED)
