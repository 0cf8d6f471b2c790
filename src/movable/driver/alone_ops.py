"""The protocol of `movable_ops` for a program that runs alone: its everyday case, in one piece.

Where nothing can run in between, what the protocol does around a callback is a few assignments.
Here they are made at once, if each test on the way would pass; if one would not, the text in
`movable_ops` is run instead, from its beginning, before anything has changed.  What a callback owes
is checked there in any case.  `tests/property/test_alone.py` runs both on the same pages.
"""

from collections.abc import Callable

from movable.driver import movable_ops
from movable.driver.alone import AlonePage
from movable.driver.movable_ops import NewPage, PutPage, check_isolated, check_migrated
from movable.driver.protocol import ENOMEM, IsolateMode, MigrateMode


async def isolate_movable_page(page: AlonePage, mode: IsolateMode) -> bool:
    """Isolate `page` if its driver agrees: `movable_ops.isolate_movable_page`."""
    env, task, ops = page.env, page.task, page.ops
    held = task.held
    if (
        not ops
        or page.nr_refs <= 0
        or page.life == "freed"
        or page.locked_by is not None
        or page.isolation
        or held
        or task.arguments
        or (env.era.mark_is_sticky and page.current_owner is not ops[0])
        or env.heap[env.alive_at]
        or not env.compaction
    ):
        return await movable_ops.isolate_movable_page(page, mode)
    page.nr_refs += 1
    page.locked_by = task
    held.append(page)
    env.entered = page, "isolate_page"
    task.arguments, task.entered_with, task.changes = (page,), [page], {}
    agreed = check_isolated(page, await ops[0].isolate_page(page, mode))
    if agreed:
        if page.life == "freed" or page.on is not None:
            await page.set_isolated()  # Breaks a rule.
        page.isolation = True
        if env.notes_everyday:
            env.note("isolated", page)
    page.locked_by = None
    held.clear()
    if not agreed:
        await page.put()
    return agreed


async def unmap_and_move(
    src: AlonePage,
    new_page: NewPage,
    put_new_page: PutPage,
    mode: MigrateMode,
    wait: bool,
    draw: Callable[[], AlonePage | None],
) -> int:
    """Migrate one isolated page to a new one: `movable_ops.unmap_and_move`.

    Args:
        src, new_page, put_new_page, mode, wait: as there.
        draw: what `new_page` does, at once.
    """
    env, task, ops = src.env, src.task, src.ops
    held = task.held
    if (
        not ops
        or src.nr_refs <= 1
        or src.life == "freed"
        or src.locked_by is not None
        or not src.isolation
        or held
        or task.arguments
        or (env.era.mark_is_sticky and src.current_owner is not ops[0])
        or env.heap[env.alive_at]
    ):
        return await movable_ops.unmap_and_move(src, new_page, put_new_page, mode, wait)
    dst = draw()
    if dst is None:
        return -ENOMEM
    src.locked_by = dst.locked_by = task
    held += (src, dst)
    env.entering(src, "migrate_page", ops[0])
    task.arguments, task.entered_with, task.changes = (dst, src), [src, dst], {}
    result = check_migrated(ops[0], dst, src, await ops[0].migrate_page(dst, src, mode))
    src.locked_by = dst.locked_by = None
    held.clear()
    if result:
        await put_new_page(dst)
        return result
    src.isolation, src.moved = False, True
    if env.notes_everyday:
        env.note("migrated", src)
    await src.put()
    if dst.nr_refs > 1:
        dst.nr_refs -= 1
    else:
        await dst.put()
    return 0
