"""UNIT on digits as its authors released it in 2017, for SVHN -> MNIST: their networks, weights and optimizers.

unitkit train recipes/digits_unit_2017.py source=svhn target=mnist data=FOLDER     # FOLDER/svhn, FOLDER/mnist; a GPU
unitkit train recipes/digits_unit_2017.py steps=200 width=16                       # drawn digits, anywhere

200,000 steps of networks with 27 million weights want a GPU; `digits_unit.py` is the recipe for a CPU. The released
code picks its checkpoint by the target's test classes; this recipe ends with the last step.
"""

from unitkit import (
    Adam,
    Player,
    Recipe,
    Watch,
    accuracy,
    classify,
    digits,
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
from unitkit.data.digits import Look


def recipe(
    *,
    data: str | None = None,
    source: Look = "rendered",
    target: Look = "printed",
    invert: bool = True,
    size: int = 32,
    width: int = 96,
    discriminator_width: int = 64,
    shared: int = 3,
    batch: int = 64,
    steps: int = 200_000,
    lr: float = 2e-4,
    weight_decay: float = 5e-4,
    gan_weight: float = 1.0,
    kl_weight: float = 1e-4,
    reconstruction: float = 1e-3,
    matching: float = 1e-4,
    source_classes: float = 10.0,
) -> Recipe:
    """UNIT between two domains of digits with the released settings, with classes of the source alone.

    Args:
        data: folder with the files of mnist, usps or svhn; none takes them from the cache, or downloads them there.
        source: the domain whose classes the training sees: mnist, usps, svhn, rendered or printed.
        target: the domain without classes.
        invert: give the target's training images twice, also inverted, as the released code does for mnist.
        size: side of the images; these networks take 32.
        width: channels after the first convolution of the encoders, and before the last of the generators.
        discriminator_width: channels after a discriminator's first convolution.
        shared: stages that both generators share, of 5; all but the first of encoders and discriminators are shared.
        batch: images of each domain in a step.
        steps: training steps.
        lr: learning rate.
        weight_decay: of Adam.
        gan_weight: weight of the GAN loss of both sides; translations and reconstructions count half each.
        kl_weight: weight of the posteriors against N(0, I), summed over a code.
        reconstruction: weight of the squared error of the reconstructions, summed over an image.
        matching: weight of the squared difference in features of the two images of one code, summed over features.
        source_classes: weight of the classes of the source.
    """
    images = digits(size=size, source=source, target=target, folder=data, invert=invert)
    model = models.spec(
        "unit",
        channels=images.channels,
        encoder=encoders.spec("conv32", width=width, coordinates=True),
        generator=generators.spec("conv32", width=width),
        discriminator=discriminators.spec("conv32", width=discriminator_width, classes=10),
        sharing=sharing.spec("tie", encoder=4, generator=shared, discriminator=4),
    )
    pixels = images.channels["a"] * size * size  # the released code's C * H * W: a sum over the image, not a mean

    l_kl = [kl_weight * kl(domain, reduce="sum") for domain in ("a", "b")]
    l_reconstruction = [reconstruction * pixels * l2(path, path[0]) for path in ("aa", "bb")]
    l_gan_d = [gan_weight * gan_d("a", "ba", "aa"), gan_weight * gan_d("b", "ab", "bb")]
    l_gan_g = [0.5 * gan_weight * gan_g(path) for path in ("ba", "aa", "ab", "bb")]
    l_class = [source_classes * classify("a")]
    l_match = [matching * feature_matching(*pair, reduce="sum") for pair in (("ab", "aa"), ("ba", "bb"))]

    adam = Adam(lr=lr, betas=(0.5, 0.999), weight_decay=weight_decay)
    return Recipe(
        model=model,
        players=[
            Player("discriminator", ["discriminators"], l_gan_d + l_class + l_match, adam),
            Player("generator", ["encoders", "generators"], l_kl + l_reconstruction + l_gan_g, adam),
        ],
        data=images,
        steps=steps,
        batch=batch,
        flip=False,
        evaluate=[accuracy("b"), accuracy("a"), accuracy("ab")],
        watch=Watch([accuracy("a"), accuracy("b")], every=max(1, steps // 20), images=0),
        sample_every=max(1, steps // 20),
    )
