"""Bugs of history as small drivers, each with its fix: what `movable check --bugs` finds.

B1 to B32 happened in Linux; SEED-a to -d are what goes wrong if a step of the 2015 series is left
out; the others (X-...) show a rule that none of these breaks by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from movable.driver import Driver, Env
from movable.driver.examples.known_bugs import contexts, core, lifetimes, lists, moves
from movable.driver.examples.known_bugs.core import shelf_under
from movable.driver.examples.known_bugs.shelf import Shelf


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug: the driver that has it, the one that does not, and where it shows."""

    id: str
    title: str
    rules: tuple[str, ...]
    """Any of which may be the first that it breaks."""
    scenario: str
    buggy: Callable[[Env], Driver]
    fixed: Callable[[Env], Driver]
    source: str
    """The fix in Linux that it is modelled on."""
    nr_pages: int = 1
    nr_faults: int = 0
    era: str = "6.0"


_SEED = "mm/compaction: enable mobile-page migration (2015 series)"

BUGS: Final = (
    Bug("SEED-a", "plain get_page on a page that may be free", ("R2",), "BBF",
        shelf_under(core.PlainGet), Shelf, _SEED),
    Bug("SEED-b", "isolation without the page lock", ("L2",), "BBF",
        shelf_under(core.NoTrylock), Shelf, _SEED),
    Bug("SEED-c", "no recheck under the page lock", ("M2",), "BBF",
        shelf_under(core.NoRecheck), Shelf, _SEED),
    Bug("SEED-d", "putback without put_page", ("R3",), "BBF",
        shelf_under(core.PutbackWithoutPut), Shelf, _SEED),
    Bug("B1", "list walk outside the list lock", ("E2",), "DB",
        lists.UnlockedWalk, Shelf, "virtio_balloon: fix race between migration and ballooning",
        nr_pages=2),
    Bug("B2", "putback chosen by reference count", ("S7",), "B",
        shelf_under(core.PutbackByCount), Shelf, "117aad1e9e4d"),
    Bug("B3", "page picked, then locked without a recheck", ("E2", "S7"), "DB",
        lists.PickedThenLocked, lists.PickedThenRechecked, "d6d86c0a7f8d"),
    Bug("B3-code", "a success code of its own", ("C3",), "C",
        moves.SpecialSuccess, Shelf, "d6d86c0a7f8d"),
    Bug("B4", "the new page's state read after unlocking it", ("E2",), "CD",
        shelf_under(core.LateTest), Shelf,
        "mm: migrate: don't rely on __PageMovable() of newpage after unlocking it", era="2015"),
    Bug("B5", "page removed from a list twice", ("E2",), "D",
        lists.RemovedTwice, Shelf, "mm/balloon_compaction: avoid duplicate page removal"),
    Bug("B6", "allocation under a lock that reclaim takes", ("C5",), "NS",
        contexts.AllocatesUnderTheMutex, contexts.AllocatesFirst, "c7cdff0e8647"),
    Bug("B7", "the lock is found through what it protects", ("DR1",), "BD",
        contexts.LockThroughThePage, contexts.LockFirst, "8202313e3dfa"),
    Bug("B8", "error after ownership has moved", ("D4",), "C",
        moves.ErrorAfterGivingUp, moves.AsksFirst, "4ba5a8a7faa6", nr_faults=1),
    Bug("B9", "a counter not moved with the page", ("E1",), "C",
        lists.CounterStays, Shelf, "0da2ba35c0d5"),
    Bug("B10", "a chain walked while migration rewrites it", ("DR1",), "CA",
        lifetimes.ChainWalkUnlocked, lifetimes.ChainWalkLocked, "2505a981114d"),
    Bug("B11", "pool destroyed while a page is isolated", ("M7",), "BT",
        lifetimes.PoolGoesFirst, Shelf, "701d678599d0"),
    Bug("B12", "the last object freed while isolated", ("E1",), "BF",
        lists.EmptyStays, lists.EmptyIsFreed, "1a87aa03597e"),
    Bug("B13", "two fields of one word under two locks", ("E1",), "BA",
        moves.PackedWord, moves.PackedWordOneLock, "4b5d1e47b694"),
    Bug("B14", "a handle's word reused while it is read", ("DR1",), "FA",
        lifetimes.HandleReused, lifetimes.HandleKept, "85b325815f49"),
    Bug("B15", "work queued when its pool is gone", ("E3",), "BT",
        lifetimes.WorkOutlivesPool, lifetimes.WorkFlushed, "d776aaa9895e"),
    Bug("B15-wake", "waiting for what nobody announces", ("E4",), "BT",
        lifetimes.NobodyWakes, lifetimes.WaitsFirst, "revert of d776aaa9895e"),
    Bug("B16", "early return with the lock held", ("L3",), "B",
        contexts.ReturnsLocked, contexts.ReturnsUnlocked,
        "mm/z3fold.c: fix lock/unlock imbalance in z3fold_page_isolate", nr_faults=1),
    Bug("B17", "the callback takes the lock its caller has", ("C2",), "C",
        moves.LocksItsArgument, Shelf, "be03074c9af2"),
    Bug("B17-live", "no page ever moves", ("V1",), "C",
        moves.NeverReady, Shelf, "be03074c9af2"),
    Bug("B18", "page made movable without its lock", ("M1",), "N",
        contexts.MarkedUnlocked, Shelf, "810481a24608"),
    Bug("B19", "queued work left with the old page", ("D6", "D3"), "CA",
        moves.WorkLeftBehind, moves.WorkRefused,
        "mm/z3fold.c: reinitialize zhdr structs after migration"),
    Bug("B20", "check, then claim", ("M1", "M4", "E2", "R6"), "FD",
        contexts.CheckThenClaim, contexts.TestAndSet,
        "mm/z3fold.c: claim page in the beginning of free"),
    Bug("B21", "stale handle between unlock and re-encode", ("D2",), "CA",
        moves.LocksReleasedEarly, Shelf, "943fb61dd66f"),
    Bug("B22", "putback forgets the driver's list", ("E1",), "B",
        lists.ForgetfulPutback, Shelf, "6cf9a34967ed"),
    Bug("B23", "sleeping allocation under a spinlock", ("C1",), "A",
        contexts.SleepsInAtomic, contexts.AtomicAllocation, "4c6bdb36408f"),
    Bug("B24", "isolation without a safe reference", ("R6",), "BF",
        shelf_under(core.NoReference), Shelf, "0eb2df2b5629"),
    Bug("B25", "a write between lookup and migration", ("D2", "D6"), "CA",
        moves.WritesOutsideTheLock, Shelf,
        "aio: v4 ensure access to ctx->ring_pages is correctly serialised for migration"),
    Bug("B26", "users checked, then the lock dropped", ("D2", "D6"), "CA",
        moves.CheckedThenUnlocked, moves.CheckedUnderTheLock, "ebdf4de5642f"),
    Bug("B27", "a copy that sleeps under a spinlock", ("C1",), "CA",
        moves.SleepsUnderTheLock, moves.CheckedUnderTheLock, "2d900efff915"),
    Bug("B28", "the owner looked up without the page lock", ("M2", "M7"), "BT",
        shelf_under(core.NoRecheck), Shelf, "69d763fc6d3a"),
    Bug("B29", "a slab page that looks marked", ("M5",), "B",
        core.SlabUnderTagOnly, core.SlabUnderSkipsSlab, "8b8817630ae8"),
    Bug("B30", "waiting with another page's lock held", ("C7",), "CC",
        shelf_under(core.BatchLocks), Shelf, "fb3592c41a44", nr_pages=2),
    Bug("B31", "a translation cached across a migration", ("D6", "D2"), "CA",
        moves.CachedTranslation, Shelf, "dd5712f3379c"),
    Bug("B32", "isolated pages forgotten on an early exit", ("S5",), "C",
        shelf_under(core.EarlyReturn), shelf_under(core.WholeList), "6e49019db5f7", nr_faults=1),
    Bug("X-R1", "a count set over another's reference", ("R1",), "BD",
        lifetimes.SetsTheCount, lifetimes.FreezesTheCount, "4231aba000f5"),
    Bug("X-R4", "a page freed twice", ("R4",), "D", contexts.PutsTwice, Shelf, ""),
    Bug("X-R3", "a reference kept", ("R3",), "A", lifetimes.KeepsAReference, Shelf, ""),
    Bug("X-R5", "the new page without a reference", ("R5",), "C",
        moves.NoReferenceToDestination, Shelf, ""),
    Bug("X-L1", "a lock released by another", ("L1",), "BBA",
        contexts.ForeignUnlock, contexts.OwnUnlock, ""),
    Bug("X-L4", "a thread ends with a page locked", ("L4",), "A",
        lifetimes.LeavesThreadLocked, Shelf, ""),
    Bug("X-L4f", "a page freed while locked", ("L4",), "D", contexts.FreesLocked, Shelf, ""),
    Bug("X-L5", "two locks in both orders", ("L5", "L7"), "BA",
        contexts.OppositeOrders, Shelf, ""),
    Bug("X-L5-seq", "two orders that never meet here", ("L5",), "A",
        contexts.BothOrdersInTurn, Shelf, ""),
    Bug("X-L7", "two pages locked in both orders", ("L7",), "DA",
        contexts.OppositePages, contexts.SameOrderOfPages, "", nr_pages=2),
    Bug("X-R6", "waiting for the lock of a page without a reference", ("R6",), "FA",
        lifetimes.WaitsWithoutReference, lifetimes.WaitsWithReference, "3c226c637b69"),
    Bug("X-M4", "a handle that leads nowhere is followed", ("M4",), "FA",
        lifetimes.FollowsNull, Shelf, ""),
    Bug("X-L6", "a lock taken twice", ("L6",), "B", contexts.TakesTwice, Shelf, ""),
    Bug("X-S1", "a second isolation agreed to", ("S1",), "BB",
        lists.AgreesTwice, lists.RefusesTheSecond, "", era="2015"),
    Bug("X-S3", "a page put back twice", ("S3",), "B",
        shelf_under(core.PutbackTwice), Shelf, ""),
    Bug("X-M3", "a page put back that its owner released", ("M3",), "BF",
        shelf_under(core.PutbackReleased), Shelf, ""),
    Bug("X-S2", "the driver marks the page isolated", ("S2",), "B",
        contexts.MarksIsolated, Shelf, ""),
    Bug("X-S6", "an isolated page left on the driver's list", ("S6",), "B",
        lists.StaysListed, Shelf, ""),
    Bug("X-S7", "free ignores isolation", ("S7",), "BF", lists.FreeIgnoresIsolation, Shelf, ""),
    Bug("X-M6", "a marked page freed", ("M6",), "D", contexts.FreesMarked, Shelf, ""),
    Bug("X-C3", "success without giving the page up", ("C3",), "C",
        lifetimes.ForgetsSource, Shelf, ""),
    Bug("X-C4", "a refusal that changes something", ("C4",), "B",
        lists.RefusesAndChanges, lists.RefusesFirst, "", nr_faults=1),
    Bug("X-D1", "contents left behind", ("D1",), "C", moves.NoCopy, Shelf, ""),
    Bug("X-D3", "a handle that leads to a free page", ("D3",), "DA",
        lifetimes.SlotsSurvive, Shelf, ""),
    Bug("X-D5", "a list link copied with its page", ("D5",), "C",
        moves.HeaderCopied, moves.HeaderMadeAnew,
        "mm/z3fold.c: reinitialize zhdr structs after migration"),
    Bug("X-E1", "a page nobody owns", ("E1",), "A", lifetimes.ForgetsCopyOfPage, Shelf, ""),
)  # fmt: skip
"""In the order a report lists them."""
