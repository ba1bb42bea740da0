"""The batches that a training step sees: sampled, decoded ahead, moved to the device and augmented there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..system.errors import UserError
from .affine import Affine
from .cache import Decoded, memory_limit
from .domains import Data
from .files.bad import BadImage, BadImages
from .sampler import indices
from .tensors import to_tensor
from .values import Values, signed, values_of

AHEAD = 4


class Batches:
    """Batches of every domain as a pure function of the step.

    `batch` is the number of images per domain on this rank. `flip` mirrors each image with probability 1/2. With `crop`
    images are decoded `crop` pixels higher and wider than `data.size`; a window of `data.window` is cut from each at
    random; `affine` comes last. `limit_bytes` bounds the decoded images in memory (default: a quarter of what is free).
    `rank` of `world` says which slice of the global batch is this one's. `bad` are images known as bad, whose places
    others take; `skip` is told of each that is found when a step needs it, which then ends nothing. Raises `UserError`
    for a `batch` below 1 or a `crop` below 0.
    """

    def __init__(
        self,
        data: Data,
        batch: int,
        seed: int,
        device: torch.device | str = "cpu",
        flip: bool = True,
        crop: int = 0,
        affine: Affine | None = None,
        rank: int = 0,
        world: int = 1,
        limit_bytes: int | None = None,
        memory_format: torch.memory_format = torch.contiguous_format,
        bad: BadImages | None = None,
        skip: Callable[[BadImage], None] | None = None,
    ) -> None:
        if batch < 1 or crop < 0:
            raise UserError(f"batch={batch} and crop={crop} are not possible: expected batch 1 or more, crop 0 or more")
        self.data, self.batch_size, self.seed, self.device = data, batch, seed, torch.device(device)
        self.flip, self.crop, self.affine, self.rank, self.world = flip, crop, affine, rank, world
        self.memory_format = memory_format
        self.bad, self.skip = BadImages(data) if bad is None else bad, skip
        self.share = (memory_limit() if limit_bytes is None else limit_bytes) // len(data.domains)
        height, width = data.size
        whole = (height + crop, width + crop)
        self.train = {k: Decoded(domain.train.at(whole), self.share) for k, domain in data.domains.items()}

    def batch(self, step: int) -> dict[str, Tensor]:
        """The step's images by letter: float32 (B, C, H, W) in [-1, 1], on the device, augmented.

        Where a training may see a domain's classes they come along, int64 (B,), as `label:a`. Raises the `UserError`
        of an image that cannot be decoded, where nobody skips it. Starts decoding the next steps' images.
        """
        now = self._ready(step)
        draws = np.random.SeedSequence((self.seed, step, self.rank)).generate_state(1, np.uint64)
        # Drawn on the CPU, so that a seed means the same augmentation on every device.
        generator = torch.Generator().manual_seed(int(draws[0] >> 1))
        images = {
            letter: self._augmented(self._on_device(decoded.fetch(chosen)), values_of(decoded.images), generator)
            for letter, (decoded, chosen) in zip(self.train, now, strict=True)
        }
        for (letter, domain), (_, chosen) in zip(self.data.domains.items(), now, strict=True):
            if domain.train_classes is not None:
                images[f"label:{letter}"] = torch.from_numpy(domain.train_classes[chosen]).to(self.device)
        for ahead in range(step + 1, step + 1 + AHEAD):
            for decoded, chosen in self._chosen(ahead):
                decoded.prefetch(chosen)
        return images

    def names(self, step: int) -> dict[str, list[str]]:
        """What the step's images are called, by letter: the files' paths."""
        chosen = zip(self.train, self._chosen(step), strict=True)
        return {letter: [decoded.images.name(int(i)) for i in order] for letter, (decoded, order) in chosen}

    def _ready(self, step: int) -> list[tuple[Decoded, np.ndarray]]:
        """The step's images, decoded; those that cannot be decoded are replaced until all can."""
        while True:
            now = self._chosen(step)
            for decoded, chosen in now:  # all domains at once, before the first is waited for
                decoded.prefetch(chosen)
            broken = [
                (BadImage(letter, "train", i, decoded.images.name(i), str(error), step), error)
                for letter, (decoded, chosen) in zip(self.train, now, strict=True)
                for i, error in decoded.broken(chosen).items()
            ]
            if not broken:
                return now
            for bad, error in broken:
                if self.skip is None:
                    raise error
                self.skip(bad)
                self.bad.add(bad)

    def _chosen(self, step: int) -> list[tuple[Decoded, np.ndarray]]:
        shared = {"seed": self.seed, "batch": self.batch_size, "rank": self.rank, "world": self.world}
        return [
            (decoded, self.bad.good(letter, indices(step, domain=place, n=len(decoded.images), **shared), step))
            for place, (letter, decoded) in enumerate(self.train.items())
        ]

    def _on_device(self, images: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(images)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return signed(tensor.to(self.device, non_blocking=True))

    def _augmented(self, images: Tensor, values: Values, generator: torch.Generator) -> Tensor:
        """Cut a window of each image, mirrored or not, through one gather of its pixels."""
        count, (height, width) = len(images), self.data.window
        free = (images.shape[2] - height, images.shape[3] - width)
        top, left = (torch.randint(each + 1, (count, 1), generator=generator) for each in free)
        rows, columns = top + torch.arange(height), left + torch.arange(width)
        mirrored = torch.rand(count, 1, generator=generator) < (0.5 if self.flip else 0.0)
        columns = torch.where(mirrored, columns.flip(1), columns)
        if self.flip or any(free):
            pixels = (rows[:, :, None] * images.shape[3] + columns[:, None, :]).view(count, 1, -1)
            pixels = pixels.to(self.device, non_blocking=True).expand(-1, images.shape[1], -1)
            images = images.flatten(2).gather(2, pixels).view(count, -1, height, width)
        if not self.affine:
            return to_tensor(images, self.device, self.memory_format, values)
        shown = self.affine(to_tensor(images, self.device, values=values), generator)
        return shown.contiguous(memory_format=self.memory_format)
