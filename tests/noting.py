"""A driver whose threads note what they observe, around one page."""

from movable.driver import Driver, Env
from movable.driver.env import GFP_HIGHUSER_MOVABLE


class Noting(Driver):
    """Ends are equal only if all threads saw the same: `saw` is what each observed, in order."""

    nr_references = 1

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        nothing: tuple[object, ...] = ()
        self.saw = [env.cell(nothing, f"saw {thread}") for thread in range(4)]
        page = env.take_page(GFP_HIGHUSER_MOVABLE)
        assert page is not None
        self.page = page
        env.heap[page.at] = self.nr_references

    def note(self, value: object) -> None:
        mine = self.saw[self.env.task.index]
        mine.value = (*mine.value, value)
