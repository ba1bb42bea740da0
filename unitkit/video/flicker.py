"""How much a sequence of frames changes from one to the next, and a way to make translations change less."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..system.errors import UserError

PATCH = 5  # pixels, over which noise averages out in what is taken for a change
NOISE = 3.4  # of 255: the mean absolute difference of two frames with noise of sigma 3
CHANGE = 6.0  # of 255: where the input has changed by so much, 1/e of the strength is left


class Flicker:
    """Mean absolute difference of consecutive frames, of 255, over pixels, channels and pairs of frames."""

    def __init__(self) -> None:
        self.sum, self.pairs = 0.0, 0
        self.last: np.ndarray | None = None

    def add(self, frame: np.ndarray) -> None:
        """The next frame (C, H, W) of bytes."""
        if self.last is not None:
            self.sum += float(np.abs(np.subtract(frame, self.last, dtype=np.int16)).mean())
            self.pairs += 1
        self.last = frame

    @property
    def value(self) -> float:
        """Of the frames so far; 0 of fewer than two."""
        return self.sum / self.pairs if self.pairs else 0.0

    def state(self) -> dict[str, np.ndarray]:
        """For `restore`."""
        assert self.last is not None, "there was a frame"
        return {"sum": np.float64(self.sum), "pairs": np.int64(self.pairs), "last": self.last}  # type: ignore[dict-item]

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` gave."""
        self.sum, self.pairs, self.last = float(state["sum"]), int(state["pairs"]), state["last"]


class Steady:
    """Translations blended with those before them, where the input has not changed.

    A pixel keeps w = S exp(-(d / CHANGE)^2) of what was shown before, and so does the input that it is compared with:
    d is how much the input differs from the input blended by the same weights, over a patch, so that noise is no
    change, and a slow one is seen once it has added up.

    Args:
        strength: S, 0..1. 0 changes nothing.

    Raises:
        UserError: another strength.
    """

    def __init__(self, strength: float) -> None:
        if not 0 <= strength <= 1:  # not a number neither
            raise UserError(f"--steady is a number from 0, which changes nothing, to 1, not {strength:g}")
        self.strength = strength
        self.seen: np.ndarray | None = None
        self.shown: np.ndarray | None = None

    def __call__(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """The frame (C, H, W) of bytes to show, of an input and its translation."""
        if not self.strength:
            return after
        new, made = before.astype(np.float32), after.astype(np.float32)
        if self.seen is not None and self.shown is not None:
            keep = self.strength * np.exp(-((changed(new - self.seen) / CHANGE) ** 2))
            new += keep * (self.seen - new)
            made += keep * (self.shown - made)
        self.seen, self.shown = new, made
        return np.rint(made).astype(np.uint8)

    def state(self) -> dict[str, np.ndarray]:
        """For `restore`."""
        return {} if self.seen is None or self.shown is None else {"seen": self.seen, "shown": self.shown}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` gave."""
        self.seen, self.shown = state.get("seen"), state.get("shown")


def changed(difference: np.ndarray) -> np.ndarray:
    """How much each pixel (H, W) of an input has changed, of 255, from differences (C, H, W): by their mean over a
    patch, which tells a slow pan, or by their mean size beyond that of noise, which tells edges that move."""
    return np.asarray(np.maximum(patch_means(difference), patch_sizes(difference)))


def patch_means(difference: np.ndarray) -> np.ndarray:
    """The size (H, W) of the mean difference of the patch around each pixel, of the channel where it is largest."""
    return np.asarray(np.abs(_over_patches(difference)).max(0))


def patch_sizes(difference: np.ndarray) -> np.ndarray:
    """The mean size (H, W) of the differences of the patch around each pixel, less that of noise; likewise."""
    return np.asarray(np.maximum(_over_patches(np.abs(difference)).max(0) - NOISE, 0))


def _over_patches(values: np.ndarray) -> np.ndarray:
    from scipy.ndimage import uniform_filter

    return np.asarray(uniform_filter(values, (0, PATCH, PATCH), mode="nearest"))
