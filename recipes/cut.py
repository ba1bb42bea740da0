"""CUT: translation in one direction, where every patch must stay recognisable. FastCUT: without the identity.

unitkit train cut
unitkit train cut @fast data=FOLDER

The objective of Park, Efros, Zhang and Zhu, "Contrastive Learning for Unpaired Image-to-Image Translation", ECCV 2020,
equation 5: L_GAN(G, D, X, Y) + lambda_X L_PatchNCE(G, H, X) + lambda_Y L_PatchNCE(G, H, Y). G is encoder a and
generator b, and H the projections of the encoder's layers.

The default knobs are for minutes on two CPU cores: narrow networks without norm, higher learning rates, few steps.
Different from the paper and its code with @paper too: strides, and doublings by the nearest pixel with layer norm,
instead of blurred resampling with instance norm; discriminators of 3x3 convolutions without norm; He initialisation;
the code halves the sum of the two PatchNCE terms, as the paper does not; and FastCUT mirrors its queries at random in
the code.
"""

from common import translation_metrics

from unitkit import Adam, Player, Recipe, data, discriminators, encoders, gan, generators, models, patch_nce


def recipe(
    *,
    source: data.Open = data.Open("portraits", domains=2, size=64),
    width: int = 16,  # channels after the first convolution of the translator; the paper has 64
    width_d: int = 24,  # and of the discriminator; the paper has 64
    blocks: int = 4,  # residual blocks of the translator, half of them in its encoder; the paper has 9
    downs: int = 1,  # convolutions of stride 2 in the encoder, doublings in the generator; the paper has 2
    norm: bool = False,  # instance norm after the encoder's, as in the paper
    layers: int = 4,  # strided convolutions of the discriminator
    nce_layers: tuple[int, ...] = (0, 2, 3, 4),  # layers of the encoder that are contrasted; 0 is the image
    patches: int = 256,  # places that are drawn of each layer
    lambda_gan: float = 1.0,  # weight of the GAN loss
    lambda_nce: float = 1.0,  # lambda_X, of PatchNCE between an image and its translation
    lambda_idt: float = 1.0,  # lambda_Y, of PatchNCE between an image of b and what the translator makes of it
    optimizer: Adam = Adam(lr=1.5e-3, betas=(0.5, 0.999), weight_decay=0, decay=0.5),
    lr_d: float = 1e-3,  # learning rate of the discriminator; the paper has 2e-4 for both
) -> Recipe:
    """CUT from the first domain to the second."""
    images = source.open()
    model = models.cut(
        channels=images.channels,
        encoder=encoders.residual(width=width, blocks=blocks - blocks // 2, downs=downs, norm=norm, padding="reflect"),
        generator=generators.upsampling(blocks=blocks // 2, ups=downs, padding="reflect"),
        discriminator=discriminators.strided(width=width_d, layers=layers),
        layers=nce_layers,
    )

    l_gan = gan("ab", weight=lambda_gan, mode="least-squares")
    l_nce = [
        lambda_nce * patch_nce("ab/a", "a", patches=patches),
        lambda_idt * patch_nce("b/ab/a", "b/a", patches=patches),
    ]

    return Recipe(
        model=model,
        players=[
            Player("discriminator", ["discriminators"], [0.5 * term for term in l_gan.d], optimizer(lr=lr_d)),
            Player("generator", ["encoders", "generators", "projections"], l_gan.g + l_nce, optimizer),
        ],
        data=images,
        steps=600,
        batch=2,
        ema=0.995,
        evaluate=translation_metrics(images, ["ab"]),
    )


presets = {
    "fast": {"lambda_nce": 10.0, "lambda_idt": 0.0},
    # Horses and zebras: images loaded at 286 and cut to 256, 400 epochs of 1067. The layers are the paper's five.
    "paper": {
        "size": 256,
        "crop": 30,
        "width": 64,
        "width_d": 64,
        "blocks": 9,
        "downs": 2,
        "norm": True,
        "nce_layers": (0, 2, 3, 4, 8),
        "lr": 2e-4,
        "lr_d": 2e-4,
        "ema": 0.0,
        "batch": 1,
        "steps": 426_800,
    },
}
