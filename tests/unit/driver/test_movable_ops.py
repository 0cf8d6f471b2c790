"""The protocol, run alone: every way out, the references, the eras."""

import pytest

from movable.driver import (
    EAGAIN,
    EBUSY,
    ContractViolation,
    MigrateMode,
    Page,
    page_movable,
    putback_movable_page,
    run,
    set_page_movable,
)
from unit.driver.alone import AloneEnv, Plain, marked_page

MAINLINE = ["4.8", "6.0"]


def locked(page: Page) -> None:
    async def lock() -> None:
        await page.lock()

    run(lock())


def unlocked(page: Page) -> None:
    async def unlock() -> None:
        await page.unlock()

    run(unlock())


@pytest.mark.parametrize("era", ["2015", "4.8", "6.0"])
def test_isolation_takes_one_reference_and_leaves_the_page_unlocked(era: str) -> None:
    env = AloneEnv(era)
    page = marked_page(env, Plain(env))

    assert env.isolate(page)

    assert env.count(page) == 2
    assert page.is_isolated
    locked(page)  # It would wait for ever if somebody had it.


def test_a_free_page_is_not_isolated_and_stays_free() -> None:
    env = AloneEnv()
    page = Page(env, 7)

    assert not env.isolate(page)

    assert env.count(page) == 0


def test_a_page_without_the_mark_is_not_isolated_and_keeps_its_references() -> None:
    env = AloneEnv()
    page = env.take_page()
    assert page is not None

    assert not env.isolate(page)

    assert env.count(page) == 1


def test_a_locked_page_is_not_waited_for() -> None:
    env = AloneEnv()
    driver = Plain(env)
    page = marked_page(env, driver)
    locked(page)

    assert not env.isolate(page)

    assert driver.calls == []
    assert env.count(page) == 1


def test_a_refusal_of_the_driver_undoes_everything() -> None:
    env = AloneEnv()
    driver = Plain(env)
    driver.agrees = False
    page = marked_page(env, driver)

    assert not env.isolate(page)

    assert driver.calls == ["isolate p0"]
    assert env.count(page) == 1
    assert not page.is_isolated
    locked(page)


@pytest.mark.parametrize("era", MAINLINE)
def test_an_isolated_page_is_not_isolated_again(era: str) -> None:
    env = AloneEnv(era)
    driver = Plain(env)
    page = marked_page(env, driver)
    assert env.isolate(page)

    assert not env.isolate(page)

    assert driver.calls == ["isolate p0"]
    assert env.count(page) == 2


def test_in_2015_the_driver_itself_must_refuse_a_second_isolation() -> None:
    env = AloneEnv("2015")
    page = marked_page(env, Plain(env))
    assert env.isolate(page)

    with pytest.raises(ContractViolation, match="S1: main isolates p0 a second time"):
        env.isolate(page)


def test_putback_gives_the_page_back_and_drops_the_reference() -> None:
    env = AloneEnv()
    driver = Plain(env)
    page = marked_page(env, driver)
    env.isolate(page)

    run(putback_movable_page(page))

    assert driver.calls == ["isolate p0", "putback p0"]
    assert env.count(page) == 1
    assert not page.is_isolated


def test_putback_of_a_page_its_owner_released_frees_it_without_a_callback() -> None:
    env = AloneEnv()
    driver = Plain(env)
    page = marked_page(env, driver)
    env.isolate(page)
    release(page)

    run(putback_movable_page(page))

    assert driver.calls == ["isolate p0"]
    assert env.free == [page]


def release(page: Page) -> None:
    async def let_go() -> None:
        async with page:
            await page.clear_mark()
        await page.put()

    run(let_go())


def test_migration_moves_contents_and_references_as_linux_tables_them() -> None:
    env = AloneEnv()
    driver = Plain(env)
    src = marked_page(env, driver)
    assert src.data is not None
    src.data[:5] = b"hello"
    env.isolate(src)

    result = env.migrate([src])

    (dst,) = [page for page in env.pages if page is not src]
    assert dst.data is not None
    assert (result.nr_succeeded, result.nr_failed, result.left) == (1, 0, [])
    assert bytes(dst.data[:5]) == b"hello"
    assert env.count(dst) == 1
    assert env.free == [src]
    assert dst.is_owned


def test_a_page_released_while_isolated_counts_as_moved_without_a_destination() -> None:
    env = AloneEnv()
    driver = Plain(env)
    page = marked_page(env, driver)
    env.isolate(page)
    release(page)

    result = env.migrate([page])

    assert result.nr_succeeded == 1
    assert driver.calls == ["isolate p0"]
    assert env.free == [page]
    assert env.pages == [page]


