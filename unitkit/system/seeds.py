"""Seeds: every random draw of a step is a pure function of (seed, step, rank), so resuming needs no random state."""

from __future__ import annotations

import numpy as np
import torch


def derive(*entropy: int) -> int:
    """A 63-bit seed that is a pure function of whole numbers of at least 0, well mixed."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_step(seed: int, step: int, rank: int, *part: int) -> None:
    """Seed torch's generators, on every device, for one step of one rank, or for a part of its batch."""
    torch.manual_seed(derive(seed, step, rank, *part))
