"""The protocol of `movable_ops` for a program that runs alone: its everyday case, in one piece.

Where nothing can run in between, what the protocol does around a callback is a few assignments.
Here they are made at once, if each test on the way would pass; if one would not, the text in
`movable_ops` is run instead, from its beginning, before anything has changed.  What a callback owes
is checked there in any case.  `tests/property/test_alone.py` runs both on the same pages.
"""

from movable.driver import movable_ops
from movable.driver.alone import AlonePage
from movable.driver.movable_ops import NewPage, PutPage, check_isolated, check_migrated
from movable.driver.protocol import ENOMEM, IsolateMode, MigrateMode


async def isolate_movable_page(page: AlonePage, mode: IsolateMode) -> bool:
    """Isolate `page` if its driver agrees: `movable_ops.isolate_movable_page`."""
    env, task = page.env, page.task
    ops = page.ops
    if (
        not ops
        or page.nr_refs <= 0
        or page.life == "freed"
        or page.locked_by is not None
        or page.isolation
        or (env.era.mark_is_sticky and page.current_owner is not ops[0])
        or env.heap[env.alive_at]
        or task.arguments
        or page.is_slab
        or not env.compaction
    ):
        return await movable_ops.isolate_movable_page(page, mode)
    held = task.held
    page.nr_refs += 1
    page.locked_by = task
    held.append(page)
    env.entering(page, "isolate_page", ops[0])
    task.arguments, task.entered_with, task.changes = (page,), held.copy(), {}
    agreed = check_isolated(page, await ops[0].isolate_page(page, mode))
    if agreed:
        if page.life == "freed" or isinstance(page.lru, tuple):
            await page.set_isolated()  # Breaks a rule.
        page.isolation = True
        env.note("isolated", page)
    page.locked_by = None
    held.remove(page)
    if not agreed:
        await page.put()
    return agreed


async def unmap_and_move(
    src: AlonePage, new_page: NewPage, put_new_page: PutPage, mode: MigrateMode, *, wait: bool
) -> int:
    """Migrate one isolated page to a new one: `movable_ops.unmap_and_move`."""
    env, task = src.env, src.task
    ops = src.ops
    if (
        not ops
        or src.nr_refs <= 1
        or src.life == "freed"
        or src.locked_by is not None
        or not src.isolation
        or (env.era.mark_is_sticky and src.current_owner is not ops[0])
        or env.heap[env.alive_at]
        or task.arguments
    ):
        return await movable_ops.unmap_and_move(src, new_page, put_new_page, mode, wait=wait)
    dst = await new_page()
    if dst is None:
        return -ENOMEM
    assert isinstance(dst, AlonePage)
    held = task.held
    src.locked_by = dst.locked_by = task
    held.append(src)
    held.append(dst)
    env.entering(src, "migrate_page", ops[0])
    task.arguments, task.entered_with, task.changes = (dst, src), held.copy(), {}
    result = check_migrated(ops[0], dst, src, await ops[0].migrate_page(dst, src, mode))
    if result == 0:
        src.isolation, src.moved = False, True
        env.note("migrated", src)
    src.locked_by = dst.locked_by = None
    held.remove(dst)
    held.remove(src)
    if result:
        await put_new_page(dst)
        return result
    await src.put()
    if dst.nr_refs > 1:
        dst.nr_refs -= 1
    else:
        await dst.put()
    return 0
