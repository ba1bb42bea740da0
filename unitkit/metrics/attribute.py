"""Whether translations have the target's attribute, asked of a classifier that is trained on the training split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ..annotations import Positive
from ..data import Data
from ..data.cache import Decoded, memory_limit
from ..data.tensors import at_once, to_tensor
from ..data.values import values_of
from ..kernels.norms import BatchNorm
from ..system.errors import UserError
from ..system.seeds import derive
from .metric import Context, Counting, Metric, Result, Row, Table, named, register, uncounted
from .networks.features import Features

_trained: dict[tuple[object, ...], nn.Sequential] = {}
SIDE = 128  # pixels of the longer side at most: what is an attribute of the image can be seen at that size
WEAK = 0.9  # a classifier below it says little about translations


@register
def attribute_success(path: str, *, steps: Positive = 600) -> Metric:
    """The share of translations that a classifier puts in the domain where the path ends, such as "smiling".

    The classifier learns all domains from the training split, in `steps` batches of 32; it never sees a translation.

    Returns figures `success`; `untranslated`, the share of the inputs that it puts there, which doing nothing reaches;
        and `classifier`, its own accuracy on the held-out images of that domain. All in [0, 1].
    """
    start = path[:1].removeprefix("z")  # noise has no image to leave untranslated
    reads = tuple(dict.fromkeys((path, start or path)))

    def begin(context: Context) -> Classified:
        if context.data is None:
            raise UserError(f"attribute_success({path}) needs the data of a run, to train its classifier on")
        network = classifier(context.data, seed=context.seed, steps=steps, counting=context.counting)
        return Classified(path, context.data, network, steps, context)

    name, title = named("attribute_success", path, steps=(steps, 600))
    units = dict.fromkeys(("success", "untranslated", "classifier"), "%")
    return Metric(name, reads, begin, higher=True, together=False, title=title, units=units)


class Classified:
    """Counts the images of a path, and its inputs, that the classifier puts in the domain where the path ends."""

    def __init__(self, path: str, data: Data, network: nn.Module, steps: int, context: Context) -> None:
        self.path, self.data, self.network, self.steps = path, data, network.to(context.device), steps
        self.target, self.context, self.hits = list(data.domains).index(path[-1]), context, Counter[str]()

    def update(self, images: Mapping[str, np.ndarray]) -> None:
        for reading, each in images.items():
            self.hits[reading] += self._count(each)

    def result(self, n: Mapping[str, int]) -> Result:
        domain = self.data.domains[self.path[-1]]
        size = at_once(self.data.size)
        right = sum(
            self._count(
                values_of(domain.test).compared(
                    np.stack([domain.test.load(i) for i in range(start, min(start + size, len(domain.test)))])
                )
            )
            for start in range(0, len(domain.test), size)
        )
        own = right / len(domain.test)
        weak = f"the classifier finds only {100 * own:.1f} % of held-out images of '{domain.label}': trust it little"
        protocol = {
            "classifier": f"5 convolutions on at most {SIDE}x{SIDE} pixels, {self.steps} steps of 32 on the training "
            f"split, seed {self.context.seed}",
            "classifier_n": len(domain.test),
        }
        figures = {"success": self.hits[self.path] / n[self.path]}
        images = {"success": self.path}
        for start in n.keys() - {self.path}:
            figures["untranslated"] = self.hits[start] / n[start]
            images["untranslated"] = f"{start}, untranslated"
        figures["classifier"] = own
        images["classifier"] = f"{self.path[-1]}, real"
        rows = (Row((image, domain.label), {"share": figure}) for figure, image in images.items())
        table = Table("held-out images that a classifier puts in the target domain", ("image", "target"), tuple(rows))
        return Result(figures, protocol, (weak,) if own < WEAK else (), table=table)

    @torch.no_grad()
    def _count(self, images: np.ndarray) -> int:
        scores = self.network(_seen(to_tensor(images, self.context.device)))
        return int((scores.argmax(dim=1) == self.target).sum())


def classifier(data: Data, *, seed: int = 0, steps: int = 600, counting: Counting = uncounted) -> nn.Sequential:
    """`train_classifier`, once in a process for the same data, seed and steps."""
    key = (data.fingerprint(), *(len(domain.train) for domain in data.domains.values()), seed, steps)
    if key not in _trained:
        _trained.clear()  # one is enough: a run has one set of data
        _trained[key] = train_classifier(data, seed=seed, steps=steps, counting=counting)
    return _trained[key]


def classifier_features(context: Context, who: str) -> Features:
    """What the classifier of a run's data sees in images before it decides, 96 numbers: for distances between sets.

    Raises `UserError` where there are no data of a run.
    """
    if context.data is None:
        raise UserError(f"{who} in the features of a classifier needs the data of a run, to train it on")
    network = classifier(context.data, seed=context.seed, counting=context.counting)[:-2].to(context.device)

    def of(pixels: Tensor) -> Tensor:
        vectors: Tensor = network(_seen(pixels.float() / 127.5 - 1))
        return vectors

    how = f"on at most {SIDE}x{SIDE} pixels, 600 steps of 32 on the training split, seed {context.seed}"
    return Features(of, {"features": f"a classifier of the domains, 5 convolutions, pooled, {how}", "published": None})


def train_classifier(
    data: Data,
    *,
    seed: int = 0,
    steps: int = 600,
    batch: int = 32,
    lr: float = 2e-3,
    counting: Counting = uncounted,
) -> nn.Sequential:
    """A small convolutional network that tells the domains of `data` apart, from the training split alone.

    Images are mirrored with probability 1/2, and moved by up to a sixteenth of their sides. The network takes
    (N, C, H, W) in [-1, 1], C being 3 where images are grey or RGB, and gives a logit per domain, in their order.
    The same arguments give the same weights on one machine. Raises `UserError` where the domains differ in other
    channels than these.
    """
    channels = set(data.channels.values())
    if len(channels) > 1 and not channels <= {1, 3}:
        counts = " and ".join(map(str, sorted(channels)))
        raise UserError(f"a classifier of the domains needs images of equal channels, and these have {counts}")
    what = f"training the classifier of {' and '.join(data.labels.values())} on batches of {batch}"
    with torch.random.fork_rng(), torch.enable_grad(), counting(what, steps) as done:
        torch.manual_seed(derive(seed))
        draw = np.random.default_rng([seed, 1])
        network = _network(len(data.domains), 3 if channels <= {1, 3} else max(channels)).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps + 1)
        limit = memory_limit() // len(data.domains)
        domains = [Decoded(domain.train, limit) for domain in data.domains.values()]
        for _ in range(steps):
            labels = draw.integers(len(domains), size=batch)
            loss = nn.functional.cross_entropy(
                network(_rgb_batch(domains, labels, draw)), torch.as_tensor(labels, dtype=torch.long)
            )
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            done()
    return network.eval().requires_grad_(False)


def _rgb_batch(domains: list[Decoded], labels: np.ndarray, draw: np.random.Generator) -> Tensor:
    images = []
    for label in labels:
        split = domains[label].images
        pixels = domains[label].fetch([int(draw.integers(len(split)))])
        image = to_tensor(pixels, values=values_of(split))
        images.append(_moved(_seen(image.flip(3) if draw.random() < 0.5 else image), draw))
    return torch.cat(images)


def _moved(image: Tensor, draw: np.random.Generator) -> Tensor:
    """An image (1, C, H, W) moved by up to a sixteenth of its sides, what comes in mirrored."""
    height, width = image.shape[2:]
    up, left = height // 16, width // 16
    y, x = (int(draw.integers(2 * most + 1)) for most in (up, left))
    padded = nn.functional.pad(image, (left, left, up, up), mode="reflect")
    return padded[:, :, y : y + height, x : x + width]


def _network(classes: int, channels: int) -> nn.Sequential:
    """Strides alone lose what a smile is: right on 88 held-out faces in 100, and pools after convolutions on 92."""
    layers: list[nn.Module] = []
    for before, after, kernel, stride in (channels, 16, 5, 2), (16, 32, 3, 1), (32, 64, 3, 1), (64, 96, 3, 1):
        layers += [nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False), BatchNorm(after), nn.ReLU()]
        layers += [nn.MaxPool2d(2, ceil_mode=True)] if stride == 1 else []
    layers += [nn.Conv2d(96, 96, 3, padding=1, bias=False), BatchNorm(96), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(96, classes))


def _seen(images: Tensor) -> Tensor:
    """Images as the classifier takes them: grey ones in RGB, larger ones brought to `SIDE` with antialiasing."""
    images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
    if (longer := max(images.shape[2:])) <= SIDE:
        return images
    height, width = (max(1, round(side * SIDE / longer)) for side in images.shape[2:])
    return nn.functional.interpolate(images, (height, width), mode="bilinear", antialias=True)
