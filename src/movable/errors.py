"""The exceptions movable raises on purpose.

    MovableError                   catch this one to catch them all
    |-- CaptureError               this machine could not be read
    |   |-- PrivilegeError         the caller lacks a capability
    |   `-- ParseError             a kernel file is not in the form we know
    |-- SnapshotError              a snapshot is damaged, contradicts itself, or of another version
    |-- UnsupportedKernelError     the model has no rules for this kernel
    |-- OutOfMemoryError           a model machine has no memory left for a request
    |-- LabError                   the lab lacks something, or a kernel could not be had
    |   `-- GuestError             a guest panicked, hung, or could not do what it was told
    `-- UsageError                 an argument makes no sense

A bug in movable is an AssertionError and is never caught.  A bug that `movable check`
finds in a driver is not an error at all: it is a result.
"""


class MovableError(Exception):
    """Base of every error that a caller may want to catch."""

    exit_code = 1


class CaptureError(MovableError):
    """This machine could not be read."""


class ParseError(CaptureError):
    """A kernel file is not in the form we know."""

    def __init__(self, expected: str, source: str, lineno: int, line: str) -> None:
        found = line.strip()
        shown = repr(found if len(found) <= 120 else found[:117] + "...")
        super().__init__(f"{source}:{lineno}: expected {expected}, got {shown}")
        self.expected, self.source, self.lineno, self.line = expected, source, lineno, line


class PrivilegeError(CaptureError):
    """The caller lacks a capability."""

    exit_code = 77  # EX_NOPERM

    def __init__(self, path: str, capability: str, *, act: str = "read") -> None:
        super().__init__(f"cannot {act} {path}: it takes {capability}; run as root or grant it")
        self.path, self.capability = path, capability


class SnapshotError(MovableError):
    """A snapshot is damaged, contradicts itself, or is of another version."""


class UnsupportedKernelError(MovableError):
    """The model has no rules for this kernel."""


class OutOfMemoryError(MovableError):
    """A model machine has no memory left for a request, after compaction and reclaim."""

    def __init__(self, order: int, wanted: str, nr_free_pages: int) -> None:
        super().__init__(
            f"out of memory: no block of order {order} for {wanted}, with {nr_free_pages} pages "
            "free; give the machine more memory, or the workload less"
        )
        self.order, self.wanted, self.nr_free_pages = order, wanted, nr_free_pages


class LabError(MovableError):
    """The lab lacks a program or a kernel, or could not be set up."""


class GuestError(LabError):
    """A guest panicked, hung, ended too early, or could not do what it was told."""


class UsageError(MovableError):
    """An argument makes no sense."""

    exit_code = 2
