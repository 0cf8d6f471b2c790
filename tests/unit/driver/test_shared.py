"""The primitives, run alone."""

import subprocess
import sys

import pytest

from movable.driver import GFP_ATOMIC, GFP_KERNEL, ContractViolation, run
from movable.driver.locks import RwLock
from unit.driver.alone import AloneEnv


def test_importing_the_driver_package_loads_neither_numpy_nor_numba() -> None:
    program = "import movable.driver, sys; print({'numpy', 'numba'} & set(sys.modules))"

    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert said.stdout.strip() == "set()"


def test_a_removed_entry_is_poisoned() -> None:
    env = AloneEnv()
    pages = env.list_head("pages")
    node = env.node("node")

    async def twice() -> None:
        await pages.add(node)
        await pages.remove(node)
        await pages.remove(node)

    with pytest.raises(ContractViolation, match="E2: main removes node on pages"):
        run(twice())


def test_an_entry_is_on_one_list() -> None:
    env = AloneEnv()
    one, other, node = env.list_head("one"), env.list_head("other"), env.node("node")

    async def add_to_both() -> None:
        await one.add(node)
        await other.add(node)

    with pytest.raises(ContractViolation, match="S6: main adds node to other, but it is on one"):
        run(add_to_both())


def test_a_list_keeps_its_order() -> None:
    env = AloneEnv()
    linked = env.list_head("list")
    nodes = [env.node(name) for name in "abc"]

    async def fill() -> None:
        await linked.add(nodes[1])
        await linked.add(nodes[0])
        await linked.add_tail(nodes[2])

    run(fill())

    assert [str(node) for node in linked.entries()] == ["a", "b", "c"]


def test_sleeping_with_a_spinlock_held_is_a_violation() -> None:
    env = AloneEnv()
    spinlock, mutex = env.spinlock("spinlock"), env.mutex("mutex")

    async def nest() -> None:
        async with spinlock, mutex:
            pass

    with pytest.raises(ContractViolation, match=r"C1: main does lock\(mutex\), which may sleep"):
        run(nest())


@pytest.mark.parametrize(("gfp", "is_fine"), [(GFP_ATOMIC, True), (GFP_KERNEL, False)])
def test_allocation_under_a_spinlock_must_be_atomic(gfp: str, is_fine: bool) -> None:
    env = AloneEnv()
    spinlock = env.spinlock("spinlock")

    async def allocate() -> bool:
        async with spinlock:
            return await env.alloc_page(gfp) is not None

    if is_fine:
        assert run(allocate())
    else:
        with pytest.raises(ContractViolation, match="C1"):
            run(allocate())


def test_only_the_owner_unlocks() -> None:
    env = AloneEnv()
    mutex = env.mutex("mutex")

    async def unlock() -> None:
        await mutex.unlock()

    with pytest.raises(ContractViolation, match="L1: main releases mutex, which nobody holds"):
        run(unlock())


def test_readers_share_and_a_writer_does_not() -> None:
    lock = RwLock(AloneEnv(), "lock")

    async def read_and_try_to_write() -> bool:
        async with lock.reading:
            return await lock.write_trylock()

    assert run(read_and_try_to_write()) is False


def test_two_fields_of_a_word_are_read_and_written_as_a_whole() -> None:
    word = AloneEnv().packed("word", one=1, two=2)

    async def change() -> int:
        await word.write("one", 5)
        return await word.read("two")

    assert run(change()) == 2
    assert dict(word.current) == {"one": 5, "two": 2}


def test_work_runs_when_the_program_settles() -> None:
    env = AloneEnv()
    done: list[str] = []

    async def function() -> None:
        done.append("ran")

    work = env.work("work", function)

    async def queue_twice() -> tuple[bool, bool]:
        return await work.queue(), await work.queue()

    assert run(queue_twice()) == (True, False)
    env.settle()
    assert done == ["ran"]


def test_cancelled_work_does_not_run() -> None:
    env = AloneEnv()
    done: list[str] = []

    async def function() -> None:
        done.append("ran")

    work = env.work("work", function)

    async def queue_and_cancel() -> None:
        await work.queue()
        await work.cancel()

    run(queue_and_cancel())
    env.settle()

    assert done == []


def test_waiting_alone_for_what_nobody_does_is_found() -> None:
    env = AloneEnv()
    queue, flag = env.wait_queue("queue"), env.atomic(0, "flag")

    async def wait() -> None:
        await queue.wait_event(lambda: flag.current == 1, flag)

    with pytest.raises(ContractViolation, match="L7: main waits for queue for ever"):
        run(wait())


def test_flags_are_tested_and_set_at_once() -> None:
    flags = AloneEnv().flags("flags")

    async def claim_twice() -> tuple[bool, bool]:
        return await flags.test_and_set(3), await flags.test_and_set(3)

    assert run(claim_twice()) == (False, True)


def test_putting_a_page_without_references_is_told_from_freeing_it_twice() -> None:
    env = AloneEnv()
    page = env.take_page()
    assert page is not None

    async def put_twice() -> None:
        await page.put()
        await page.put()

    with pytest.raises(ContractViolation, match="R4: main drops a reference to p0"):
        run(put_twice())
