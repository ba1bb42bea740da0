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
    closeness,
    counterpart,
    cycle,
    discriminators,
    encoders,
    gan,
    generators,
    models,
    open_data,
    sharing,
    vae,
)
from unitkit.losses import Form


def recipe(
    *,
    data: str = "portraits",
    labels: str | None = None,
    size: int | tuple[int, int] = 64,
    width: int = 16,
    blocks: int = 2,
    downs: int = 1,
    kernel: Literal[3, 4] = 4,
    shared: int = 1,
    one_encoder: bool = True,
    layers: int = 4,
    judge: Literal["strided", "coupled", "multiscale"] = "strided",
    judge_width: int | None = None,
    judge_shared: int = 0,
    batch: int = 4,
    steps: int = 1200,
    lr: float = 1e-3,
    judge_lr: float | None = 5e-4,
    decay: int = 600,
    weight_decay: float = 1e-4,
    kl: float = 0.01,
    likelihood: float = 10.0,
    adversarial: float = 1.0,
    form: Form = "least-squares",
    start: Literal["gaussian", "kaiming"] = "kaiming",
    flip: bool = True,
    crop: int = 0,
) -> Recipe:
    """UNIT between two domains.

    Args:
        data: a data source such as portraits, a folder with two labels, or two locations with a comma between.
        labels: the two domains, a first, such as neutral,smiling; needed where the data hold more.
        size: side of the images, or height and width as 48x64.
        width: channels after the first convolution of encoders and discriminators.
        blocks: residual blocks of an encoder, and of a generator.
        downs: convolutions of stride 2 in an encoder, and transposed ones in a generator.
        kernel: of the generators' transposed convolutions: 3 (the paper's) or 4 (no checkerboard).
        shared: residual blocks that both domains share, on each side of the latent space.
        one_encoder: one encoder for both domains, instead of two that share `shared` blocks.
        layers: strided convolutions of a discriminator (of each scale; of front and back together).
        judge: the discriminator's layout.
        judge_width: channels after a discriminator's first layer, where not `width`.
        judge_shared: stages shared at the discriminators' end.
        batch: images of each domain in a step.
        steps: training steps.
        lr: learning rate of encoders and generators.
        judge_lr: learning rate of the discriminators, where not `lr`.
        decay: the last steps of the run, in which the learning rates fall to 0.
        weight_decay: of Adam.
        kl: weight of the posteriors against N(0, I), the paper's lambda 1 and 3.
        likelihood: weight of reconstructions and cycles, the paper's lambda 2 and 4.
        adversarial: weight of the GAN loss, the paper's lambda 0.
        form: of the GAN loss: non-saturating (the paper's), saturating, least-squares or hinge.
        start: how weights are drawn: gaussian, N(0, 0.02) as in the paper's code, or kaiming.
        flip: mirror each training image with probability 1/2.
        crop: shift each training image by up to this many pixels in all.
    """
    source = open_data(data, size=size, domains=2, labels=labels)
    depth = {"front": 2, "back": layers - 2} if judge == "coupled" else {"layers": layers}

    model = models.spec(
        "unit",
        channels=source.channels,
        encoder=encoders.spec("residual", width=width, blocks=blocks, downs=downs, start=start),
        generator=generators.spec("residual", width=width, blocks=blocks, ups=downs, kernel=kernel, start=start),
        discriminator=discriminators.spec(judge, width=judge_width or width, start=start, **depth),
        sharing=sharing.spec(
            "tie",
            encoder=1 + downs + blocks if one_encoder else shared,
            generator=shared,
            discriminator=judge_shared,
        ),
    )

    l_vae = vae("a", "b", kl=kl, likelihood=likelihood)
    l_gan = gan("ab", "ba", weight=adversarial, form=form)
    l_cc = cycle("aba", "bab", kl=kl, likelihood=likelihood)

    def adam(lr: float) -> Adam:
        return Adam(lr=lr, betas=(0.5, 0.999), weight_decay=weight_decay, decay=decay)

    return Recipe(
        model=model,
        players=[
            Player("discriminator", ["discriminators"], l_gan.judge, adam(judge_lr or lr)),
            Player("generator", ["encoders", "generators"], l_vae + l_gan.fool + l_cc, adam(lr)),
        ],
        data=source,
        steps=steps,
        batch=batch,
        flip=flip,
        crop=crop,
        evaluate=[
            *([counterpart("ab"), counterpart("ba")] if source.truth else []),
            *(closeness(path, path[0]) for path in ("aa", "bb", "aba", "bab")),
        ],
    )


presets = {
    # Photographs of faces: a deeper and wider discriminator, which sees the whole face, and less weight on likeness.
    "smile": {
        "downs": 2,
        "layers": 5,
        "judge_width": 32,
        "likelihood": 2.0,
        "lr": 5e-4,
        "crop": 4,
        "steps": 5000,
        "decay": 2500,
    },
    # The released 2017 settings for cats and dogs; `judge=coupled judge_shared=5` is CelebA's, `judge=multiscale
    # layers=4` that of streets. For 128 pixels and up: six strided layers leave little of a small image.
    "paper": {
        "size": 128,
        "width": 64,
        "blocks": 4,
        "kernel": 3,
        "downs": 2,
        "one_encoder": False,
        "layers": 6,
        "batch": 1,
        "steps": 500_000,
        "lr": 1e-4,
        "judge_lr": None,
        "decay": 0,
        "kl": 0.1,
        "likelihood": 100.0,
        "adversarial": 10.0,
        "form": "non-saturating",
        "start": "gaussian",
    },
}
