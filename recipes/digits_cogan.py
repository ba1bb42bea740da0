"""CoGAN on digits: two generators from one noise, two discriminators that end in one network and classify.

unitkit train recipes/digits_cogan.py                                          # drawn digits, anywhere
unitkit train recipes/digits_cogan.py source=mnist target=usps data=FOLDER     # FOLDER/mnist, FOLDER/usps

Liu and Tuzel, "Coupled Generative Adversarial Networks", NIPS 2016. The generators share their first stages, so one
noise vector gives the same digit in both domains (`za`, `zb`); the discriminators share their last, so what classifies
the source (a) classifies the target (b).
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
    digits,
    discriminators,
    feature_matching,
    gan_d,
    gan_g,
    generators,
    infomax,
    models,
    sharing,
)
from unitkit.data.digits import Look


def recipe(
    *,
    data: str | None = None,
    source: Look = "rendered",
    target: Look = "printed",
    protocol: Literal["full", "sampled"] = "full",
    invert: bool = False,
    padding: bool = True,
    size: int = 32,
    width: int = 16,
    latent: int = 100,
    shared: int = 3,
    discriminator_width: int = 16,
    discriminator_shared: int = 3,
    dropout: float = 0.5,
    batch: int = 64,
    steps: int = 1000,
    lr: float = 1e-3,
    discriminator_lr: float = 1e-3,
    decay: float = 0.5,
    weight_decay: float = 0.0,
    gan_weight: float = 1.0,
    judge_weight: float = 0.1,
    source_classes: float = 1.0,
    matching: float = 1e-3,
    lambda_infomax: float = 0.3,
    affine: float = 1.0,
) -> Recipe:
    """CoGAN on two domains of digits, with classes of the source alone.

    Args:
        data: folder with the files of mnist, usps or svhn; none takes them from the cache, or downloads them there.
        source: the domain whose classes the training sees: mnist, usps, svhn, rendered or printed.
        target: the domain without classes.
        protocol: full, or sampled: 2000 images of mnist and 1800 of usps to train on.
        invert: give the target's training images twice, also inverted, as the released code does for mnist.
        padding: give images of usps the empty padding that mnist's have, so that digits are of one size in both.
        size: side of the images; these networks take 32.
        width: channels before the last convolution of a generator.
        latent: channels of the noise.
        shared: first stages that both generators share, 0 to 5.
        discriminator_width: channels after a discriminator's first convolution; LeNet's is 20.
        discriminator_shared: last stages that both discriminators share; 4 are all.
        dropout: before the discriminators' heads, and half of it before the layer before.
        batch: images of each domain in a step.
        steps: training steps.
        lr: learning rate of the generators.
        discriminator_lr: learning rate of the discriminators.
        decay: the share of the steps, at the end, in which learning rates fall to 0.
        weight_decay: of Adam.
        gan_weight: weight of the GAN loss for the generators.
        judge_weight: weight of the GAN loss for the discriminators, beside what they classify.
        source_classes: weight of the classes of the source.
        matching: weight of the difference in features of the two images of one noise.
        lambda_infomax: weight of the target's images being of one class each, and of every class; 0 is the paper.
        affine: how much training images are turned, scaled, stretched, sheared and shifted; 0 leaves them as they are.
    """
    images = digits(
        size=size, source=source, target=target, folder=data, protocol=protocol, invert=invert, padding=padding
    )
    model = models.spec(
        "cogan",
        channels=images.channels,
        generator=generators.spec("conv32", width=width, init="kaiming"),
        discriminator=discriminators.spec("lenet", width=discriminator_width, classes=10, dropout=dropout),
        sharing=sharing.spec("tie", generator=shared, discriminator=discriminator_shared, twins=True),
        latent=latent,
    )

    l_gan_d = [judge_weight * gan_d("a", "za"), judge_weight * gan_d("b", "zb")]
    l_gan_g = [gan_weight * gan_g("za"), gan_weight * gan_g("zb")]
    l_class = [source_classes * classify("a"), lambda_infomax * infomax("b", balance=0.5, strength=Ramp(10))]
    l_match = [matching * feature_matching("za", "zb", reduce="sum")]

    def adam(lr: float) -> Adam:
        return Adam(lr=lr, betas=(0.5, 0.999), weight_decay=weight_decay, decay=decay)

    return Recipe(
        model=model,
        players=[
            Player("discriminator", ["discriminators"], l_gan_d + l_class + l_match, adam(discriminator_lr)),
            Player("generator", ["generators"], l_gan_g, adam(lr)),
        ],
        data=images,
        steps=steps,
        batch=batch,
        flip=False,
        affine=affine * Affine(rotate=15, scale=0.25, stretch=0.2, shear=0.3, shift=0.06),
        evaluate=[accuracy("b"), accuracy("a")],
        watch=Watch([accuracy("a"), accuracy("b")], every=max(1, steps // 5), images=0),
    )


presets = {
    # Only the terms that the paper has: no matching, no infomax.
    "plain": {"matching": 0.0, "lambda_infomax": 0.0},
}
