"""What long work shows: a bar on a terminal, and in a log file a line from time to time."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text
from torch import Tensor

from ..data.files.check import Progress as Looked
from ..hooks import due
from ..metrics.metric import Counting
from ..recipe import Hook
from ..system import dist
from ..system.devices import peak_memory
from ..system.output import literal, say, screen
from ..system.sizes import show_size
from ..trainer import Trainer

OFTEN, RARER = 30.0, 0.05  # seconds between two lines of a log at least, and as a share of the time since the start


class Progress(Hook):
    """The bar, with the losses and the memory below it; off a terminal a line every 30 seconds, at the next step that
    the log takes, and rarer as hours go by."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = _Bar(
            BarColumn(None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]} images/s"),
            console=console,
            disable=console.quiet,
            speed_estimate_period=900,  # the time left is of the last 1000 steps in it: slow steps need a long one
            expand=True,
        )
        self.recent: deque[tuple[float, int]] = deque(maxlen=50)
        self.began = self.said = 0.0

    def start(self, trainer: Trainer) -> None:
        """Show the bar, from where the training stands."""
        self.began = self.said = time.perf_counter()
        self.recent.append((self.began, trainer.done))
        self.task = self.bar.add_task("", total=trainer.recipe.steps, completed=trainer.done, rate="-")
        self.bar.start()

    def after_step(self, trainer: Trainer, losses: Mapping[str, Tensor]) -> None:
        """Move the bar on; where the log takes the step, with the losses."""
        step, now = trainer.done, time.perf_counter()
        self.recent.append((now, step))
        (began, first) = self.recent[0]
        per_step = trainer.batches.batch_size * dist.world() * len(trainer.recipe.data.domains)
        rate = (step - first) * per_step / (now - began)
        self.bar.update(self.task, completed=step, rate=f"{rate:.3g}" if rate < 10 else f"{rate:.0f}")
        if not due(trainer):  # only then losses are those of all ranks
            return
        long_ago = now - self.said >= max(OFTEN, RARER * (now - self.began))
        if self.console.is_terminal:
            self.bar.losses = f"{summary(losses)}  (step {step}, {show_size(peak_memory(trainer.device))} at most)"
        elif long_ago or step in (1, trainer.recipe.steps):
            self.said = now
            self.console.print(f"step {step} of {trainer.recipe.steps}, {rate:.0f} images/s  {summary(losses)}")

    def close(self) -> None:
        """Leave the terminal as it was, however the training ended."""
        self.bar.stop()


class _Bar(Bar):
    """A bar as wide as the terminal leaves room for, and the losses in a row below, so that no time is cut."""

    losses = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self.losses)


def summary(losses: Mapping[str, Tensor]) -> str:
    """The terms of a step in short: the mean of each kind of loss, `gan_d 0.48  kl 1.2  l1 0.09`."""
    kinds: dict[str, list[float]] = {}
    for name, value in losses.items():
        kinds.setdefault(re.sub(r"^[^/(]*/|\(.*$", "", name), []).append(float(value))
    return "  ".join(f"{kind} {sum(values) / len(values):.3g}" for kind, values in kinds.items())


@contextmanager
def looking(console: Console) -> Iterator[Looked]:
    """A bar for the look at all images before training, which goes away when it is through."""
    columns = (TextColumn("looking at every image"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:

        def looked(done: int, total: int) -> None:
            task = bar.task_ids[0] if bar.task_ids else bar.add_task("", total=total)
            bar.update(task, completed=done)

        yield looked


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr for work of so many pieces, moved on by what it gives."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = screen(stderr=True)
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(literal(what), total=total)
        yield lambda: bar.advance(task)


@contextmanager
def measuring(what: str, *, quiet: bool = False) -> Iterator[Counting]:
    """That something is measured, on stderr, and how far work is that takes long in it, told of by what this gives; off
    a terminal a line when such work begins, and from time to time."""
    console = screen(stderr=True, quiet=quiet)
    with console.status(literal(what)) as status:

        @contextmanager
        def counted(work: str, steps: int) -> Iterator[Callable[[], None]]:
            began = said = time.perf_counter()
            done = 0
            if not console.is_terminal:
                say(console, f"{what}: {work}, {steps} steps")

            def step() -> None:
                nonlocal done, said
                done += 1
                now = time.perf_counter()
                left = timedelta(seconds=round((now - began) / done * (steps - done)))
                line = f"{what}: {work}, step {done} of {steps}, {left} left"
                if console.is_terminal:
                    status.update(literal(line))
                elif now - said >= OFTEN:
                    said = now
                    say(console, line)

            yield step
            status.update(literal(what))

        yield counted


@contextmanager
def frames_done() -> Iterator[Callable[[int, int | None], None]]:
    """For a video: a bar on stderr with frames a second and the time left, off a terminal a line every 30 seconds and
    rarer. What it gives is told of the frames that are done, and of how many there are where that is known."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]} frames/s"), TextColumn("left"))
    console = screen(stderr=True)
    began: list[tuple[float, int]] = []  # when, and with how many frames from an earlier call
    said = time.perf_counter()
    with Bar(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, rate="-")

        def told(done: int, total: int | None) -> None:
            nonlocal said
            now = time.perf_counter()
            if not began:
                began.append((now, done))
            (start, first), known = began[0], None if total is None else max(total, done)
            rate = (done - first) / max(now - start, 1e-9)
            bar.update(task, completed=done, total=known, rate=f"{rate:.3g}" if rate < 10 else f"{rate:.0f}")
            if not console.is_terminal and now - said >= max(OFTEN, RARER * (now - start)):
                said = now
                of = "" if known is None else f" of {known}"
                left = "" if known is None or not rate else f", {timedelta(seconds=round((known - done) / rate))} left"
                console.print(f"frame {done}{of}, {rate:.3g} frames/s{left}")

        yield told
