"""The model card, `README.md` of a published model: what it does, how to use it, how it was made, what it can."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..annotations import spelt
from ..data.values import BYTES, Values
from ..hub.names import PREFIX, Place
from ..models import ImagePaths
from ..runs.page.facts import knobs_of
from ..runs.report import protocol_line, tables, warnings
from ..runs.samples import name_of, rows_for
from ..system.environment import versions
from ..templates import render
from ..templates.markdown import markdown_table


@dataclass(frozen=True)
class Facts:
    """What a card says. Texts hold no path of this machine.

    Attributes:
        kind: the name of the model's part, such as unit.
        averaged: whether the training kept a moving average, which its grids show.
        chosen: whether the step is the best of those that were watched on held-out images.
        record: of the run; empty where there is none.
        evaluations: of these weights of this step.
        grid: the step of the sample grid.
        outside: parts of the model that unitkit has not itself.
    """

    place: Place
    model: ImagePaths
    kind: str
    labels: Mapping[str, str]
    values: Mapping[str, Values]
    size: tuple[int, int]
    step: int
    weights: str
    averaged: bool
    chosen: bool
    record: Mapping[str, Any]
    evaluations: list[dict[str, Any]]
    grid: int | None
    outside: list[str]
    license: str | None

    @property
    def paths(self) -> list[tuple[str, str]]:
        """The image paths, each with what it is in words: translations first."""
        rows = [row for row in rows_for(self.model, list(self.labels)) if len(row) > 1]
        rows.sort(key=lambda row: (row[0] == "z", row[0] == row[-1], len(row)))
        return [(row, name_of(row, self.labels)) for row in rows]

    @property
    def path(self) -> str | None:
        """A path to show the use by: the first that begins with a real image."""
        return next((path for path, _ in self.paths if path[0] != "z"), None)


def write_card(path: Path, facts: Facts) -> None:
    """Write the card. Raises `OSError`."""
    text = render(
        "model_card.md.jinja",
        head=Markup(_metadata(facts)),
        facts=facts,
        name=facts.place.repository.partition("/")[2],
        hub=Markup(str(facts.place)),
        paths=_table(["path", "what it is"], facts.paths),
        size=spelt(facts.size),
        window=spelt(facts.record.get("window", "")),
        takes=_takes(facts),
        settings=_table(["setting", "value", "default"], _settings(facts)),
        evaluations=[_section(each) for each in facts.evaluations],
        version=versions("unitkit")["unitkit"],
    )
    path.write_text(f"{text}\n", "utf-8")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    return Markup(markdown_table(head, rows, figures=False)) if rows else Markup("")


def _takes(facts: Facts) -> str:
    """Which images the model takes, in words."""
    kinds = {1: "grey", 3: "RGB"}
    ends = []
    for letter, label in facts.labels.items():
        if (count := facts.model.channels.get(letter)) is None:
            continue
        kind = kinds.get(count, f"of {count} channels")
        values = facts.values.get(letter, BYTES)
        ends.append(f"{label}: {kind}, {'8 bits' if values == BYTES else values}")
    size = facts.model.size
    sides = f"{size[0]}x{size[1]} alone" if size else "any height and width"
    return f"{'; '.join(ends)}. Sizes: {sides}."


def _settings(facts: Facts) -> list[list[str]]:
    """The knobs that are not as the recipe has them."""
    return [
        [knob.name, spelt(knob.value), "the recipe's own" if knob.default is None else spelt(knob.default)]
        for knob in knobs_of(facts.record)
        if knob.changed
    ]


def _section(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What a card says of an evaluation."""
    return {
        "tables": [(title, Markup(markdown_table(head, rows))) for title, head, rows in tables(entry["metrics"])],
        "protocol": protocol_line(entry),
        "warnings": warnings(entry),
    }


def _metadata(facts: Facts) -> str:
    """The YAML by which the hub finds and sorts models."""
    from huggingface_hub import EvalResult, ModelCardData

    name = facts.place.repository.partition("/")[2]
    results = [EvalResult(task_type="image-to-image", **each) for each in _results(facts)]
    return ModelCardData(
        license=facts.license,
        library_name="unitkit",
        pipeline_tag="image-to-image",
        tags=["image-to-image", "unpaired-image-translation", "unitkit", facts.kind],
        model_name=name if results else None,
        eval_results=results or None,
    ).to_yaml()


def _results(facts: Facts) -> Iterator[dict[str, Any]]:
    """The headlines that may stand without their protocol beside them: finite, and of metrics that warn of nothing, on
    all held-out images."""
    for entry in facts.evaluations:
        source = str(entry["data"]["name"])
        on_hub = source.startswith(PREFIX) and "/" in source
        for metric, result in entry["metrics"].items():
            if "failed" in result or result["warnings"] or entry["images"] != "all":
                continue
            for figure, value in islice(result["figures"].items(), 1):  # others may be of untranslated images
                if math.isfinite(value):
                    unit = result["units"].get(figure, "")
                    yield {
                        "dataset_type": source.removeprefix(PREFIX).partition(":")[0] if on_hub else "custom",
                        "dataset_name": source,
                        "dataset_split": entry["split"],
                        "metric_type": metric.partition("(")[0],
                        "metric_name": f"{metric}: {figure}" + (f" [{unit}]" if unit else ""),
                        "metric_value": round(100 * value if unit == "%" else value, 4),
                    }
