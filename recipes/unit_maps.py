"""UNIT on maps: aerial images (a) <-> street maps (b), trained unpaired and scored against the ground truth.

unitkit train recipes/unit_maps.py
unitkit train recipes/unit_maps.py data=FOLDER         # FOLDER/{train,val}/{satellite,map}/, equal names are pairs
unitkit ablate recipes/unit_maps.py constraint=sharing,cycle,both --seeds 5

The task of the paper's ablation: shared layers in the generator, the discriminator's depth, the weights, and what
sharing and cycle consistency add to each other. Domains draw their training images independently, so no pair is
ever seen as one.
"""

from typing import Literal

from unitkit import (
    Adam,
    Player,
    Recipe,
    cycle,
    discriminators,
    encoders,
    gan,
    generators,
    models,
    open_data,
    pixel_accuracy,
    psnr,
    sharing,
    vae,
)
from unitkit.losses import Mode


def recipe(
    *,
    data: str = "terrain",
    labels: str = "satellite,map",
    size: int | tuple[int, int] = 64,
    width: int = 8,
    blocks: int = 4,
    downs: int = 2,
    kernel: Literal[3, 4] = 4,
    norm: bool = True,
    constraint: Literal["both", "sharing", "cycle", "none"] = "both",
    shared: int = 1,
    layers: int = 4,
    discriminator_width: int | None = 16,
    batch: int = 2,
    steps: int = 700,
    lr: float = 2e-3,
    discriminator_lr: float | None = None,
    decay: float = 0.5,
    weight_decay: float = 1e-4,
    l0: float = 1.0,
    l1: float = 0.01,
    l2: float = 10.0,
    mode: Mode = "least-squares",
    init: Literal["gaussian", "kaiming"] = "kaiming",
    flip: bool = True,
    crop: int = 0,
) -> Recipe:
    """UNIT between aerial images and street maps.

    Args:
        data: terrain (rendered), or aligned data: a folder whose held-out images of equal names are one place.
        labels: the two domains, the aerial images first.
        size: side of the images, or height and width as 48x64.
        width: channels after the first convolution of encoders and, where not said otherwise, discriminators.
        blocks: residual blocks of an encoder, and of a generator.
        downs: convolutions of stride 2 in an encoder, and transposed ones in a generator.
        kernel: of the generators' transposed convolutions: 3 (the paper's) or 4 (no checkerboard).
        norm: instance norm after the strided convolutions too.
        constraint: what holds the domains together: shared blocks, cycle consistency, both (the paper's), or none.
        shared: residual blocks that both domains share, on each side of the latent space; 0 to `blocks`.
        layers: strided convolutions of a discriminator.
        discriminator_width: channels after a discriminator's first layer, where not `width`.
        batch: images of each domain in a step.
        steps: training steps.
        lr: learning rate of encoders and generators.
        discriminator_lr: learning rate of the discriminators, where not `lr`.
        decay: the share of the steps, at the end, in which the learning rates fall to 0.
        weight_decay: of Adam.
        l0: weight of the GAN loss, the paper's lambda 0.
        l1: weight of the posteriors against N(0, I), the paper's lambda 1, and 3 in the cycle.
        l2: weight of the reconstructions, the paper's lambda 2, and 4 in the cycle.
        mode: of the GAN loss: non-saturating (the paper's), saturating, least-squares or hinge.
        init: how weights are drawn: gaussian, N(0, 0.02) as in the paper's code, or kaiming.
        flip: mirror each training image with probability 1/2.
        crop: shift each training image by up to this many pixels in all.
    """
    source = open_data(data, size=size, domains=2, labels=labels, aligned=True)
    blocks_shared = shared if constraint in ("both", "sharing") else 0
    cycle_weight = 1.0 if constraint in ("both", "cycle") else 0.0
    tower = {"width": width, "blocks": blocks, "norm": norm, "init": init}
    model = models.spec(
        "unit",
        channels=source.channels,
        encoder=encoders.spec("residual", **tower, downs=downs),
        generator=generators.spec("residual", **tower, ups=downs, kernel=kernel),
        discriminator=discriminators.spec("strided", width=discriminator_width or width, init=init, layers=layers),
        sharing=sharing.spec("tie", encoder=blocks_shared, generator=blocks_shared),
    )

    l_vae = vae("a", "b", kl=l1, likelihood=l2)
    l_gan = gan("ab", "ba", weight=l0, mode=mode)
    l_cc = cycle("aba", "bab", kl=cycle_weight * l1, likelihood=cycle_weight * l2)

    def adam(lr: float) -> Adam:
        return Adam(lr=lr, betas=(0.5, 0.999), weight_decay=weight_decay, decay=decay)

    return Recipe(
        model=model,
        players=[
            Player("discriminator", ["discriminators"], l_gan.d, adam(discriminator_lr or lr)),
            Player("generator", ["encoders", "generators"], l_vae + l_gan.g + l_cc, adam(lr)),
        ],
        data=source,
        steps=steps,
        batch=batch,
        flip=flip,
        crop=crop,
        evaluate=[
            pixel_accuracy("ab", "b"),
            psnr("ab", "b"),
            *(psnr(path, path[0]) for path in ("aa", "bb", "aba", "bab")),
        ],
    )
