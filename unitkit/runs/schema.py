"""What every JSON file of a run or an ablation holds, said once: types, ranges, and which fields there must be.

Fields that are not named here are kept as they are, so that a run of a later minor version, or one with notes of the
user's, is read; `stored.read` bounds how deep and how large these are. Fields that readers may miss are those that not
every format-1 file has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Required, TypedDict

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Open = dict[str, Any]  # JSON of a user's, or of a part's
Labels = dict[Annotated[str, Meta(min_length=1, max_length=1)], str]
Inside = Annotated[str, Meta(pattern=r"(?s)^(?!.*(^|/)\.\.(/|$))[^/]")]  # a relative path that leads nowhere else


class Part(TypedDict):
    """A spec; `Spec.from_json` checks the arguments by the part's signature."""

    kind: str
    name: str
    arguments: Open


class Meaning(TypedDict):
    """What the values of a domain's images are; `data.values.Values` checks that they fit together."""

    dtype: Literal["uint8", "uint16", "float16", "float32"]
    low: Annotated[list[float], Meta(min_length=1, max_length=64)]
    high: Annotated[list[float], Meta(min_length=1, max_length=64)]
    nan: float | None


Meanings = dict[Annotated[str, Meta(min_length=1, max_length=1)], Meaning]


class Model(TypedDict, total=False):
    """`model.json`."""

    model: Required[Part]
    size: Required[tuple[Positive, Positive]]
    labels: Required[Labels]
    values: Meanings


Described = TypedDict("Described", {"model.json": str, "unitkit": str})
# What `unitkit export` writes at the head of a file of tensors: `Model`, and `About` as all formats have it.
Header = TypedDict("Header", {"__metadata__": Described})


class About(TypedDict):
    """What readers need of the description that goes along with an exported file."""

    path: str
    weights: Literal["ema", "last"]


class State(TypedDict, total=False):
    """`state.json`: the steps done, the run's `id`, and the SHA-256 of the other files by name."""

    step: Required[Count]
    run: str
    files: dict[Literal["model.safetensors", "model.json", "ema.safetensors", "training.safetensors"], str]


class Watched(TypedDict):
    """How a watched metric is shown."""

    title: str
    higher: bool
    units: dict[str, str]


class DataFacts(TypedDict, total=False):
    """Which data, with facts of their own."""

    name: Required[str]
    fingerprint: Required[str]


class Preset(TypedDict):
    """The preset that a run was begun with: its name, and the knobs that it set."""

    name: str
    knobs: Open


class Run(TypedDict, total=False):
    """`run.json`."""

    id: str
    model: Required[Part]
    seed: Required[Count]
    precision: Required[Literal["fp32", "tf32", "bf16"]]
    batch: Required[Positive]
    world: Required[Positive]
    compile: bool
    memory: str | None
    bad_images: Literal["stop", "skip"] | None
    checkpoint_every: Positive
    sample_every: Positive | None
    keep: Annotated[int, Meta(ge=2)]
    watch_metrics: str | None
    watch_every: Positive | None
    track: list[str]
    device: str
    accumulate: Positive
    recompute: list[str]
    steps: Count
    ema: Annotated[float, Meta(ge=0, lt=1)]
    init_from: str
    labels: Labels
    window: tuple[Positive, Positive]
    values: Meanings
    watch: dict[str, Watched]
    data: DataFacts
    layout: Literal["NCHW", "channels-last"]
    recipe: str
    recipe_file: str
    knobs: Open
    defaults: Open
    preset: Preset
    peak_memory: Count
    versions: dict[str, str]
    folder: str | None
    started: str
    history: list[Open]


class Row(TypedDict):
    """A line of a metric's own table."""

    cells: list[str]
    figures: dict[str, str]


@dataclass
class Table:
    """A metric's own table."""

    title: str
    heads: list[str]
    rows: list[Row]

    def __post_init__(self) -> None:
        if any(len(row["cells"]) != len(self.heads) for row in self.rows):
            raise ValueError("a row has more cells, or fewer, than there are heads")


class Result(TypedDict, total=False):
    """What one metric found. A figure may be a NaN or an infinity."""

    title: Required[str]
    figures: Required[dict[str, float]]
    n: Required[dict[str, Count]]
    higher: Required[dict[str, bool]]
    units: Required[dict[str, str]]
    protocol: Required[Open]
    warnings: Required[list[str]]
    failed: str
    machine: bool
    table: Table
    details: Open


class Evaluation(TypedDict, total=False):
    """An entry of `metrics.json`."""

    checkpoint: Required[str]
    step: Required[Count]
    weights: Required[Literal["ema", "last"]]
    seed: Required[Count]
    data: Required[DataFacts]
    split: Required[str]
    images: Required[Positive | Literal["all"]]
    size: Required[tuple[Positive, Positive]]
    metrics: Required[dict[str, Result]]
    versions: dict[str, str]


class Metrics(TypedDict):
    """`metrics.json`."""

    evaluations: list[Evaluation]


class Bad(TypedDict):
    """An entry of `bad_images.json`."""

    letter: str
    split: Literal["train", "test"]
    index: Count
    name: str
    reason: str
    step: Count


class BadList(TypedDict):
    """`bad_images.json`."""

    images: list[Bad]


class Stepped(TypedDict):
    """What every line of a history begins with."""

    step: Count


class TranslatedBy(Struct, tag_field="line", tag="call"):
    """A line of `translations.jsonl`: how the outputs were made that name its `id`, the SHA-256 of its `settings`."""

    format: Literal[1]
    id: str
    settings: Open
    model: str
    weights: Literal["ema", "last"]
    run: str | None = None
    step: Count | None = None


class Translated(Struct, tag_field="line", tag="output"):
    """A line of `translations.jsonl`: an output by its place in the folder, its size in bytes and the time of its last
    writing in nanoseconds; of its source the path, the size and the times of the last writing and change; the `id` of
    how it was made, and its style: the seed by which that was drawn, or the SHA-256 of an image."""

    output: Inside
    written: tuple[Count, int]
    source: str
    mark: tuple[Count, int, int]
    by: str
    style: Count | str | None


class Cell(TypedDict):
    """An entry of `ablation.json`."""

    setting: Open
    seed: Count
    folder: Inside
    failed: str | None


class Ablation(TypedDict, total=False):
    """`ablation.json`."""

    recipe: Required[str]
    knobs: Open
    fixed: Required[Open]
    swept: Required[dict[str, Annotated[list[Any], Meta(min_length=1)]]]
    baseline: Required[Open]
    metric: Required[tuple[str, str]]
    cells: Required[list[Cell]]
    seeds: Positive
    path: str
    folder: str | None
    sha256: str
    precision: str
    track: list[str]
    command: str


@dataclass(frozen=True)
class Kind:
    """A kind of file: what its JSON must be, or that of each of its lines, and what to do where it is not.

    `head` is what each line of a history has besides.
    """

    shape: Any
    way_out: str
    head: Any = None


MODEL = Kind(Model, "use another checkpoint, or a copy of the run")
STATE = Kind(State, MODEL.way_out)
RUN = Kind(Run, "mend it, or use a copy of the run")
METRICS = Kind(Metrics, "delete it and measure again")
BAD = Kind(BadList, "delete it to check all anew")
ABLATION = Kind(Ablation, "mend it, or use a copy of the ablation")
# Histories: what each line holds besides its step.
STATS = Kind(dict[str, float], "remove that line", Stepped)
WATCHED = Kind(dict[str, dict[str, float]], STATS.way_out, Stepped)
TRANSLATIONS = Kind(TranslatedBy | Translated, "remove that line, or move the file away to translate all anew")
