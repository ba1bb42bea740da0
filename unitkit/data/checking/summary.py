"""What a survey says of each split, in the words of its table: on a terminal, in JSON, on a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .findings import Finding
from .survey import Split, Survey

FORMAT = 1  # of the JSON


@dataclass(frozen=True)
class Row:
    """One split of a domain; sizes are (H, W) of the images with the fewest, median and most pixels."""

    letter: str
    label: str
    split: str
    images: int
    unreadable: int
    smallest: tuple[int, int] | None
    median: tuple[int, int] | None
    largest: tuple[int, int] | None
    modes: dict[str, int]
    low: float | None
    high: float | None
    classes: dict[int, int]

    @property
    def sizes(self) -> str:
        """Width x height, once where all are alike."""
        found = [size for size in (self.smallest, self.median, self.largest) if size]
        words = [f"{width}x{height}" for height, width in found]
        return " / ".join(words if len(set(words)) > 1 else words[:1]) or "-"

    @property
    def kinds(self) -> str:
        """The modes, each with its number where there are several."""
        if len(self.modes) < 2:
            return next(iter(self.modes), "-")
        return ", ".join(f"{mode} {count}" for mode, count in self.modes.items())

    @property
    def values(self) -> str:
        """The range of values."""
        return "-" if self.low is None else f"{self.low:.4g}..{self.high:.4g}"

    @property
    def classes_in_short(self) -> str:
        """How many classes, and the images of the smallest and the largest."""
        counts = self.classes.values()
        return f"{len(counts)} of {min(counts)} to {max(counts)}" if counts else "-"


def rows(survey: Survey) -> list[Row]:
    """A row for each split, in the order of the domains."""
    return [_row(split) for split in survey.splits]


def _row(split: Split) -> Row:
    read = split.sizes[split.read]
    order = np.argsort(read.prod(1), kind="stable")
    smallest, median, largest = (
        (tuple(read[order[int(place)]].tolist()) for place in (0, (len(read) - 1) // 2, len(read) - 1))
        if len(read)
        else (None, None, None)
    )
    return Row(
        letter=split.letter,
        label=split.label,
        split=split.name,
        images=len(split.images),
        unreadable=len(split.errors),
        smallest=smallest,
        median=median,
        largest=largest,
        modes=split.mode_counts(),
        low=split.low if len(read) else None,
        high=split.high if len(read) else None,
        classes=split.class_counts(),
    )


def to_json(survey: Survey, found: Sequence[Finding]) -> dict[str, Any]:
    """The rows and the findings, ready for JSON."""
    return {
        "format": FORMAT,
        "data": survey.data.name,
        "splits": [asdict(row) for row in rows(survey)],
        "findings": [each.to_json() for each in found],
    }
