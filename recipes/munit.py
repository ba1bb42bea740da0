"""MUNIT between two domains, such as portraits without glasses (a) and with them (b): one content, many styles.

unitkit train munit
unitkit train munit @paper data=FOLDER
unitkit translate RUN ab INPUT OUTPUT --samples 4

The objective is equation 5 of Huang, Liu, Belongie and Kautz, "Multimodal Unsupervised Image-to-Image Translation",
ECCV 2018. The default knobs are for minutes on two CPU cores: narrow networks, and one content encoder for both
domains. Of portraits the style is above all the colour behind the head, which the ground truth of `ab` keeps and a
drawn style does not: there its dB says less than glasses and diversity do.

Different from its code, with @paper too: zero padding instead of reflection; scales of AdaIN start around 1 instead of
0; strided convolutions of content encoders 3x3 instead of 4x4, and their first one without norm; discriminators as in
unit_v2.
"""

from common import translation_metrics

from unitkit import (
    Adam,
    Player,
    Recipe,
    Steps,
    code_l1,
    data,
    discriminators,
    diversity,
    encoders,
    gan,
    generators,
    l1,
    models,
    psnr,
    sharing,
    style_l1,
)


def recipe(
    *,
    source: data.Open = data.Open("portraits", domains=2, size=64),
    width: int = 12,  # channels after the first convolution of encoders
    blocks: int = 2,  # residual blocks of a content encoder, and of a generator
    downs: int = 1,  # convolutions of stride 2 in a content encoder, and doublings in a generator
    style: int = 8,  # channels of the style code
    style_downs: int = 3,  # convolutions of stride 2 in a style encoder
    mlp: int = 64,  # features of the hidden layers from a style to AdaIN's parameters
    one_encoder: bool = True,  # one content encoder for both domains, where the paper has two
    scales: int = 1,  # of a discriminator: 3 in the paper
    norm: bool = False,  # instance norm after strided convolutions too, which leaves colours to the style (the paper)
    layers: int = 4,  # strided convolutions of a discriminator
    width_d: int = 24,  # channels after a discriminator's first layer
    optimizer: Adam = Adam(lr=1e-3, betas=(0.5, 0.999), weight_decay=1e-4),
    lr_d: float = 1e-3,  # learning rate of the discriminators
    lr_every: float = 0.25,  # the share of the training after which learning rates are halved, again and again
    lambda_gan: float = 1.0,  # weight of the GAN loss
    lambda_rec: float = 10.0,  # lambda_x, of the reconstruction of images
    lambda_content: float = 1.0,  # lambda_c, of the reconstruction of contents
    lambda_style: float = 1.0,  # lambda_s, of the reconstruction of styles
    lambda_cyc: float = 0.0,  # of the way back with the image's own style; 10 in some of the released settings
) -> Recipe:
    """MUNIT between two domains."""
    images = source.open()
    model = models.munit(
        channels=images.channels,
        encoder=encoders.residual(width=width, blocks=blocks, downs=downs, norm=norm),
        style_encoder=encoders.style(width=width, downs=style_downs, style=style),
        generator=generators.adain(blocks=blocks, ups=downs, style=style, mlp=mlp),
        discriminator=discriminators.multiscale(width=width_d, layers=layers, scales=scales),
        sharing=sharing.tie(encoder=1 + downs + blocks) if one_encoder else sharing.none(),
    )
    l_gan = gan("ab", "ba", weight=lambda_gan, mode="least-squares")
    l_rec = [lambda_rec * l1("aa", "a"), lambda_rec * l1("bb", "b")]
    l_content = [lambda_content * code_l1("ab", "a"), lambda_content * code_l1("ba", "b")]
    l_style = [lambda_style * style_l1("ab", "ab"), lambda_style * style_l1("ba", "ba")]
    l_cyc = [lambda_cyc * l1("aba", "a"), lambda_cyc * l1("bab", "b")]
    adam = optimizer(schedule=Steps(0.5, every=lr_every))

    return Recipe(
        model=model,
        players=[
            Player("discriminator", ["discriminators"], l_gan.d, adam(lr=lr_d)),
            Player(
                "generator",
                ["encoders", "style_encoders", "generators"],
                l_gan.g + l_rec + l_content + l_style + l_cyc,
                adam,
            ),
        ],
        data=images,
        steps=1200,
        batch=2,
        evaluate=[
            *translation_metrics(images, ["ab", "ba"]),
            *(map(diversity, ("ab", "ba")) if images.truth else ()),  # which is among the others elsewhere
            *(psnr(path, path[0]) for path in ("aa", "bb", "aba", "bab")),
        ],
    )


presets = {
    # The released sizes, weights and rates: a million iterations on 256x256, one image of each domain at a time.
    "paper": {
        "size": 256,
        "width": 64,
        "blocks": 4,
        "downs": 2,
        "style_downs": 4,
        "mlp": 256,
        "norm": True,
        "one_encoder": False,
        "scales": 3,
        "width_d": 64,
        "batch": 1,
        "steps": 1_000_000,
        "lr": 1e-4,
        "lr_d": 1e-4,
        "lr_every": 0.1,
    },
}
