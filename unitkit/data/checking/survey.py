"""All images of some data, each decoded once: what is known of every split when the last one has been looked at."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ...system.errors import MachineError, UserError
from ..cache import in_background
from ..domains import Data
from ..sources import Images
from .histogram import Histogram
from .look import SMALL, Look, look

AHEAD = 32  # images under way at once
SHEET = 48  # thumbnails of a split's contact sheet
SIDE = 96  # of a thumbnail

Progress = Callable[[int, int], None]


@dataclass
class Split:
    """The images of one split of a domain and what was found in them, by index where it is an array.

    Attributes:
        name: "train" or "test".
        classes: the class of each, where the data know it.
        first: the number of its first image among all.
        errors: by index those that cannot be decoded, and why.
        misnamed: by index the format of a file whose suffix is another's.
        short: JPEGs without their last bytes.
        sizes: (H, W), int32 (n, 2), 0 of what cannot be decoded.
        modes: as each is stored.
        low, high: the range of all values.
        deviation: of each image's grey copy, of 255; float32 (n,).
        thumbnails: evenly spread over the split.
    """

    letter: str
    label: str
    name: str
    images: Images
    classes: np.ndarray | None
    first: int
    errors: dict[int, str] = field(default_factory=dict)
    misnamed: dict[int, str] = field(default_factory=dict)
    short: list[int] = field(default_factory=list)
    modes: list[str] = field(default_factory=list)
    low: float = float("inf")
    high: float = float("-inf")
    histogram: Histogram = field(default_factory=Histogram)
    thumbnails: list[Image.Image] = field(default_factory=list)

    def __post_init__(self) -> None:
        n = len(self.images)
        self.sizes = np.zeros((n, 2), np.int32)
        self.channels = np.zeros(n, np.int16)
        self.deviation = np.zeros(n, np.float32)
        self.modes = [""] * n

    @property
    def read(self) -> np.ndarray:
        """The indices of the images that could be decoded."""
        return np.flatnonzero(self.channels)

    def add(self, seen: Look) -> None:
        """Take in what was seen of an image."""
        i = seen.i
        self.sizes[i], self.channels[i], self.modes[i] = seen.size, len(seen.sample), seen.mode
        self.deviation[i] = seen.small.std()
        self.low, self.high = min(self.low, seen.low), max(self.high, seen.high)
        self.histogram.add(seen.sample)
        if seen.misnamed:
            self.misnamed[i] = seen.misnamed
        if seen.short:
            self.short.append(i)
        if seen.thumbnail:
            self.thumbnails.append(seen.thumbnail)

    def mode_counts(self) -> dict[str, int]:
        """How many images have each mode, the most frequent first."""
        return dict(Counter(mode for mode in self.modes if mode).most_common())

    def class_counts(self) -> dict[int, int]:
        """How many images each class has; empty where the classes are not known."""
        return {} if self.classes is None else dict(sorted(Counter(self.classes.tolist()).items()))


@dataclass
class Survey:
    """Every split of some data, and what tells images apart: of image k among all, row k.

    Attributes:
        pixels: a hash of the decoded values of each, empty where it could not be decoded.
        files: a hash of the bytes of each, empty of what is no file.
        small: grey copies, uint8 (n, 32, 32).
    """

    data: Data
    splits: list[Split]
    pixels: list[bytes]
    files: list[bytes]
    small: np.ndarray

    def at(self, k: int) -> tuple[Split, int]:
        """The split and the index in it of image k."""
        split = next(each for each in reversed(self.splits) if each.first <= k)
        return split, k - split.first

    def name(self, k: int) -> str:
        """What image k is called."""
        split, i = self.at(k)
        return split.images.name(i)


def survey(data: Data, progress: Progress | None = None) -> Survey:
    """Decode every image, in the background threads, and keep what a check is made of: about 1 KiB of each.

    Args:
        progress: called with the images looked at so far and their number.
    """
    splits: list[Split] = []
    total = 0
    for letter, domain in data.domains.items():
        pairs = (("train", domain.train, domain.train_classes), ("test", domain.test, domain.test_classes))
        for name, images, classes in pairs:
            splits.append(Split(letter, domain.label, name, images, classes, total))
            total += len(images)
    found = Survey(data, splits, [b""] * total, [b""] * total, np.zeros((total, SMALL, SMALL), np.uint8))
    for done, (split, i, future) in enumerate(_ahead(splits), start=1):
        try:
            seen = future.result()
        except MachineError:
            raise
        except UserError as error:
            split.errors[i] = str(error)
        else:
            split.add(seen)
            k = split.first + i
            found.pixels[k], found.files[k], found.small[k] = seen.pixels, seen.file, seen.small
        if progress:
            progress(done, total)
    return found


def _ahead(splits: list[Split]) -> Iterator[tuple[Split, int, Future[Look]]]:
    """Each image of each split in turn, the next ones already on their way; none is left behind where it ends early."""
    waiting: deque[tuple[Split, int, Future[Look]]] = deque()
    try:
        for split in splits:
            n = len(split.images)
            shown = {k * n // SHEET for k in range(SHEET)} if n > SHEET else set(range(n))
            for i in range(n):
                waiting.append((split, i, in_background(look, split.images, i, SIDE if i in shown else 0)))
                if len(waiting) >= AHEAD:
                    yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for _, _, future in waiting:
            future.cancel()
