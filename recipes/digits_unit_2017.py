"""UNIT on digits as its authors released it in 2017, for SVHN -> MNIST: their networks, weights and optimizers.

unitkit train digits_unit_2017 source=svhn target=mnist data=FOLDER     # FOLDER/svhn, FOLDER/mnist; a GPU
unitkit train digits_unit_2017 steps=200 width=16                       # drawn digits, anywhere

200,000 steps of networks with 27 million weights want a GPU; `digits_unit.py` is the recipe for a CPU. The released
code picks its checkpoint by the target's test classes; this recipe ends with the last step.
"""

from dataclasses import replace

from adaptation import DIGITS, adapted

from unitkit import (
    Adam,
    Player,
    Recipe,
    accuracy,
    agreement,
    classify,
    data,
    discriminators,
    encoders,
    feature_matching,
    gan_d,
    gan_g,
    generators,
    kl,
    l2,
    models,
    sharing,
)


def recipe(
    *,
    images: data.Digits = replace(DIGITS, invert=True),
    width: int = 96,  # channels after the first convolution of the encoders, and before the last of the generators
    width_d: int = 64,  # channels after a discriminator's first convolution
    shared: int = 3,  # stages that both generators share, of 5; all but the first of encoders and discriminators are
    optimizer: Adam = Adam(lr=2e-4, betas=(0.5, 0.999), weight_decay=5e-4),
    lambda_gan: float = 1.0,  # weight of the GAN loss of both sides; translations and reconstructions count half each
    lambda_kl: float = 1e-4,  # weight of the posteriors against N(0, I), summed over a code
    lambda_rec: float = 1e-3,  # weight of the squared error of the reconstructions, summed over an image
    lambda_fm: float = 1e-4,  # weight of the squared difference in features of the two images of a code, summed
    lambda_class: float = 10.0,  # weight of the classes of the source
    affine: float = 0.0,  # how much training images are rotated, scaled, stretched, sheared and shifted
) -> Recipe:
    """UNIT between two domains of digits with the released settings, with classes of the source alone."""
    digits = images.open()
    model = models.unit(
        channels=digits.channels,
        encoder=encoders.conv32(width=width, coordinates=True),
        generator=generators.conv32(width=width),
        discriminator=discriminators.conv32(width=width_d, classes=10),
        sharing=sharing.tie(encoder=4, generator=shared, discriminator=4),
    )
    # The released code's C * H * W: a sum over the image, not a mean.
    pixels = digits.channels["a"] * digits.size[0] * digits.size[1]

    l_kl = [lambda_kl * kl(domain, reduce="sum") for domain in ("a", "b")]
    l_rec = [lambda_rec * pixels * l2(path, path[0]) for path in ("aa", "bb")]
    l_gan_d = [lambda_gan * gan_d("a", "ba", "aa"), lambda_gan * gan_d("b", "ab", "bb")]
    l_gan_g = [0.5 * lambda_gan * gan_g(path) for path in ("ba", "aa", "ab", "bb")]
    l_class = [lambda_class * classify("a")]
    l_fm = [lambda_fm * feature_matching(*pair, reduce="sum") for pair in (("ab", "aa"), ("ba", "bb"))]

    players = [
        Player("discriminator", ["discriminators"], l_gan_d + l_class + l_fm, optimizer),
        Player("generator", ["encoders", "generators"], l_kl + l_rec + l_gan_g, optimizer),
    ]
    return adapted(model, players, digits, steps=200_000, affine=affine, also=[accuracy("ab"), agreement("ba")])
