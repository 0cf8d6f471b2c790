"""Read sysctls: the ``name = value`` text that ``sysctl`` prints and our captures keep."""

import re
from typing import Final

_LINE: Final = re.compile(r"\s*([\w.-]{1,128})\s*=\s*(-?[0-9]{1,20})\s*")


def parse_sysctl(text: str) -> dict[str, int]:
    """Return the sysctls that are one number, by dotted name; others are stepped over."""
    matches = (_LINE.fullmatch(line) for line in text.split("\n"))
    return {match[1]: int(match[2]) for match in matches if match}


def format_sysctl(values: dict[str, str]) -> str:
    """Return `values` as text for `parse_sysctl`: one ``name = value`` a line."""
    return "".join(f"{name} = {value}\n" for name, value in values.items())
