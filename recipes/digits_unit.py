"""UNIT on digits: translate between two domains, and classify the one whose classes were never seen.

unitkit train recipes/digits_unit.py                                          # drawn digits, anywhere
unitkit train recipes/digits_unit.py source=mnist target=usps data=FOLDER     # FOLDER/mnist, FOLDER/usps

The discriminators classify as well. Their high layers are one network, so what classifies the source (a) classifies the
target (b), and the features of the two images that one code gives are drawn together. Liu, Breuel and Kautz 2017; the
networks for these domains were never released, and docs/results/digits.md says why these were chosen.
"""

from typing import Literal

from unitkit import (
    Adam,
    Affine,
    Player,
    Ramp,
    Recipe,
    Watch,
    accuracy,
    classify,
    cycle,
    digits,
    discriminators,
    encoders,
    feature_matching,
    gan,
    generators,
    infomax,
    models,
    sharing,
    vae,
)
from unitkit.data.digits import Look
from unitkit.losses import Mode


def recipe(
    *,
    data: str | None = None,
    source: Look = "rendered",
    target: Look = "printed",
    protocol: Literal["full", "sampled"] = "full",
    invert: bool = False,
    padding: bool = True,
    size: int = 32,
    width: int = 6,
    blocks: int = 2,
    shared: int = 1,
    one_encoder: bool = True,
    noise: float = 0.1,
    discriminator_width: int = 16,
    discriminator_shared: int = 3,
    dropout: float = 0.5,
    batch: int = 64,
    steps: int = 1000,
    lr: float = 1e-3,
    discriminator_lr: float = 1e-3,
    decay: float = 0.7,
    weight_decay: float = 0.0,
    gan_weight: float = 1.0,
    judge_weight: float = 0.1,
    kl: float = 0.01,
    reconstruction: float = 10.0,
    cycle_weight: float = 0.0,
    source_classes: float = 1.0,
    translated_classes: float = 1.0,
    matching: float = 1e-3,
    lambda_infomax: float = 0.3,
    mode: Mode = "least-squares",
    affine: float = 1.0,
) -> Recipe:
    """UNIT between two domains of digits, with classes of the source alone.

    Args:
        data: folder with the files of mnist, usps or svhn; none takes them from the cache, or downloads them there.
        source: the domain whose classes the training sees: mnist, usps, svhn, rendered or printed.
        target: the domain without classes.
        protocol: full, or sampled: 2000 images of mnist and 1800 of usps to train on.
        invert: give the target's training images twice, also inverted, as the released code does for mnist.
        padding: give images of usps the empty padding that mnist's have, so that digits are of one size in both.
        size: side of the images; these networks take 32.
        width: channels after the first convolution of encoders and generators.
        blocks: residual blocks of an encoder, and of a generator.
        shared: residual blocks that both domains share, on each side of the latent space; 0 to `blocks`.
        one_encoder: one encoder for both domains, all of whose stages are shared.
        noise: the standard deviation of a code around its mean while training; the paper's is 1.
        discriminator_width: channels after a discriminator's first convolution; LeNet's is 20.
        discriminator_shared: last stages that both discriminators share; 4 are all.
        dropout: before the discriminators' heads, and half of it before the layer before.
        batch: images of each domain in a step.
        steps: training steps.
        lr: learning rate of encoders and generators.
        discriminator_lr: learning rate of the discriminators.
        decay: the share of the steps, at the end, in which learning rates fall to 0.
        weight_decay: of Adam.
        gan_weight: weight of the GAN loss for encoders and generators.
        judge_weight: weight of the GAN loss for the discriminators, beside what they classify.
        kl: weight of the posteriors against N(0, I).
        reconstruction: weight of the reconstructions.
        cycle_weight: weight of the cycles; 0 leaves them out, as the paper does for digits.
        source_classes: weight of the classes of real source images.
        translated_classes: weight of the classes of translated source images; 0 is the paper.
        matching: weight of the difference in features of the two images of one code.
        lambda_infomax: weight of the target's images being of one class each, and of every class; 0 is the paper.
        mode: of the GAN loss: non-saturating, saturating, least-squares or hinge.
        affine: how much training images are turned, scaled, stretched, sheared and shifted; 0 leaves them as they are.
    """
    images = digits(
        size=size, source=source, target=target, folder=data, protocol=protocol, invert=invert, padding=padding
    )
    tower = {"width": width, "blocks": blocks, "norm": True, "init": "kaiming"}
    model = models.spec(
        "unit",
        channels=images.channels,
        encoder=encoders.spec("residual", **tower),
        generator=generators.spec("residual", **tower, kernel=4),
        discriminator=discriminators.spec("lenet", width=discriminator_width, classes=10, dropout=dropout),
        sharing=sharing.spec(
            "tie",
            encoder=3 + blocks if one_encoder else shared,
            generator=shared,
            discriminator=discriminator_shared,
            twins=True,
        ),
        noise=noise,
    )

    l_vae = vae("a", "b", kl=kl, likelihood=reconstruction)
    l_gan_d = gan("ab", "ba", weight=judge_weight, mode=mode).d
    l_gan_g = gan("ab", "ba", weight=gan_weight, mode=mode).g
    l_cc = cycle("aba", "bab", kl=kl if cycle_weight else 0, likelihood=cycle_weight)
    l_class = [
        source_classes * classify("a"),
        translated_classes * classify("ab"),
        lambda_infomax * infomax("b", balance=0.5, strength=Ramp(10)),
    ]
    l_match = [matching * feature_matching(*pair, reduce="sum") for pair in (("ab", "aa"), ("ba", "bb"))]

    def adam(lr: float) -> Adam:
        return Adam(lr=lr, betas=(0.5, 0.999), weight_decay=weight_decay, decay=decay)

    return Recipe(
        model=model,
        players=[
            Player("discriminator", ["discriminators"], l_gan_d + l_class + l_match, adam(discriminator_lr)),
            Player("generator", ["encoders", "generators"], l_vae + l_gan_g + l_cc, adam(lr)),
        ],
        data=images,
        steps=steps,
        batch=batch,
        flip=False,
        affine=affine * Affine(rotate=15, scale=0.25, stretch=0.2, shear=0.3, shift=0.06),
        evaluate=[accuracy("b"), accuracy("a"), accuracy("ab")],
        watch=Watch([accuracy("a"), accuracy("b")], every=max(1, steps // 5), images=0),
    )


presets = {
    # Only the terms that the paper has: no classes of translations, no infomax.
    "plain": {"translated_classes": 0.0, "lambda_infomax": 0.0},
}
