"""DTN on digits: translate the source (a) into the target (b) by G(f(x)), then classify what comes out.

unitkit train recipes/digits_dtn.py                                          # drawn digits, anywhere
unitkit train recipes/digits_dtn.py source=mnist target=usps data=FOLDER     # FOLDER/mnist, FOLDER/usps

Taigman, Polyak and Wolf, "Unsupervised Cross-Domain Image Generation", ICLR 2017. The feature function f first learns
the classes of the source and stays fixed from then on; G and the ternary discriminator move after it. What reads
the target's classes is our choice: the discriminator's class head, which learns them from translated source images.
"""

from typing import Literal

from unitkit import (
    Adam,
    Affine,
    Player,
    Recipe,
    Watch,
    accuracy,
    classify,
    constancy,
    digits,
    discriminators,
    encoders,
    generators,
    l2,
    models,
    multiclass_gan_d,
    multiclass_gan_g,
    total_variation,
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
    features: int = 32,
    discriminator_width: int = 16,
    dropout: float = 0.5,
    batch: int = 64,
    steps: int = 1500,
    lr: float = 1e-3,
    discriminator_lr: float = 1e-3,
    decay: float = 0.5,
    weight_decay: float = 0.0,
    pretrain: float = 0.25,
    gan_weight: float = 1.0,
    judge_weight: float = 1.0,
    constant: float = 15.0,
    identity: float = 15.0,
    smooth: float = 0.0,
    translated_classes: float = 1.0,
    affine: float = 1.0,
) -> Recipe:
    """DTN from one domain of digits into another, with classes of the source alone.

    Args:
        data: folder with the files of mnist, usps or svhn; none takes them from the cache, or downloads them there.
        source: the domain whose classes the training sees: mnist, usps, svhn, rendered or printed.
        target: the domain without classes.
        protocol: full, or sampled: 2000 images of mnist and 1800 of usps to train on.
        invert: give the target's training images twice, also inverted, as the released code does for mnist.
        padding: give images of usps the empty padding that mnist's have, so that digits are of one size in both.
        size: side of the images; these networks take 32.
        width: channels before the last convolution of the generator.
        features: channels after the first convolution of f.
        discriminator_width: channels after the discriminator's first convolution.
        dropout: before the discriminator's heads, and half of it before the layer before.
        batch: images of each domain in a step.
        steps: training steps.
        lr: learning rate of f and of the generator.
        discriminator_lr: learning rate of the discriminator.
        decay: the share of the steps, at the end, in which learning rates fall to 0.
        weight_decay: of Adam.
        pretrain: the share of the steps in which f learns, before the others move.
        gan_weight: weight of the ternary GAN loss for the generator.
        judge_weight: weight of the ternary GAN loss for the discriminator, beside what it classifies.
        constant: weight of f-constancy, the paper's alpha.
        identity: weight of the target's images coming out as they went in, the paper's beta.
        smooth: weight of the total variation, the paper's gamma.
        translated_classes: weight of the classes of translated source images.
        affine: how much training images are turned, scaled, stretched, sheared and shifted; 0 leaves them as they are.
    """
    images = digits(
        size=size, source=source, target=target, folder=data, protocol=protocol, invert=invert, padding=padding
    )
    model = models.spec(
        "dtn",
        channels=images.channels,
        encoder=encoders.spec("lenet", width=features),
        generator=generators.spec("conv32", width=width, init="kaiming"),
        discriminator=discriminators.spec(
            "lenet", width=discriminator_width, classes=10, gan_classes=3, dropout=dropout
        ),
    )

    l_f = [classify("a")]
    l_gan_d = [judge_weight * multiclass_gan_d("ab", "bb", "b"), translated_classes * classify("ab")]
    l_gan_g = [gan_weight * multiclass_gan_g("ab", target=2), gan_weight * multiclass_gan_g("bb", target=2)]
    l_const = [constant * constancy("a", "ab")]
    l_tid = [identity * l2("bb", "b")]
    l_tv = [smooth * total_variation("ab"), smooth * total_variation("bb")]

    def adam(lr: float) -> Adam:
        return Adam(lr=lr, betas=(0.5, 0.999), weight_decay=weight_decay, decay=decay)

    return Recipe(
        model=model,
        players=[
            Player("features", ["encoders", "classifiers"], l_f, adam(lr), until=pretrain),
            Player("discriminator", ["discriminators"], l_gan_d, adam(discriminator_lr), since=pretrain),
            Player("generator", ["generators"], l_gan_g + l_const + l_tid + l_tv, adam(lr), since=pretrain),
        ],
        data=images,
        steps=steps,
        batch=batch,
        flip=False,
        affine=affine * Affine(rotate=15, scale=0.25, stretch=0.2, shear=0.3, shift=0.06),
        evaluate=[accuracy("b"), accuracy("a"), accuracy("ab")],
        # accuracy(a) stands still once f is fixed: translations of the source choose the best step.
        watch=Watch([accuracy("ab"), accuracy("a"), accuracy("b")], every=max(1, steps // 5), images=0),
    )
