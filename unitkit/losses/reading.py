"""Readings: what losses and metrics read of a model, a kind and an image path.

An image path is a word over the domains, and says whose networks an image went through:

    a       a real image of domain a                 aa     encoded and decoded in a
    ab      a translated to b                        aba    and back
    b/ab    an image of b, read as though it were one of a, and translated to b: the identity loss of CycleGAN
    ab/a    image ab, read as though it were one of a: whose encoder and discriminator see it

What is read of it is a kind: the image itself, `code:ab`, `score:ab` and whatever else is registered.
"""

from __future__ import annotations

import re
from typing import NamedTuple

PATH = re.compile(r"[a-z]+(/[a-z]+)*")


class Reading(NamedTuple):
    """A kind, "image" where the image itself is read, and an image path; as text `ab`, `code:ab`."""

    kind: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Reading:
        """The reading that a text names. Whether a model can give it, the model says."""
        kind, _, path = text.rpartition(":")
        return cls(kind or "image", path)

    def __str__(self) -> str:
        return self.path if self.kind == "image" else f"{self.kind}:{self.path}"


class Step(NamedTuple):
    """The last step of an image path: `image` is where it comes from, `letter` where it leads.

    `translated` says whether networks make it (`ab` of `a`), or it is the same image read as another's (`ab/a`).
    """

    image: str
    letter: str
    translated: bool


def last_step(path: str) -> Step | None:
    """How an image path got where it is; None for a real image, `a`."""
    if len(path) == 1:
        return None
    if path[-2] == "/":
        return Step(path[:-2], path[-1], translated=False)
    return Step(path[:-1], path[-1], translated=True)
