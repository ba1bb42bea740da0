"""UNIT as a textbook writes it: plain networks, and a training step with a forward for each player.

The step is as public implementations write it, on the schedule of the code released in 2017: the generators,
reconstructions included, run again for the discriminators' turn, whose gradient flows back into them; the
discriminators are not frozen in the generators' turn; one domain after the other, NCHW, fp32, `torch.optim.Adam` as it
comes. With `detach` only translations are computed for the discriminators' turn, and the gradient stops there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torch.nn.functional import l1_loss

KL, LIKELIHOOD, ADVERSARIAL = 0.1, 100.0, 10.0
LR, BETAS, WEIGHT_DECAY = 1e-4, (0.5, 0.999), 1e-4  # the defaults of unitkit's Adam
Losses = Mapping[str, Tensor]


class ResidualBlock(nn.Module):
    """x + f(x), f of two convs with instance norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        norms = [nn.InstanceNorm2d(channels) for _ in range(2)]
        self.block = nn.Sequential(first, norms[0], nn.ReLU(inplace=True), second, norms[1])

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.block(x)
        return x + change


class TextbookUnit(nn.Module):
    """The 2017 networks for two domains: private fronts and backs, one residual block shared on each side of z."""

    def __init__(self, width: int, blocks: int, layers: int) -> None:
        super().__init__()
        self.noise = 1.0
        self.front = nn.ModuleDict({d: _front(width, blocks - 1) for d in "ab"})
        self.shared_encoder, self.shared_generator = ResidualBlock(4 * width), ResidualBlock(4 * width)
        self.back = nn.ModuleDict({d: _back(width, blocks - 1) for d in "ab"})
        self.discriminator = nn.ModuleDict({d: _discriminator(width, layers) for d in "ab"})

    def encode(self, x: Tensor, domain: str) -> tuple[Tensor, Tensor]:
        """The posterior's mean and a sample of it."""
        mean: Tensor = self.shared_encoder(self.front[domain](x))
        return mean, mean + self.noise * torch.randn_like(mean)

    def decode(self, z: Tensor, domain: str) -> Tensor:
        """The image of a code."""
        image: Tensor = self.back[domain](self.shared_generator(z))
        return image

    def pairs(self, model: Any) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
        """Its parameters beside those of unitkit's model of the same settings; a shared one comes with each domain."""
        for d in "ab":
            ours = (self.front[d], self.shared_encoder, self.shared_generator, self.back[d], self.discriminator[d])
            theirs = (model.encoders[d], model.generators[d], model.discriminators[d])
            copied, given = (itertools.chain.from_iterable(m.parameters() for m in part) for part in (ours, theirs))
            yield from zip(copied, given, strict=True)

    @torch.no_grad()
    def copy_weights(self, model: Any) -> None:
        """Take the weights of unitkit's model of the same settings."""
        for p, q in self.pairs(model):
            p.copy_(q)


def _leaky(*convs: nn.Module) -> list[nn.Module]:
    return [module for conv in convs for module in (conv, nn.LeakyReLU(0.01, inplace=True))]


def _front(width: int, blocks: int) -> nn.Sequential:
    first = nn.Conv2d(3, width, 7, padding=3)
    downs = (nn.Conv2d(c, 2 * c, 3, 2, 1) for c in (width, 2 * width))
    return nn.Sequential(*_leaky(first, *downs), *(ResidualBlock(4 * width) for _ in range(blocks)))


def _back(width: int, blocks: int) -> nn.Sequential:
    ups = (nn.ConvTranspose2d(2 * c, c, 3, 2, 1, 1) for c in (2 * width, width))
    last = nn.ConvTranspose2d(width, 3, 1)
    return nn.Sequential(*(ResidualBlock(4 * width) for _ in range(blocks)), *_leaky(*ups), last, nn.Tanh())


def _discriminator(width: int, layers: int) -> nn.Sequential:
    widths = [3, *(width * 2**layer for layer in range(layers))]
    downs = (nn.Conv2d(before, after, 3, 2, 1) for before, after in itertools.pairwise(widths))
    return nn.Sequential(*_leaky(*downs), nn.Conv2d(widths[-1], 1, 1))


class TextbookStep:
    """One step: the discriminators' turn, then that of encoders and generators, each with a forward of its own."""

    def __init__(self, model: TextbookUnit, *, detach: bool) -> None:
        self.model, self.detach = model, detach
        groups = (model.front, model.shared_encoder, model.shared_generator, model.back)
        self.d_optimizer, self.g_optimizer = (
            torch.optim.Adam(parameters, lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY)
            for parameters in (model.discriminator.parameters(), [p for group in groups for p in group.parameters()])
        )

    def __call__(self, batch: Mapping[str, Tensor]) -> Losses:
        """Move every weight once. Returns each term, unweighted, under the name that unitkit logs it by."""
        return {**self._discriminators(batch), **self._generators(batch)}

    def _discriminators(self, batch: Mapping[str, Tensor]) -> Losses:
        model, losses = self.model, {}
        self.d_optimizer.zero_grad()
        total = torch.zeros((), device=batch["a"].device)
        for x, y in ("a", "b"), ("b", "a"):
            _, z = model.encode(batch[y], y)
            fake = model.decode(z, x)
            if self.detach:
                fake = fake.detach()
            else:
                model.decode(z, y)  # a reconstruction that nobody reads, as in the released code
            real_score, fake_score = model.discriminator[x](batch[x]), model.discriminator[x](fake)
            loss = cross_entropy(real_score, torch.ones_like(real_score))
            loss = loss + cross_entropy(fake_score, torch.zeros_like(fake_score))
            total = total + ADVERSARIAL * loss
            losses[f"discriminator/gan_d({x}, {y}{x})"] = loss.detach()
        torch.autograd.backward(total)
        self.d_optimizer.step()
        return losses

    def _generators(self, batch: Mapping[str, Tensor]) -> Losses:
        model, losses = self.model, {}
        self.g_optimizer.zero_grad()
        total = torch.zeros((), device=batch["a"].device)
        for x, y in ("a", "b"), ("b", "a"):
            real = batch[x]
            mean, z = model.encode(real, x)
            translation = model.decode(z, y)
            mean_there, z_there = model.encode(translation, y)
            score = model.discriminator[y](translation)
            terms = {
                f"kl({x})": (2 * KL, mean.square().mean()),  # once in L_VAE, once in L_CC
                f"l1({x}{x}, {x})": (LIKELIHOOD, l1_loss(model.decode(z, x), real)),
                f"gan_g({x}{y})": (ADVERSARIAL, cross_entropy(score, torch.ones_like(score))),
                f"kl({x}{y})": (KL, mean_there.square().mean()),
                f"l1({x}{y}{x}, {x})": (LIKELIHOOD, l1_loss(model.decode(z_there, x), real)),
            }
            for name, (weight, loss) in terms.items():
                total = total + weight * loss
                losses[f"generator/{name}"] = loss.detach()
        torch.autograd.backward(total)
        self.g_optimizer.step()
        return losses
