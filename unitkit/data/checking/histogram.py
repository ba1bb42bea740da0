"""How often each value occurs in images, counted as they come: the range grows where a later value lies beyond it."""

from __future__ import annotations

import numpy as np

BINS = 256


class Histogram:
    """Counts of values in 256 equal bins, int64 (C, 256), from `low` up to `high`.

    It begins with the range of the first image's type, 0..1 of floats. Of images of several numbers of channels, those
    of one with fewer count in each.
    """

    def __init__(self) -> None:
        self.counts = np.zeros((0, BINS), np.int64)
        self.low, self.high = 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        """Count the values of an image, (C, n)."""
        if not len(self.counts):
            whole = values.dtype.kind in "iu"
            self.low = float(np.iinfo(values.dtype).min) if whole else 0.0
            self.high = float(np.iinfo(values.dtype).max) + 1 if whole else 1.0
        if len(values) > len(self.counts):
            more = np.zeros((len(values) - len(self.counts), BINS), np.int64)
            # What was grey until now had one value in every channel.
            more[:] = self.counts[0] if len(self.counts) == 1 else 0
            self.counts = np.concatenate([self.counts, more])
        while float(values.max()) > self.high:
            self.counts = _halved(self.counts, at=0)
            self.high += self.high - self.low
        while float(values.min()) < self.low:
            self.counts = _halved(self.counts, at=BINS // 2)
            self.low -= self.high - self.low
        places = ((values.astype(np.float64) - self.low) * (BINS / (self.high - self.low))).astype(np.int64)
        places = np.minimum(places, BINS - 1)
        for channel, count in enumerate(self.counts):
            count += np.bincount(places[channel if channel < len(places) else 0], minlength=BINS)


def _halved(counts: np.ndarray, at: int) -> np.ndarray:
    """The counts in bins twice as wide, which fill one half."""
    wide = np.zeros_like(counts)
    wide[:, at : at + BINS // 2] = counts.reshape(len(counts), -1, 2).sum(2)
    return wide
