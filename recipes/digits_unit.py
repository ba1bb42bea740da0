"""UNIT on digits: translate between two domains, and classify the one whose classes were never seen.

unitkit train digits_unit                                          # drawn digits, anywhere
unitkit train digits_unit source=mnist target=usps data=FOLDER     # FOLDER/mnist, FOLDER/usps

The discriminators classify as well. Their high layers are one network, so what classifies the source (a) classifies the
target (b), and the features of the two images that one code gives are drawn together. Liu, Breuel and Kautz 2017; the
networks for these domains were never released, and docs/results/digits.md says why these were chosen.
"""

from adaptation import ADAM, DIGITS, adapted

from unitkit import (
    Adam,
    Player,
    Ramp,
    Recipe,
    accuracy,
    agreement,
    classify,
    cycle,
    data,
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
from unitkit.losses import Mode


def recipe(
    *,
    images: data.Digits = DIGITS,
    width: int = 6,  # channels after the first convolution of encoders and generators
    blocks: int = 2,  # residual blocks of an encoder, and of a generator
    shared: int = 1,  # residual blocks that both domains share, on each side of the latent space; 0 to `blocks`
    one_encoder: bool = True,  # one encoder for both domains, all of whose stages are shared
    norm: bool = False,  # instance norm after strided convolutions too; it forgets which of two tones is the lighter
    placed: bool = True,  # encoders and generators scale and shift a domain's images, as they learn to
    noise: float = 1.0,  # the standard deviation of a code around its mean while training
    width_d: int = 16,  # channels after a discriminator's first convolution; LeNet's is 20
    shared_d: int = 3,  # last stages that both discriminators share; 4 are all
    dropout: float = 0.5,  # before the discriminators' heads, and half of it before the layer before
    optimizer: Adam = ADAM(decay=0.7),
    lr_d: float = 1e-3,  # learning rate of the discriminators
    lambda_gan: float = 1.0,  # weight of the GAN loss for encoders and generators
    lambda_gan_d: float = 1.0,  # weight of the GAN loss for the discriminators, beside what they classify
    lambda_kl: float = 0.01,  # weight of the posteriors against N(0, I)
    lambda_rec: float = 10.0,  # weight of the reconstructions
    lambda_cyc: float = 10.0,  # weight of the cycles; 0 leaves them out, as the paper does for digits
    lambda_class: float = 1.0,  # weight of the classes of real source images
    lambda_class_ab: float = 1.0,  # weight of the classes of translated source images; 0 is the paper
    lambda_fm: float = 1e-3,  # weight of the difference in features of the two images of one code
    lambda_infomax: float = 2.0,  # weight of the target's images being of one class each, and of every class
    mode: Mode = "least-squares",  # of the GAN loss: non-saturating, saturating, least-squares or hinge
    affine: float = 1.0,  # how much training images are rotated, scaled, stretched, sheared and shifted
) -> Recipe:
    """UNIT between two domains of digits, with classes of the source alone."""
    digits = images.open()
    model = models.unit(
        channels=digits.channels,
        encoder=encoders.residual(width=width, blocks=blocks, norm=norm, placed=placed),
        generator=generators.residual(width=width, blocks=blocks, norm=norm, kernel=4, placed=placed),
        discriminator=discriminators.lenet(width=width_d, classes=10, dropout=dropout),
        sharing=sharing.tie(
            encoder=3 + blocks if one_encoder else shared, generator=shared, discriminator=shared_d, twins=True
        ),
        noise=noise,
    )

    l_vae = vae("a", "b", kl=lambda_kl, likelihood=lambda_rec)
    l_gan_d = gan("ab", "ba", weight=lambda_gan_d, mode=mode).d
    l_gan_g = gan("ab", "ba", weight=lambda_gan, mode=mode).g
    l_cc = cycle("aba", "bab", kl=lambda_kl if lambda_cyc else 0, likelihood=lambda_cyc)
    l_class = [
        lambda_class * classify("a"),
        lambda_class_ab * classify("ab"),
        lambda_infomax * Ramp(10) * infomax("b", balance=0.5),
    ]
    l_fm = [lambda_fm * feature_matching(*pair, reduce="sum") for pair in (("ab", "aa"), ("ba", "bb"))]

    players = [
        Player("discriminator", ["discriminators"], l_gan_d + l_class + l_fm, optimizer(lr=lr_d)),
        Player("generator", ["encoders", "generators"], l_vae + l_gan_g + l_cc, optimizer),
    ]
    return adapted(model, players, digits, steps=2000, batch=32, affine=affine, also=[accuracy("ab"), agreement("ba")])


presets = {
    # Only the terms that the paper has for digits: no classes of translations, no infomax, no cycles.
    "plain": {"lambda_class_ab": 0.0, "lambda_infomax": 0.0, "lambda_cyc": 0.0},
}
