"""From the stack of an allocation to a name for who made it: rules that users can extend."""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import translate
from functools import cache
from pathlib import Path
from typing import Final

from movable.capture.page_owner import StackLine
from movable.errors import UsageError

_BUILT_IN: Final = Path(__file__).with_name("owner_rules.toml")
_KEYS: Final = {"schema", "skip", "helpers", "owner"}


@dataclass(frozen=True, slots=True)
class OwnerRules:
    """Patterns as in owner_rules.toml; `owners` is in order, the first that fits decides."""

    skip: re.Pattern[str]
    helpers: re.Pattern[str]
    owners: tuple[tuple[str, re.Pattern[str]], ...]

    def owner_of(self, stack: Sequence[StackLine]) -> str:
        """Return who made the allocation; empty where the caller's code has no symbol."""
        callers = [line for line in stack if line.module or not self.skip.match(line.function)]
        if not callers or not callers[0].is_symbol:
            return ""
        modules = [line.module for line in callers if line.module]
        for line in callers:
            if line.module:
                return next((m for m in modules if not self.helpers.match(m)), line.module)
            for name, pattern in self.owners:
                if pattern.match(line.function):
                    return name
        return f"{callers[0].function.partition('.')[0]}()"


def load_rules(more: Path | None = None) -> OwnerRules:
    """Return the rules that come with movable, after those of the file `more`, if given.

    Raises:
        UsageError: `more` cannot be read, or is not in the form of owner_rules.toml.
    """
    built_in = _built_in()
    if more is None:
        return built_in
    try:
        added = _parse(tomllib.loads(more.read_text()))
    except OSError as error:
        raise UsageError(f"{more}: cannot be read: {error.strerror or error}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{more}: not rules for owners: {error}") from None
    return replace(
        built_in,
        skip=re.compile(f"{added.skip.pattern}|{built_in.skip.pattern}"),
        helpers=re.compile(f"{added.helpers.pattern}|{built_in.helpers.pattern}"),
        owners=added.owners + built_in.owners,
    )


@cache
def _built_in() -> OwnerRules:
    return _parse(tomllib.loads(_BUILT_IN.read_text()))


def _parse(document: Mapping[str, object]) -> OwnerRules:
    if unknown := document.keys() - _KEYS:
        raise ValueError(
            f"no key {', '.join(sorted(unknown))}; there are {', '.join(sorted(_KEYS))}"
        )
    if document.get("schema") != 1:
        raise ValueError(f"schema is {document.get('schema')!r}, not 1")
    entries = document.get("owner", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("owner is no [[owner]] table")
    return OwnerRules(
        skip=_one_of(document.get("skip", []), "skip"),
        helpers=_one_of(document.get("helpers", []), "helpers"),
        owners=tuple(
            (_name_of(entry), _one_of(entry["functions"], "functions")) for entry in entries
        ),
    )


def _name_of(entry: Mapping[str, object]) -> str:
    name = entry["name"]
    if not isinstance(name, str) or not name or ":" in name:
        raise ValueError(f"an owner's name is a word without a colon, not {name!r}")
    return name


def _one_of(patterns: object, key: str) -> re.Pattern[str]:
    """Return one expression that fits what any of `patterns` does; nothing, if there are none."""
    if not isinstance(patterns, list) or not all(isinstance(p, str) for p in patterns):
        raise ValueError(f"{key} is no list of patterns")
    return re.compile("|".join(_expressions(patterns)) or r"(?!)")


def _expressions(patterns: Iterable[str]) -> Iterable[str]:
    # A compiler's clones have a suffix: foo.constprop.0 is foo.
    return (
        translate(pattern).removesuffix(r"\Z").removesuffix(r"\z") + r"(?:\.\S*)?\Z"
        for pattern in patterns
    )
