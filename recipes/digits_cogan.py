"""CoGAN on digits: two generators from one noise, two discriminators that end in one network and classify.

unitkit train digits_cogan                                          # drawn digits, anywhere
unitkit train digits_cogan source=mnist target=usps data=FOLDER     # FOLDER/mnist, FOLDER/usps

Liu and Tuzel, "Coupled Generative Adversarial Networks", NIPS 2016. The generators share their first stages, so one
noise vector gives the same digit in both domains (`za`, `zb`); the discriminators share their last, so what classifies
the source (a) classifies the target (b).
"""

from adaptation import ADAM, DIGITS, adapted

from unitkit import (
    Adam,
    Player,
    Ramp,
    Recipe,
    classify,
    data,
    discriminators,
    feature_matching,
    gan_d,
    gan_g,
    generators,
    infomax,
    models,
    sharing,
)


def recipe(
    *,
    images: data.Digits = DIGITS,
    width: int = 16,  # channels before the last convolution of a generator
    latent: int = 100,  # channels of the noise
    shared: int = 3,  # first stages that both generators share, 0 to 5
    width_d: int = 16,  # channels after a discriminator's first convolution; LeNet's is 20
    shared_d: int = 3,  # last stages that both discriminators share; 4 are all
    dropout: float = 0.5,  # before the discriminators' heads, and half of it before the layer before
    optimizer: Adam = ADAM,
    lr_d: float = 1e-3,  # learning rate of the discriminators
    lambda_gan: float = 1.0,  # weight of the GAN loss for the generators
    lambda_gan_d: float = 0.1,  # weight of the GAN loss for the discriminators, beside what they classify
    lambda_class: float = 1.0,  # weight of the classes of the source
    lambda_fm: float = 1e-3,  # weight of the difference in features of the two images of one noise
    lambda_infomax: float = 0.3,  # weight of the target's images being of one class each, and of every class
    affine: float = 1.0,  # how much training images are rotated, scaled, stretched, sheared and shifted
) -> Recipe:
    """CoGAN on two domains of digits, with classes of the source alone."""
    digits = images.open()
    model = models.cogan(
        channels=digits.channels,
        generator=generators.conv32(width=width, init="kaiming"),
        discriminator=discriminators.lenet(width=width_d, classes=10, dropout=dropout),
        sharing=sharing.tie(generator=shared, discriminator=shared_d, twins=True),
        latent=latent,
    )

    l_gan_d = [lambda_gan_d * gan_d("a", "za"), lambda_gan_d * gan_d("b", "zb")]
    l_gan_g = [lambda_gan * gan_g("za"), lambda_gan * gan_g("zb")]
    l_class = [lambda_class * classify("a"), lambda_infomax * Ramp(10) * infomax("b", balance=0.5)]
    l_fm = [lambda_fm * feature_matching("za", "zb", reduce="sum")]

    players = [
        Player("discriminator", ["discriminators"], l_gan_d + l_class + l_fm, optimizer(lr=lr_d)),
        Player("generator", ["generators"], l_gan_g, optimizer),
    ]
    return adapted(model, players, digits, steps=1000, affine=affine)


presets = {
    # Only the terms that the paper has: no feature matching, no infomax.
    "plain": {"lambda_fm": 0.0, "lambda_infomax": 0.0},
}
