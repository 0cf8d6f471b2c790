"""What differs between kernels, and that one driver class runs in all of them."""

import pytest

from movable.driver import EBUSY, EINVAL, ERAS, ContractViolation, PageType, era_of, run
from movable.driver.examples.balloon import Balloon
from movable.driver.examples.gpu import Gpu
from movable.driver.examples.zsmalloc import Zsmalloc
from movable.driver.fields import MARK
from movable.errors import UsageError
from unit.driver.alone import AloneEnv, Plain, marked_page


@pytest.mark.parametrize("era", ERAS)
def test_a_balloon_moves_all_its_pages_in_every_era(era: str) -> None:
    env = AloneEnv(era)
    balloon = Balloon(env)
    pages = [run(balloon.inflate()) for _ in range(8)]

    isolated = [page for page in pages if page is not None and env.isolate(page)]
    result = env.migrate(isolated)

    assert result.nr_succeeded == 8
    assert {str(page) for page in env.free} == {f"p{number}" for number in range(8)}
    assert balloon.counts_are_right()


@pytest.mark.parametrize("era", ["2015", "4.8", "6.0"])
def test_graphics_buffers_keep_their_contents(era: str) -> None:
    env = AloneEnv(era)
    gpu = Gpu(env)
    buffer = run(gpu.create())
    assert buffer is not None
    run(gpu.write(buffer, b"pixels"))

    env.isolate(env.pages[0])
    result = env.migrate([env.pages[0]])

    assert result.nr_succeeded == 1
    assert run(gpu.read(buffer)) == b"pixels"
    assert gpu.pages_know_their_buffers()


def test_since_6_17_a_graphics_driver_cannot_register_and_its_pages_stay() -> None:
    env = AloneEnv("6.17")
    gpu = Gpu(env)
    run(gpu.create())

    assert env.register(gpu) == -EINVAL
    assert not env.isolate(env.pages[0])


def test_since_6_17_a_type_has_one_driver() -> None:
    env = AloneEnv("6.17")
    first = Balloon(env)

    assert env.register(first) == 0
    assert env.register(Balloon(env)) == -EBUSY


def test_since_6_17_marking_with_an_unregistered_type_is_a_violation() -> None:
    env = AloneEnv("6.17")

    with pytest.raises(ContractViolation, match="M5"):
        marked_page(env, Plain(env))


@pytest.mark.parametrize("era", ERAS)
def test_handles_stay_valid_over_migration(era: str) -> None:
    env = AloneEnv(era)
    pool = Zsmalloc(env)
    handles = [run(pool.alloc(size)) for size in (10, 60, 300, 2000, 4096) for _ in range(20)]
    for number, handle in enumerate(handles):
        assert handle is not None
        run(pool.write(handle, b"object %d" % number))

    result = env.migrate([page for page in list(env.pages) if env.isolate(page)])

    assert result.nr_failed == 0
    assert result.nr_succeeded > 10
    for number, handle in enumerate(handles):
        assert handle is not None
        assert run(pool.load(handle)) == b"object %d" % number
    assert pool.pages_know_their_zspages()


@pytest.mark.parametrize("era", ERAS)
def test_an_emptied_pool_has_no_page(era: str) -> None:
    env = AloneEnv(era)
    pool = Zsmalloc(env)
    handles = [run(pool.alloc(2000)) for _ in range(9)]

    for handle in handles:
        assert handle is not None
        run(pool.free(handle))

    assert len(env.free) == len(env.pages) == 6, "three zspages of two pages, four objects each"


@pytest.mark.parametrize(
    ("era", "kind", "mark"),
    [
        ("2015", PageType.DRIVER, -255),
        ("2015", PageType.OFFLINE, -256),
        ("4.8", PageType.OFFLINE, -1),
        ("6.0", PageType.ZSMALLOC, -1),
    ],
)
def test_the_mark_in_the_mapcount_is_that_of_the_kernel(
    era: str, kind: PageType, mark: int
) -> None:
    env = AloneEnv(era)
    driver = Plain(env)
    driver.page_type = kind

    page = marked_page(env, driver)

    assert env.heap[page.at + MARK] == mark


@pytest.mark.parametrize(
    ("era", "isolated", "bits"),
    [
        ("2015", False, {23}),
        ("4.8", False, set()),
        ("4.8", True, {9}),
        ("6.17", False, {3, 23}),
        ("6.17", True, {3, 9, 23}),
    ],
)
def test_kpageflags_of_a_balloon_page(era: str, isolated: bool, bits: set[int]) -> None:
    mark = era_of(era).mark_value(PageType.OFFLINE)

    word = era_of(era).kpageflags(mark, isolated=isolated)

    assert {bit for bit in range(64) if word >> bit & 1} == bits


def test_every_era_names_the_same_functions() -> None:
    names = [set(era.names) for era in ERAS.values()]

    assert all(other == names[0] for other in names)


def test_an_unknown_era_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no era '5\.0': there are 2015, 4\.8, 6\.0, 6\.17"):
        era_of("5.0")
