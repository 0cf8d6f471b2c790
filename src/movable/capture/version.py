"""Read /proc/version: ``Linux version RELEASE (who built it) …``."""

import re
from typing import Final

from movable.errors import ParseError

_LINE: Final = re.compile(r"Linux version (\S{1,256})")


def parse_version(text: str, *, source: str = "version") -> str:
    """Return the kernel's release: "6.12.117+deb12-cloud-amd64".

    Raises:
        ParseError: the text does not begin with ``Linux version``.
    """
    match = _LINE.match(text)
    if match is None:
        raise ParseError("'Linux version RELEASE'", source, 1, text[:120])
    return match[1]
