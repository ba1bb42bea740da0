"""Where the time of a training step goes: a trace, and a table by tower and by term."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from ..losses import Term
from ..recipe import Hook
from ..system import dist
from .plan import Turn

MARK = "unitkit: "  # before the names of what is told apart
SKIPPED = 3  # steps that warm up: the first ones fill caches, and may compile
BACKWARD = "autograd::engine::evaluate_function"
OTHER = "the rest: optimizers, averages, the loader"


class Profile(Hook):
    """Records some steps early in a training. `trace.json` in the run folder opens in chrome://tracing or Perfetto.

    The steps are computed as without `compile`: what is compiled has no towers and terms any more.

    Args:
        done: is called with this hook once the steps are recorded.
        steps: that are recorded, after those that warm up.

    Attributes:
        rows: after these steps, the milliseconds of a step forward and backward, by tower and term.
    """

    def __init__(self, done: Callable[[Profile], object], steps: int = 5) -> None:
        self.done, self.steps, self.waited = done, steps, 0
        self.rows: dict[str, tuple[float, float]] = {}
        self.path: Path | None = None
        self.labels = ExitStack()
        self.profiler: profile | None = None

    def after_step(self, trainer: Any, losses: Mapping[str, Tensor]) -> None:
        if dist.rank() > 0 or self.rows:
            return
        self.waited += 1
        if self.waited == SKIPPED:
            cuda = [ProfilerActivity.CUDA] if trainer.device.type == "cuda" else []
            self.profiler = profile(activities=[ProfilerActivity.CPU, *cuda])
            self.labels.enter_context(trainer.training_step.computation.plain())
            self.labels.enter_context(_labelled(trainer.training_step))
            self.profiler.start()
        elif self.waited == SKIPPED + self.steps:
            self._end(trainer)

    def finish(self, trainer: Any) -> None:
        if self.profiler is not None and not self.rows:
            self._end(trainer)
        if dist.rank() == 0 and not self.rows:
            trainer.warn(f"nothing was profiled: that begins after {SKIPPED} steps, and there were {self.waited}")

    def _end(self, trainer: Any) -> None:
        assert self.profiler is not None
        self.profiler.stop()
        self.labels.close()
        steps = self.waited - SKIPPED
        if steps:
            self.rows = by_label(self.profiler.events(), steps, trainer.device.type)  # type: ignore[no-untyped-call]
            self.path = trainer.run.path / "trace.json"
            self.profiler.export_chrome_trace(str(self.path))
            self.done(self)

    def lines(self) -> list[tuple[str, str, str, str]]:
        """The table: name, ms a step forward, backward, and share of all; the largest first."""
        whole = sum(one + two for one, two in self.rows.values()) or 1.0
        ordered = sorted(self.rows.items(), key=lambda row: -(row[1][0] + row[1][1]))
        return [(name, f"{f:.2f}", f"{b:.2f}", f"{(f + b) / whole:.1%}") for name, (f, b) in ordered]


def by_label(events: Iterable[Any], steps: int, device: str) -> dict[str, tuple[float, float]]:
    """Milliseconds of a step, forward and backward, by the label around what took them.

    An operator of the backward pass is known by the number that autograd gave the operator of the forward pass; its
    time is that of the label around this one.

    Args:
        events: of torch's profiler.
        steps: that were recorded.
        device: whose time counts, "cpu" or "cuda".
    """
    events = list(events)
    labels = {id(event): _label(event) for event in events}
    forward = {
        event.sequence_nr: labels[id(event)]
        for event in events
        if event.sequence_nr >= 0 and labels[id(event)] and _backward(event) is None
    }
    times: dict[str, list[float]] = {}
    for event in events:
        spent = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
        behind = _backward(event)
        name = labels[id(event)] if behind is None else forward.get(behind.sequence_nr, labels[id(event)])
        times.setdefault(name or OTHER, [0.0, 0.0])[behind is not None] += spent / 1e3 / steps
    return {name: (one, two) for name, (one, two) in times.items() if one + two > 0}


def _ancestors(event: Any) -> Iterable[Any]:
    while event is not None:
        yield event
        event = event.cpu_parent


def _label(event: Any) -> str:
    """The innermost label around an event, "" outside all."""
    return next((each.name.removeprefix(MARK) for each in _ancestors(event) if each.name.startswith(MARK)), "")


def _backward(event: Any) -> Any:
    """The node of the backward pass that an event is of, None in the forward pass."""
    return next((each for each in _ancestors(event) if each.name.startswith(BACKWARD)), None)


@contextmanager
def _labelled(step: Any) -> Iterator[None]:
    """Within the block the stages of towers, the players' terms, and what is around them have labels."""
    names: dict[nn.Module, list[str]] = {}
    for part in step.computation.model.parts:
        for letter, tower in getattr(step.computation.model, part).items():
            for stage in tower.stages:
                names.setdefault(stage, []).append(f"{part[:-1]} {letter}")
    entered: list[ExitStack] = []

    def enter(stage: nn.Module, _: Any) -> None:
        entered.append(ExitStack())
        entered[-1].enter_context(record_function(MARK + ", ".join(dict.fromkeys(names[stage]))))

    def leave(*_: Any) -> None:
        entered.pop().close()

    hooks = [stage.register_forward_pre_hook(enter) for stage in names]
    # A forward pass that is computed again ends, by an exception, as soon as it has what backward needs.
    hooks += [stage.register_forward_hook(leave, always_call=True) for stage in names]
    phases, computation = dict(step.plan.phases), step.computation
    step.plan.phases |= {
        moving: phase._replace(turns=tuple(turn._replace(terms=_terms(turn)) for turn in phase.turns))
        for moving, phase in phases.items()
    }
    images, backward = computation.images, computation.backward
    computation.images = _named(lambda *_: "the image pass besides", images)
    computation.backward = _named(lambda turn, *_: f"the turn of '{turn.player.name}' besides", backward)
    try:
        yield
    finally:
        del computation.images, computation.backward
        step.plan.phases |= phases
        for hook in hooks:
            hook.remove()


def _terms(turn: Turn) -> tuple[tuple[Term, tuple[int, ...]], ...]:
    """A turn's terms, each with its name around what it computes."""
    return tuple(
        (replace(term, loss=replace(term.loss, function=_named(lambda *_, t=term: t.name, term.loss.function))), slots)
        for term, slots in turn.terms
    )


def _named(name: Callable[..., str], function: Callable[..., Any]) -> Callable[..., Any]:
    """A function in whose calls there is a label: what `name` makes of its arguments."""

    @wraps(function)
    def call(*given: Any, **more: Any) -> Any:
        with record_function(MARK + name(*given)):
            return function(*given, **more)

    return call
