"""How a training is run, as one value, wherever it is said: on the command line, in a worker, in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..system.errors import UserError, nearest
from ..system.sizes import parse_size
from .image_check import check_policy

PRECISIONS = ("auto", "fp32", "tf32", "bf16")
# What a run goes on with when it is resumed, unless it is said anew; of the first two it keeps what it began with.
KEPT = (
    *("seed", "precision", "compile", "memory", "bad_images", "checkpoint_every", "sample_every", "keep"),
    *("watch", "watch_every", "track"),
)
MOST_SEED = 2**63 - 1  # that `run.json` can hold
DEFAULTS: dict[str, Any] = {"seed": 0, "precision": "fp32", "compile": False, "checkpoint_every": 500, "keep": 2}


@dataclass(frozen=True)
class RunOptions:
    """Everything about a run that is not of its recipe. None is what the resumed run has, and else the default.

    Args:
        out: the run folder, made if it is not there.
        seed: of the first weights, the order of samples, augmentation and noise; 0 by default.
        device: "auto" (CUDA where there is one, else the CPU) or a torch device.
        precision: "fp32" (the default); "tf32", float32 whose products CUDA devices may round to 10 bits; "bf16",
            networks in bfloat16 with weights, norms and losses in float32; or "auto", bf16 where the device has
            instructions for it and computes rightly with them, and else fp32. A run keeps its precision.
        memory: what the training may take, "8G": parts are recomputed and batches split until it fits. A resumed run
            keeps what was chosen, unless another amount is given.
        resume: continue the run in `out` instead of starting one.
        init_from: a run or a checkpoint whose weights a new run begins with, as far as names and shapes agree.
        checkpoint_every: steps between two checkpoints; 500 by default.
        keep: checkpoints that stay, the newest; 2 by default, and at least.
        sample_every: steps between two sample grids; what the recipe says by default.
        watch: metrics during training, as text, "psnr(aba, a)", in place of the recipe's.
        watch_every: steps between two of their evaluations; 500 by default.
        track: trackers by name, "tensorboard".
        compile: the step through torch.compile, which takes a minute before the first step, and less time for each.
        bad_images: "stop" ends the training at an image that cannot be decoded, "skip" puts the next good one in its
            place; by default it stops where one is found before the first step and skips later.

    Raises:
        UserError: a value that cannot be.
    """

    out: str | Path
    seed: int | None = None
    device: str = "auto"
    precision: str | None = None
    memory: str | None = None
    resume: bool = False
    init_from: str | Path | None = None
    checkpoint_every: int | None = None
    keep: int | None = None
    sample_every: int | None = None
    watch: str | None = None
    watch_every: int | None = None
    track: tuple[str, ...] | None = None
    bad_images: str | None = None
    compile: bool | None = None

    def __post_init__(self) -> None:
        check_policy(self.bad_images)
        if self.precision is not None and self.precision not in PRECISIONS:
            raise UserError(f"unknown precision '{self.precision}'. {nearest(self.precision, PRECISIONS)}")
        if self.memory is not None:
            parse_size(self.memory)
        least = {"seed": 0, "keep": 2, "checkpoint_every": 1, "sample_every": 1, "watch_every": 1}
        for name, number in least.items():
            value = getattr(self, name)
            if value is not None and value < number:
                raise UserError(f"{name} must be at least {number}, not {value}")
        if self.seed is not None and self.seed > MOST_SEED:
            raise UserError(f"seed must be at most {MOST_SEED}, not {self.seed}")
        if self.resume and self.init_from is not None:
            raise UserError("a run that is resumed has weights already: leave init_from out")

    def resolved(self, record: Mapping[str, Any], best: str) -> Options:
        """With what was left unsaid as the record of the resumed run has it, `record` being empty for a new one; `best`
        is the precision that "auto" means for a new one.

        Raises `UserError` for a seed or a precision that is not the run's.
        """
        for name in ("seed", "precision") if record else ():
            said = getattr(self, name)
            if said not in (None, "auto", record[name]):
                raise UserError(
                    f"{self.out} is a run with {name} {record[name]}, not {said}: to resume, leave {name} out"
                )
        unsaid = [name for name in KEPT if getattr(self, name) in (None, "auto")]
        found = {name: record.get(_key(name), DEFAULTS.get(name)) for name in unsaid}
        if self.precision == "auto" and not record:
            found["precision"] = best
        whole = replace(self, **{**found, "track": tuple(found.get("track") or self.track or ())})
        return Options(**{each.name: getattr(whole, each.name) for each in fields(self)})

    def record(self) -> dict[str, Any]:
        """What a run keeps of them, as JSON."""
        found = {_key(name): getattr(self, name) for name in KEPT}
        return {**found, "track": list(self.track or ())}


def _key(name: str) -> str:
    """What an option is called in `run.json`, where "watch" says how what was watched is shown."""
    return "watch_metrics" if name == "watch" else name


@dataclass(frozen=True)
class Options(RunOptions):
    """`RunOptions` with nothing left unsaid that has a default."""

    seed: int = 0
    precision: str = "fp32"
    compile: bool = False
    checkpoint_every: int = 500
    keep: int = 2
    track: tuple[str, ...] = ()
