"""UNIT as its authors left it: the later version, published with MUNIT in 2018, on faces.

unitkit train unit_v2
unitkit train unit_v2 @paper data=FOLDER

Nothing is shared and the code has noise of variance 1; generators double by the nearest pixel; least squares on three
scales; reflect padding, instance norm and He initialisation; the learning rate is halved in steps. Only cycles tie the
domains' codes, so that colours may change places between them: another seed, other colours.

Different from its code:
- An encoder begins with a convolution without norm, and its strided convolutions are 3x3 instead of 4x4.
- Discriminators are convolutions 3x3 of stride 2, LeakyReLU 0.01, He start, instead of 4x4, LeakyReLU 0.2, N(0, 0.02);
  their pyramid is smoothed by a binomial filter instead of an average.
"""

from common import translation_metrics

from unitkit import (
    Adam,
    Player,
    Recipe,
    Steps,
    data,
    discriminators,
    encoders,
    gan,
    generators,
    kl,
    l1,
    models,
    psnr,
    sharing,
)


def recipe(
    *,
    source: data.Open = data.Open("portraits", domains=2, size=64),
    width: int = 16,  # channels after the first convolution of encoders and discriminators; the authors have 64
    downs: int = 1,  # convolutions of stride 2 in an encoder; the authors have 2
    blocks: int = 2,  # residual blocks of an encoder, and of a generator; the authors have 4
    layers: int = 3,  # strided convolutions of a discriminator on each scale; the authors have 4
    scales: int = 3,  # on which the discriminators see an image
    optimizer: Adam = Adam(lr=1e-3, betas=(0.5, 0.999), weight_decay=1e-4, schedule=Steps(0.5, every=0.25)),
    lambda_gan: float = 1.0,  # weight of the GAN loss
    lambda_kl: float = 0.01,  # weight of the codes' squared means, of images and of their translations
    lambda_rec: float = 10.0,  # weight of the reconstructions
    lambda_cyc: float = 10.0,  # weight of the cycles
) -> Recipe:
    """The later UNIT between two domains."""
    faces = source.open()

    l_kl = [lambda_kl * kl(path) for path in ("a", "b", "ab", "ba")]
    l_rec = [lambda_rec * l1("aa", "a"), lambda_rec * l1("bb", "b")]
    l_gan = gan("ab", "ba", weight=lambda_gan, mode="least-squares")
    l_cyc = [lambda_cyc * l1("aba", "a"), lambda_cyc * l1("bab", "b")]

    return Recipe(
        model=models.unit(
            channels=faces.channels,
            encoder=encoders.residual(width=width, blocks=blocks, downs=downs, norm=True, padding="reflect"),
            generator=generators.upsampling(blocks=blocks, ups=downs, padding="reflect"),
            discriminator=discriminators.multiscale(width=width, layers=layers, scales=scales, padding="reflect"),
            sharing=sharing.none(),
        ),
        players=[
            Player("discriminator", ["discriminators"], l_gan.d, optimizer),
            Player("generator", ["encoders", "generators"], l_kl + l_rec + l_gan.g + l_cyc, optimizer),
        ],
        data=faces,
        steps=1200,
        batch=2,
        evaluate=[*translation_metrics(faces, ["ab", "ba"]), psnr("aba", "a"), psnr("bab", "b")],
    )


# 256 pixels cut from images scaled to it; halved every 100,000 of a million steps.
presets = {
    "paper": {
        "size": 256,
        "width": 64,
        "downs": 2,
        "blocks": 4,
        "layers": 4,
        "lr": 1e-4,
        "batch": 1,
        "steps": 1_000_000,
    },
}
