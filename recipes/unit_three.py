"""UNIT over three domains and more: faces plain (a), with glasses (b) and with a hat (c), and all ways between them.

unitkit train recipes/unit_three.py
unitkit train recipes/unit_three.py data=FOLDER labels=spring,summer,winter
unitkit train recipes/unit_three.py data=FOLDER domains=4

Every domain has a generator and a discriminator, and all meet in one latent space, which one encoder reads
(`one_encoder`) or one each, so that n domains need n generators for their n (n - 1) translations. A discriminator sees
the translations from every other domain; they count together as much as the real images.
"""

from itertools import permutations
from typing import Literal

from unitkit import (
    Adam,
    Player,
    Recipe,
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
    domains: int = 3,
    size: int | tuple[int, int] = 64,
    width: int = 16,
    blocks: int = 2,
    downs: int = 1,
    kernel: Literal[3, 4] = 4,
    shared: int = 1,
    one_encoder: bool = True,
    layers: int = 4,
    batch: int = 2,
    steps: int = 1900,
    lr: float = 3e-3,
    discriminator_lr: float = 1e-3,
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
    """UNIT between every two of several domains.

    Args:
        data: a data source such as portraits, a folder with a label for each domain, or locations with commas between.
        labels: the domains in order, such as plain,glasses,hat; needed where the data hold more.
        domains: how many domains there are; portraits have up to three.
        size: side of the images, or height and width as 48x64.
        width: channels after the first convolution of every network.
        blocks: residual blocks of an encoder, and of a generator.
        downs: convolutions of stride 2 in an encoder, and transposed ones in a generator.
        kernel: side of the generator's transposed convolutions: 3 as in the paper's code, or 4.
        shared: residual blocks that all domains share, on each side of the latent space.
        one_encoder: one encoder for all domains, instead of one each that share `shared` blocks.
        layers: strided convolutions of a discriminator.
        batch: images of each domain in a step.
        steps: training steps.
        lr: learning rate of encoders and generators.
        discriminator_lr: learning rate of the discriminators.
        decay: the share of the steps, at the end, in which the learning rates fall to 0.
        weight_decay: of Adam.
        kl: weight of the posteriors against N(0, I); the paper has 0.1.
        likelihood: weight of reconstructions and cycles; the paper has 100.
        adversarial: weight of the GAN loss; the paper has 10.
        mode: of the GAN loss: non-saturating (the paper's), saturating, least-squares or hinge.
        init: how weights are drawn: gaussian, N(0, 0.02) as in the paper's code, or kaiming.
        flip: mirror each training image with probability 1/2.
        crop: shift each training image by up to this many pixels.
    """
    source = open_data(data, size=size, domains=domains, labels=labels)
    letters = list(source.domains)
    translations = [here + there for here, there in permutations(letters, 2)]
    cycles = [path + path[0] for path in translations]

    model = models.spec(
        "unit",
        channels=source.channels,
        encoder=encoders.spec("residual", width=width, blocks=blocks, downs=downs, init=init),
        generator=generators.spec("residual", width=width, blocks=blocks, ups=downs, kernel=kernel, init=init),
        discriminator=discriminators.spec("strided", width=width, layers=layers, init=init),
        sharing=sharing.spec("tie", encoder=1 + downs + blocks if one_encoder else shared, generator=shared),
    )

    l_vae = vae(*letters, kl=kl, likelihood=likelihood)
    l_gan = gan(*translations, weight=adversarial, mode=mode)
    l_cc = cycle(*cycles, kl=kl, likelihood=likelihood)

    judged = [ground_truth(path) for path in translations]
    if not source.truth:  # a classifier judges: reconstructions and cycles alone are best of an identity map
        judged = [*map(attribute_success, translations), *map(diversity, translations)]

    def adam(lr: float) -> Adam:
        return Adam(lr=lr, betas=(0.5, 0.999), weight_decay=weight_decay, decay=decay)

    return Recipe(
        model=model,
        players=[
            Player("discriminator", ["discriminators"], l_gan.d, adam(discriminator_lr)),
            Player("generator", ["encoders", "generators"], l_vae + l_gan.g + l_cc, adam(lr)),
        ],
        data=source,
        steps=steps,
        batch=batch,
        flip=flip,
        crop=crop,
        evaluate=[
            *judged,
            *(psnr(letter + letter, letter) for letter in letters),
            *(psnr(path, path[0]) for path in cycles),
        ],
    )
