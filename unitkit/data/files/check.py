"""A look at every image before a training begins: each is decoded once, into the memory that the steps read from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from ...system.errors import UserError
from ..batches import Batches
from ..cache import broken, fits
from ..sources import ImageFiles
from .bad import BadImage

WHOLE = 10_000  # images that are all decoded before training, which takes a quarter of a minute
SAMPLE = 1000  # images of a split where there are more, or where the memory has no room for it
CHUNK = 128

Progress = Callable[[int, int], None]
Decode = Callable[[Sequence[int]], dict[int, UserError]]  # decodes images and gives those that cannot be


def bad_images(batches: Batches, step: int = 0, progress: Progress | None = None) -> list[BadImage]:
    """The images of files that cannot be decoded, beside those that `batches` know: of this rank's part of the data.

    Training images stay in memory where they fit; of a split that does not, and of each where there are more than
    10,000 images, a sample of 1000, evenly spread, is decoded, and the headers of all are known. Images that are drawn
    or lie in arrays need no look.

    Args:
        step: from which the images count as known.
        progress: called with the images decoded so far and those there are to decode.
    """
    work = list(_work(batches))
    total, done = sum(len(rows) for *_, rows in work), 0
    found = []
    for letter, split, images, decode, rows in work:
        errors = {i: error for i, error in images.broken.items() if (letter, split, i) not in batches.bad.found}
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            errors |= decode(part)
            done += len(part)
            if progress:
                progress(done, total)
        found += [BadImage(letter, split, i, images.name(i), str(errors[i]), step) for i in sorted(errors)]
    return found


def sampled(batches: Batches) -> list[str]:
    """A note for each split of which a sample alone is decoded before training."""
    few = _few(batches)
    return [
        f"the {len(images)} {split} images of '{batches.data.domains[letter].label}' "
        f"{'are many' if fit else 'do not fit in memory'}: {SAMPLE} of them were decoded before training, the others "
        f"when they are needed"
        for letter, split, images, _, fit in _splits(batches)
        if not (fit and few) and len(images) > SAMPLE
    ]


def _few(batches: Batches) -> bool:
    """Whether there is time to decode all images before training."""
    return sum(len(images) for _, _, images, _, _ in _splits(batches)) <= WHOLE


def _splits(batches: Batches) -> Iterator[tuple[str, str, ImageFiles, Decode, bool]]:
    """Letter, split, images, how to decode them, and whether all fit in memory."""
    for letter, domain in batches.data.domains.items():
        decoded = batches.train[letter]
        if isinstance(decoded.images, ImageFiles):
            yield letter, "train", decoded.images, decoded.broken, not decoded.mapped
        if isinstance(domain.test, ImageFiles):
            yield letter, "test", domain.test, partial(broken, domain.test), fits(domain.test, batches.share)


def _work(batches: Batches) -> Iterator[tuple[str, str, ImageFiles, Decode, Sequence[int]]]:
    """Letter, split, images, how to decode them, and which are this rank's to decode."""
    few = _few(batches)
    for letter, split, images, decode, fit in _splits(batches):
        n = len(images)
        rows = range(n) if (fit and few) or n <= SAMPLE else [i * n // SAMPLE for i in range(SAMPLE)]
        ours = [i for i in rows[batches.rank :: batches.world] if (letter, split, i) not in batches.bad.found]
        yield letter, split, images, decode, [i for i in ours if i not in images.broken]
