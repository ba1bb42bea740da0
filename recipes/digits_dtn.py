"""DTN on digits: translate the source (a) into the target (b) by G(f(x)), then classify what comes out.

unitkit train digits_dtn                                          # drawn digits, anywhere
unitkit train digits_dtn source=mnist target=usps data=FOLDER     # FOLDER/mnist, FOLDER/usps

Taigman, Polyak and Wolf, "Unsupervised Cross-Domain Image Generation", ICLR 2017. The feature function f first learns
the classes of the source and stays fixed from then on; G and the ternary discriminator move after it. What reads
the target's classes is our choice: the discriminator's class head, which learns them from translated source images.
"""

from adaptation import ADAM, DIGITS, adapted

from unitkit import (
    Adam,
    Player,
    Recipe,
    accuracy,
    classify,
    constancy,
    data,
    discriminators,
    encoders,
    generators,
    l2,
    models,
    multiclass_gan_d,
    multiclass_gan_g,
    total_variation,
)


def recipe(
    *,
    images: data.Digits = DIGITS,
    width: int = 16,  # channels before the last convolution of the generator
    features: int = 32,  # channels after the first convolution of f
    width_d: int = 16,  # channels after the discriminator's first convolution
    dropout: float = 0.5,  # before the discriminator's heads, and half of it before the layer before
    optimizer: Adam = ADAM,
    lr_d: float = 1e-3,  # learning rate of the discriminator
    pretrain: float = 0.25,  # the share of the steps in which f learns, before the others move
    lambda_gan: float = 1.0,  # weight of the ternary GAN loss for the generator
    lambda_gan_d: float = 1.0,  # weight of the ternary GAN loss for the discriminator, beside what it classifies
    lambda_const: float = 15.0,  # weight of f-constancy, the paper's alpha
    lambda_idt: float = 15.0,  # weight of the target's images coming out as they went in, the paper's beta
    lambda_tv: float = 0.0,  # weight of the total variation, the paper's gamma
    lambda_class_ab: float = 1.0,  # weight of the classes of translated source images
    affine: float = 1.0,  # how much training images are rotated, scaled, stretched, sheared and shifted
) -> Recipe:
    """DTN from one domain of digits into another, with classes of the source alone."""
    digits = images.open()
    model = models.dtn(
        channels=digits.channels,
        encoder=encoders.lenet(width=features),
        generator=generators.conv32(width=width, init="kaiming"),
        discriminator=discriminators.lenet(width=width_d, classes=10, gan_classes=3, dropout=dropout),
    )

    l_f = [classify("a")]
    l_gan_d = [lambda_gan_d * multiclass_gan_d("ab", "bb", "b"), lambda_class_ab * classify("ab")]
    l_gan_g = [lambda_gan * multiclass_gan_g(path, target=2) for path in ("ab", "bb")]
    l_const = [lambda_const * constancy("a", "ab")]
    l_tid = [lambda_idt * l2("bb", "b")]
    l_tv = [lambda_tv * total_variation("ab"), lambda_tv * total_variation("bb")]

    players = [
        Player("features", ["encoders", "classifiers"], l_f, optimizer, until=pretrain),
        Player("discriminator", ["discriminators"], l_gan_d, optimizer(lr=lr_d), since=pretrain),
        Player("generator", ["generators"], l_gan_g + l_const + l_tid + l_tv, optimizer, since=pretrain),
    ]
    # accuracy(a) stands still once f is fixed: translations of the source choose the best step.
    return adapted(model, players, digits, steps=1500, affine=affine, also=[accuracy("ab")], chosen="ab")
