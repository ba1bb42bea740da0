"""Near duplicates: images whose small grey copies are nearly equal, found without comparing each with each.

A copy, freed of its brightness and contrast, is hashed to 64 bits: the signs of its lowest frequencies (a discrete
cosine transform), each against the median of all images, so that every bit parts the images in halves even where all
of them show much the same, faces say. Images that agree in one of 16 choices of the bits are compared.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

NEAR = 0.15  # distance up to which two images are near duplicates
FLAT = 2.0  # standard deviation, of 255, below which an image shows nothing that could be compared
FREQUENCIES = 10  # the lowest in each direction, 64 of whose pairs make the hash
TABLES = 16
GROUP = 16  # images of one key that each image is compared with at most
LOW = 2.5  # how far apart the low frequencies of two images may be to be compared, times the largest distance
CHUNK = 1 << 12  # images or pairs at once

Pairs = NDArray[np.int64]


def near_pairs(small: np.ndarray, most: float = NEAR) -> tuple[Pairs, np.ndarray]:
    """Pairs (n, 2) of images, the nearest first, and their distances (n,).

    The distance is that of two copies scaled to mean 0 and length 1, less their common part: 0 of equal images, 1.4 of
    two that have nothing in common. Brightness and contrast make none. Images that show nothing are left out.

    Args:
        small: grey copies, uint8 (n, H, W).
        most: the largest distance.
    """
    rows = np.flatnonzero(np.concatenate([[], *(part.std((1, 2)) for part in _parts(small))]) >= FLAT)
    pairs = rows[_candidates(_waves(small[rows]), LOW * most)] if len(rows) > 1 else np.empty((0, 2), np.int64)
    away = np.concatenate([[], *(_distances(small, part) for part in _parts(pairs))])
    near = np.flatnonzero(away <= most)
    near = near[np.argsort(away[near], kind="stable")]
    return pairs[near], away[near]


def _distances(small: np.ndarray, pairs: Pairs) -> np.ndarray:
    """What is left of the difference when the best small shift and enlargement of the one are taken from it."""
    one, two = (_unit(small[pairs[:, k]]) for k in (0, 1))
    down, right = np.gradient(one + two, axis=(1, 2))
    y, x = np.mgrid[-1 : 1 : one.shape[1] * 1j, -1 : 1 : one.shape[2] * 1j].astype(np.float32)
    moves = np.stack([down, right, y * down + x * right], axis=1).reshape(len(pairs), 3, -1)
    difference = (one - two).reshape(len(pairs), -1, 1)
    normal = moves @ moves.transpose(0, 2, 1) + 1e-6 * np.eye(3, dtype=np.float32)
    best = np.linalg.solve(normal, moves @ difference)
    left = difference - moves.transpose(0, 2, 1) @ best
    distance: np.ndarray = np.linalg.norm(left[..., 0], axis=1)
    return distance


def _unit(small: np.ndarray) -> np.ndarray:
    centred = small.astype(np.float32) - small.mean((1, 2), dtype=np.float32, keepdims=True)
    unit: np.ndarray = centred / np.maximum(np.linalg.norm(centred, axis=(1, 2), keepdims=True), 1e-6)
    return unit


def _waves(small: np.ndarray) -> np.ndarray:
    """The lowest frequencies of each, float32 (n, 64), which are no further apart than the copies."""
    down, right = np.mgrid[:FREQUENCIES, :FREQUENCIES]
    lowest = np.argsort((down + right + 0.01 * down).ravel(), kind="stable")[1:65]  # the first is the mean
    found = np.empty((len(small), len(lowest)), np.float32)
    for start in range(0, len(small), CHUNK):
        waves = dctn(_unit(small[start : start + CHUNK]), axes=(1, 2), norm="ortho")[:, :FREQUENCIES, :FREQUENCIES]
        found[start : start + CHUNK] = waves.reshape(len(waves), -1)[:, lowest]
    return found


def _candidates(waves: np.ndarray, most: float) -> Pairs:
    """Pairs of rows that have one key in some table, and low frequencies no more than `most` apart."""
    count = len(waves)
    bits = waves > np.median(waves, axis=0)
    length = int(np.clip(np.ceil(np.log2(count)) + 1, 6, 20))
    draw = np.random.default_rng(0)
    found = [np.empty(0, np.int64)]
    for _ in range(TABLES):
        chosen = bits[:, draw.permutation(bits.shape[1])]
        # Of one key, the most alike lie side by side.
        first, then = (np.packbits(part, axis=1) for part in (chosen[:, :length], chosen[:, length:]))
        order = np.lexsort((*then.T[::-1], *first.T[::-1]))
        key = np.cumsum(np.append(0, (first[order[1:]] != first[order[:-1]]).any(1)))
        for step in range(1, min(GROUP, count)):
            same = np.flatnonzero(key[step:] == key[:-step])
            if not len(same):
                break
            one, two = order[same], order[same + step]
            close = ((waves[one] - waves[two]) ** 2).sum(1) <= most**2
            one, two = one[close], two[close]
            found.append(np.minimum(one, two) * count + np.maximum(one, two))
    pairs = np.sort(np.concatenate(found))
    pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])[: len(pairs)]]
    return np.stack(np.divmod(pairs, count), axis=1)


def _parts(array: np.ndarray) -> Iterator[np.ndarray]:
    yield from (array[start : start + CHUNK] for start in range(0, len(array), CHUNK))
