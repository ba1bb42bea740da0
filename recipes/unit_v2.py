"""UNIT as its authors left it: the later version, published with MUNIT in 2018, on faces.

unitkit train unit_v2
unitkit train unit_v2 @paper data=FOLDER

Nothing is shared and the code has noise of variance 1; generators double by the nearest pixel; least squares on three
scales; reflect padding, instance norm and He initialisation; the learning rate is halved in steps. Only cycles tie the
domains' codes, so that colours may change places between them: another seed, other colours.
"""

from common import translation_metrics

from unitkit import (
    Adam,
    Player,
    Recipe,
    Steps,
    cycle,
    data,
    discriminators,
    encoders,
    gan,
    generators,
    models,
    psnr,
    sharing,
    vae,
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
    lambda_kl: float = 0.01,  # weight of the posteriors against N(0, I)
    lambda_rec: float = 10.0,  # weight of the reconstructions
    lambda_cyc: float = 10.0,  # weight of the cycles
) -> Recipe:
    """The later UNIT between two domains."""
    faces = source.open()

    l_vae = vae("a", "b", kl=lambda_kl, likelihood=lambda_rec, on="sample")
    l_gan = gan("ab", "ba", weight=lambda_gan, mode="least-squares")
    l_cc = cycle("aba", "bab", kl=lambda_kl, likelihood=lambda_cyc, on="sample")

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
            Player("generator", ["encoders", "generators"], l_vae + l_gan.g + l_cc, optimizer),
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
