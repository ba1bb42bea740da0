"""What the recipes share: UNIT's networks, the metrics of a translation, and the optimizer of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from unitkit import (
    Data,
    Spec,
    UserError,
    attribute_success,
    discriminators,
    diversity,
    encoders,
    generators,
    ground_truth,
    models,
    sharing,
)
from unitkit.metrics import Metric


@dataclass(frozen=True)
class Networks:
    """UNIT's networks and what its domains share.

    Args:
        width: channels after the first convolution of an encoder.
        blocks: residual blocks of an encoder, and of a generator.
        downs: convolutions of stride 2 in an encoder, and doublings in a generator.
        up: how a generator doubles: transposed convolutions (the paper's), smooth ones, which a filter follows against
            grids, nearest pixels or a pixel shuffle.
        kernel: of transposed convolutions, but smooth ones: 3 (the paper's) or 4 (less of a checkerboard).
        padding: of convolutions, but transposed ones: zero (the paper's) or reflect.
        norm: instance norm after the strided convolutions too, as the paper's code has for cats and dogs.
        dropout: in the residual blocks; the paper's code has 0.5 for streets.
        shared: residual blocks that the domains share, on each side of the latent space.
        one_encoder: one encoder for all domains; without it they have one each, which share `shared` blocks.
        discriminator: the discriminators' layout.
        layers: strided convolutions of a discriminator (of each scale; of front and back together).
        augment: the probability of each change (mirrored, shifted, recoloured, cut) of what a discriminator sees.
        width_d: channels after a discriminator's first layer.
        shared_d: stages shared at the discriminators' end.
        init: how weights are drawn: gaussian, N(0, 0.02) as in the paper's code, or kaiming.
    """

    width: int = 16
    blocks: int = 2
    downs: int = 1
    up: Literal["transposed", "smooth", "nearest", "shuffle"] = "transposed"
    kernel: Literal[3, 4] = 4
    padding: Literal["zero", "reflect"] = "zero"
    norm: bool = False
    dropout: float = 0.0
    shared: int = 1
    one_encoder: bool = True
    discriminator: Literal["strided", "coupled", "multiscale"] = "strided"
    layers: int = 4
    width_d: int = 24
    augment: float = 0.0
    shared_d: int = 0
    init: Literal["gaussian", "kaiming"] = "kaiming"

    def unit(self, channels: Mapping[str, int]) -> Spec:
        """The model of these networks, for domains with these channels."""
        if self.one_encoder and len(set(channels.values())) > 1:
            raise UserError(
                f"one encoder cannot read grey and colour ({dict(channels)}): give channels=3 or one_encoder=no"
            )
        return models.unit(
            channels=channels,
            encoder=encoders.residual(
                width=self.width,
                blocks=self.blocks,
                downs=self.downs,
                norm=self.norm,
                dropout=self.dropout,
                padding=self.padding,
                init=self.init,
            ),
            generator=generators.residual(
                width=self.width,
                blocks=self.blocks,
                ups=self.downs,
                up=self.up,
                kernel=self.kernel,
                norm=self.norm,
                dropout=self.dropout,
                padding=self.padding,
                init=self.init,
            ),
            discriminator=self._discriminator(),
            sharing=sharing.tie(
                encoder=1 + self.downs + self.blocks if self.one_encoder else self.shared,
                generator=self.shared,
                discriminator=self.shared_d,
            ),
        )

    def _discriminator(self) -> Spec:
        if self.discriminator == "coupled":
            return discriminators.coupled(
                width=self.width_d, front=2, back=self.layers - 2, augment=self.augment, init=self.init
            )
        if self.discriminator == "multiscale":
            return discriminators.multiscale(
                width=self.width_d, layers=self.layers, augment=self.augment, init=self.init
            )
        return discriminators.strided(width=self.width_d, layers=self.layers, augment=self.augment, init=self.init)


def translation_metrics(data: Data, paths: Sequence[str]) -> list[Metric]:
    """How well images are translated along these paths: beside the ground truth where the data know it.

    Elsewhere a classifier judges, for reconstructions and cycles alone are best of an identity map.
    """
    if data.truth:
        return [ground_truth(path) for path in paths]
    return [*map(attribute_success, paths), *map(diversity, paths)]


# What all of the released 2017 settings have in common.
RELEASED: dict[str, Any] = {
    "width": 64,
    "blocks": 4,
    "downs": 2,
    "kernel": 3,
    "one_encoder": False,
    "width_d": 64,
    "batch": 1,
    "steps": 500_000,
    "lr": 1e-4,
    "lr_d": 1e-4,
    "decay": 0.0,
    "lambda_kl": 0.1,
    "lambda_rec": 100.0,
    "lambda_gan": 10.0,
    "mode": "non-saturating",
    "ema": 0.0,
    "init": "gaussian",
}
