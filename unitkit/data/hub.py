"""Images of a dataset of the Hugging Face library: rows of an Arrow table, decoded when they are asked for."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from ..system.errors import UserError
from .files.decode import Encoded, decode, probe
from .sources import digest

SAMPLE = 64  # images whose headers, or bytes, stand for all


class HubImages:
    """One column of images, in some rows of a `datasets.Dataset`.

    The rows' bytes lie in a mapped file until they are read, and the package's own decoder decodes them, within its
    bounds. `label` names the images in messages. `channels`, where it is not given, is that of the sample of images
    whose headers are read, and `size` (H, W) that of the first. Raises `UserError` where no image of the sample can be
    read.
    """

    def __init__(self, table: Any, column: str, rows: np.ndarray, label: str) -> None:
        from datasets import Image

        self.table = table.select_columns([column]).cast_column(column, Image(decode=False))
        self.column, self.rows, self.label = column, rows, label
        headers, errors = [], []
        for i in self._sample():
            try:
                headers.append(probe(self.source(i)))
            except UserError as error:
                errors.append(error)
        if not headers:
            raise UserError(f"none of the images of '{label}' that were looked at can be read: {errors[0]}")
        self.size = (headers[0].height, headers[0].width)
        self.channels = max(header.channels for header in headers)

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, i: int) -> str:
        return f"{self.label}[{self.rows[i]}]"

    def source(self, i: int) -> Encoded | Path:
        """The file of image `i`, or its bytes. Raises `UserError` for a row without an image."""
        cell = self.table[int(self.rows[i])][self.column] or {}
        if cell.get("bytes") is not None:
            return Encoded(self.name(i), cell["bytes"])
        if cell.get("path"):
            return Path(cell["path"])
        raise UserError(f"'{self.name(i)}' has no image in column '{self.column}': remove the row")

    def load(self, i: int) -> np.ndarray:
        return decode(self.source(i), self.channels, self.size)

    def fingerprint(self) -> str:
        """Over the rows and the bytes of some images: a copy that was fetched anew is the same."""
        sources = (self.source(i) for i in self._sample())
        return digest(self.column, self.rows, *(each.data if isinstance(each, Encoded) else each for each in sources))

    def at(self, size: tuple[int, int], channels: int | None = None) -> HubImages:
        """The same images at another size (H, W), and in grey (1) or RGB (3) where `channels` says so."""
        other = copy.copy(self)
        other.size, other.channels = size, channels or self.channels
        return other

    def pick(self, rows: np.ndarray) -> HubImages:
        """Only these of its images."""
        other = copy.copy(self)
        other.rows = self.rows[rows]
        return other

    def _sample(self) -> list[int]:
        n = len(self.rows)
        return sorted({k * n // SAMPLE for k in range(SAMPLE)})