def test_eagain_is_asked_ten_times_at_most() -> None:
    env = AloneEnv()
    driver = Plain(env)
    driver.answers = [-EAGAIN] * 99
    page = marked_page(env, driver)
    env.isolate(page)

    result = env.migrate([page])

    assert result.left == [page]
    assert len(driver.calls) - 1 == 10
    assert len(env.free) == 10, "each try gives its destination back"


def test_another_error_is_final() -> None:
    env = AloneEnv()
    driver = Plain(env)
    driver.answers = [-EBUSY]
    page = marked_page(env, driver)
    env.isolate(page)

    result = env.migrate([page])

    assert result.left == [page]
    assert len(driver.calls) - 1 == 1


def test_batches_ask_three_times_in_async_mode_first() -> None:
    env = AloneEnv("6.17")
    driver = Plain(env)
    driver.page_type = type(driver.page_type).OFFLINE
    env.register(driver)
    driver.answers = [-EAGAIN] * 99
    page = marked_page(env, driver)
    env.isolate(page)

    env.migrate([page])

    modes = [call.rsplit(" ", 1)[1] for call in driver.calls[1:]]
    assert modes == ["ASYNC"] * 3 + ["SYNC"] * 7


def test_before_batches_every_pass_is_in_the_mode_asked_for() -> None:
    env = AloneEnv("6.0")
    driver = Plain(env)
    driver.answers = [-EAGAIN] * 99
    page = marked_page(env, driver)
    env.isolate(page)

    env.migrate([page], MigrateMode.SYNC_LIGHT)

    assert {call.rsplit(" ", 1)[1] for call in driver.calls[1:]} == {"SYNC_LIGHT"}


def test_async_migration_gives_a_locked_page_up_after_its_passes() -> None:
    env = AloneEnv()
    driver = Plain(env)
    page = marked_page(env, driver)
    env.isolate(page)
    locked(page)

    result = env.migrate([page], MigrateMode.ASYNC)

    assert result.left == [page]
    assert len(env.free) == 10


def test_without_compaction_checks_are_false_and_acts_do_nothing() -> None:
    env = AloneEnv(compaction=False)
    driver = Plain(env)
    page = env.take_page()
    assert page is not None
    run(set_page_movable(page, driver))

    isolated = env.isolate(page)
    run(putback_movable_page(page))

    assert not isolated
    assert not run(page_movable(page))
    assert driver.calls == []
    assert env.count(page) == 1


def test_a_marked_page_cannot_be_marked_again() -> None:
    env = AloneEnv("2015")
    page = marked_page(env, Plain(env))
    locked(page)

    with pytest.raises(ContractViolation, match="M1: main marks p0 movable, but it is marked"):
        run(set_page_movable(page, Plain(env)))


def test_a_page_is_not_marked_without_its_lock() -> None:
    env = AloneEnv()
    page = env.take_page()
    assert page is not None

    with pytest.raises(ContractViolation, match="M1: main marks p0 without its page lock"):
        run(set_page_movable(page, Plain(env)))


def test_a_callback_that_keeps_a_lock_is_named() -> None:
    class Keeps(Plain):
        async def putback_page(self, page: Page) -> None:
            await self.env.spinlock("its lock").lock()

    env = AloneEnv()
    page = marked_page(env, Keeps(env))
    env.isolate(page)

    with pytest.raises(ContractViolation, match=r"L3: putback_page.p0. returned still holding its"):
        run(putback_movable_page(page))

    assert env.abandon() == ["p0", "its lock"]
    locked(page)  # Abandoning freed it.


@pytest.mark.parametrize("answer", [True, None, 5, -5000])
def test_migrate_returns_zero_or_an_errno(answer: object) -> None:
    class Odd(Plain):
        async def migrate_page(self, dst: Page, src: Page, mode: MigrateMode) -> int:
            return answer  # type: ignore[return-value]

    env = AloneEnv()
    page = marked_page(env, Odd(env))
    env.isolate(page)

    with pytest.raises(ContractViolation, match="C3: migrate_page returned"):
        env.migrate([page])


def test_unlocking_the_page_of_a_callback_is_refused() -> None:
    class Unlocks(Plain):
        async def putback_page(self, page: Page) -> None:
            await page.unlock()

    env = AloneEnv()
    page = marked_page(env, Unlocks(env))
    env.isolate(page)

    with pytest.raises(ContractViolation, match="C2"):
        run(putback_movable_page(page))
