"""The order of the samples: a pure function of the seed and the step, so that resuming needs no stored position."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def indices(step: int, *, seed: int, domain: int, n: int, batch: int, rank: int = 0, world: int = 1) -> np.ndarray:
    """Which of a domain's `n` images rank `rank` of `world` sees at a step: int64 (batch,).

    The ranks share one endless sequence of shuffled epochs, `batch * world` images a step, each rank its own slice of
    them. A batch may run across the border of two epochs, so every epoch holds each image exactly once.
    """
    positions = (step * world + rank) * batch + np.arange(batch)
    epochs, places = np.divmod(positions, n)
    order = [_permutation(seed, domain, int(epoch), n) for epoch in range(epochs[0], epochs[-1] + 1)]
    chosen: np.ndarray = np.concatenate(order)[places + (epochs - epochs[0]) * n]
    return chosen


@lru_cache(maxsize=16)
def _permutation(seed: int, domain: int, epoch: int, n: int) -> np.ndarray:
    order = np.random.default_rng(np.random.SeedSequence((seed, domain, epoch))).permutation(n)
    order.setflags(write=False)
    return order
