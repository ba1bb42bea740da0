"""UNIT on faces: an attribute off (a) and on (b), such as glasses on rendered portraits or a smile on photographs.

unitkit train recipes/unit_faces.py
unitkit train recipes/unit_faces.py @smile data=FOLDER
unitkit train recipes/unit_faces.py @paper data=FOLDER

The objective is the paper's, L_VAE + L_GAN + L_CC. The default knobs are for minutes on two CPU cores: narrow
networks, and one encoder for both domains (one_encoder), which keeps colours from changing places between them.
"""

from typing import Literal

from unitkit import (
    Adam,
    Player,
    Recipe,
    UserError,
    attribute_success,
    cycle,
    discriminators,
    diversity,
    encoders,
    gan,
    generators,
    ground_truth,
    models,
    open_data,
    psnr,
    sharing,
    vae,
)
from unitkit.losses import Mode


def recipe(
    *,
    data: str = "portraits",
    labels: str | None = None,
    channels: Literal[1, 3] | None = None,
    size: int | tuple[int, int] = 64,
    width: int = 16,
    blocks: int = 2,
    downs: int = 1,
    kernel: Literal[3, 4] = 4,
    norm: bool = False,
    dropout: float = 0.0,
    shared: int = 1,
    one_encoder: bool = True,
    layers: int = 4,
    discriminator: Literal["strided", "coupled", "multiscale"] = "strided",
    discriminator_width: int | None = 24,
    discriminator_shared: int = 0,
    batch: int = 2,
    steps: int = 1900,
    lr: float = 3e-3,
    discriminator_lr: float | None = 1e-3,
    decay: float = 0.5,
    weight_decay: float = 1e-4,
    kl: float = 0.01,
    likelihood: float = 10.0,
    adversarial: float = 0.5,
    mode: Mode = "least-squares",
    init: Literal["gaussian", "kaiming"] = "kaiming",
    flip: bool = True,
    crop: int = 0,
) -> Recipe:
    """UNIT between two domains.

    Args:
        data: a data source such as portraits, a folder with two labels, or two locations with a comma between.
        labels: the two domains, a first, such as neutral,smiling; needed where the data hold more.
        channels: 1 makes all images grey, 3 all of them RGB; without it a domain of grey images has 1.
        size: side of the images, or height and width as 48x64.
        width: channels after the first convolution of encoders and discriminators.
        blocks: residual blocks of an encoder, and of a generator.
        downs: convolutions of stride 2 in an encoder, and transposed ones in a generator.
        kernel: of the generators' transposed convolutions: 3 (the paper's) or 4 (no checkerboard).
        norm: instance norm after the strided convolutions too, as the paper's code has for cats and dogs.
        dropout: in the residual blocks; the paper's code has 0.5 for streets.
        shared: residual blocks that both domains share, on each side of the latent space.
        one_encoder: one encoder for both domains; without it they have one each, which share `shared` blocks.
        layers: strided convolutions of a discriminator (of each scale; of front and back together).
        discriminator: the discriminators' layout.
        discriminator_width: channels after a discriminator's first layer, where not `width`.
        discriminator_shared: stages shared at the discriminators' end.
        batch: images of each domain in a step.
        steps: training steps.
        lr: learning rate of encoders and generators.
        discriminator_lr: learning rate of the discriminators, where not `lr`.
        decay: the share of the steps, at the end, in which the learning rates fall to 0.
        weight_decay: of Adam.
        kl: weight of the posteriors against N(0, I), the paper's lambda 1 and 3.
        likelihood: weight of reconstructions and cycles, the paper's lambda 2 and 4.
        adversarial: weight of the GAN loss, the paper's lambda 0.
        mode: of the GAN loss: non-saturating (the paper's), saturating, least-squares or hinge.
        init: how weights are drawn: gaussian, N(0, 0.02) as in the paper's code, or kaiming.
        flip: mirror each training image with probability 1/2.
        crop: shift each training image by up to this many pixels in all.
    """
    source = open_data(data, size=size, domains=2, labels=labels, channels=channels)
    if one_encoder and len(set(source.channels.values())) > 1:
        raise UserError(
            f"one encoder cannot read grey and colour ({source.channels}): give channels=3 or one_encoder=no"
        )
    tower = {"width": width, "blocks": blocks, "norm": norm, "dropout": dropout, "init": init}
    depth = {"front": 2, "back": layers - 2} if discriminator == "coupled" else {"layers": layers}

    model = models.spec(
        "unit",
        channels=source.channels,
        encoder=encoders.spec("residual", **tower, downs=downs),
        generator=generators.spec("residual", **tower, ups=downs, kernel=kernel),
        discriminator=discriminators.spec(discriminator, width=discriminator_width or width, init=init, **depth),
        sharing=sharing.spec(
            "tie",
            encoder=1 + downs + blocks if one_encoder else shared,
            generator=shared,
            discriminator=discriminator_shared,
        ),
    )

    l_vae = vae("a", "b", kl=kl, likelihood=likelihood)
    l_gan = gan("ab", "ba", weight=adversarial, mode=mode)
    l_cc = cycle("aba", "bab", kl=kl, likelihood=likelihood)

    judged = [ground_truth(path) for path in ("ab", "ba")]
    if not source.truth:  # a classifier judges: reconstructions and cycles alone are best of an identity map
        judged = [*map(attribute_success, ("ab", "ba")), *map(diversity, ("ab", "ba"))]

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
            *judged,
            *(psnr(path, path[0]) for path in ("aa", "bb", "aba", "bab")),
        ],
    )


# Each of the released 2017 settings, for 2,000,000 or 500,000 iterations.
released = {
    "width": 64,
    "blocks": 4,
    "downs": 2,
    "kernel": 3,
    "one_encoder": False,
    "discriminator_width": 64,
    "batch": 1,
    "steps": 500_000,
    "lr": 1e-4,
    "discriminator_lr": 1e-4,
    "decay": 0.0,
    "kl": 0.1,
    "likelihood": 100.0,
    "adversarial": 10.0,
    "mode": "non-saturating",
    "init": "gaussian",
}
presets = {
    # Photographs of faces, 64 pixels: discriminators that see the whole face, and less weight on likeness.
    "smile": {
        "downs": 2,
        "layers": 5,
        "discriminator_width": 32,
        "likelihood": 2.0,
        "adversarial": 1.0,
        "batch": 4,
        "lr": 5e-4,
        "discriminator_lr": 5e-4,
        "crop": 4,
        "steps": 5000,
    },
    # CelebA: two private layers and a shared back in the discriminators.
    "paper": {
        **released,
        "size": 128,
        "crop": 4,
        "discriminator": "coupled",
        "layers": 6,
        "discriminator_shared": 5,
        "steps": 2_000_000,
    },
    "cats_dogs": {**released, "size": 200, "norm": True, "layers": 6},
    "street": {**released, "size": (480, 640), "dropout": 0.5, "discriminator": "multiscale"},
}
