"""CycleGAN: translation with the cycle alone, from the parts of UNIT.

unitkit train recipes/cyclegan.py
unitkit train recipes/cyclegan.py @paper data=FOLDER

The objective of Zhu, Park, Isola and Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial
Networks", ICCV 2017. Its translator a -> b is encoder a followed by generator b, and b -> a encoder b followed by
generator a: with nothing shared and no noise on the code, no weight serves both. The losses are the paper's
(least squares, the discriminators' halved, 10 times the L1 cycle), and so are Adam, the schedule, the N(0, 0.02) start
of the translators, and the order of turns.

Different from the paper and its code:
- Discriminators see the newest translations only: no pool of the last 50.
- No identity loss, which the paper adds for paintings: it puts an image of b through the translator a -> b, and an
  image path cannot say that, because its letters say which encoder reads which image. (The path bb is another thing:
  encoder b, generator b.) So rows aa and bb of a sample grid join networks that were not trained to fit.
- Zero padding instead of reflection; transposed convolutions as in the paper, but LeakyReLU without norm after the
  first convolution, and a last convolution of 1x1 instead of 7x7.
- Discriminators are convolutions 3x3 of stride 2 without norm, LeakyReLU 0.01, He start, instead of the 70x70 PatchGAN
  (4x4, instance norm, LeakyReLU 0.2): a logit sees 31x31 pixels at layers=4 and 63x63 at layers=5.
- The learning rate falls by the step, not by the epoch.
"""

from unitkit import (
    Adam,
    Player,
    Recipe,
    attribute_success,
    discriminators,
    encoders,
    gan,
    generators,
    ground_truth,
    l1,
    models,
    open_data,
    psnr,
    sharing,
)


def recipe(
    *,
    data: str = "portraits",
    labels: str | None = None,
    size: int | tuple[int, int] = 64,
    width: int = 16,
    blocks: int = 6,
    layers: int = 4,
    batch: int = 4,
    steps: int = 2000,
    lr: float = 2e-4,
    cycle: float = 10.0,
    flip: bool = True,
    crop: int = 0,
) -> Recipe:
    """CycleGAN between two domains.

    Args:
        data: a data source such as portraits, a folder with two labels, or two locations with a comma between.
        labels: the two domains, a first, such as neutral,smiling; needed where the data hold more.
        size: side of the images, or height and width as 48x64.
        width: channels after the first convolution of translators and discriminators; the paper has 64.
        blocks: residual blocks of a translator, half of them in its encoder; the paper has 6 at 128 and 9 at 256.
        layers: strided convolutions of a discriminator.
        batch: images of each domain in a step; the paper has 1.
        steps: training steps.
        lr: learning rate of both players, constant for the first half of the steps, then falling to 0.
        cycle: weight of the cycle against the adversarial loss.
        flip: mirror each training image with probability 1/2.
        crop: shift each training image by up to this many pixels.
    """
    source = open_data(data, size=size, domains=2, labels=labels)

    model = models.spec(
        "unit",
        channels=source.channels,
        encoder=encoders.spec("residual", width=width, blocks=blocks - blocks // 2, norm=True, init="gaussian"),
        generator=generators.spec("residual", width=width, blocks=blocks // 2, norm=True, init="gaussian"),
        discriminator=discriminators.spec("strided", width=width, layers=layers),
        sharing=sharing.spec("none"),
        noise=0,
    )

    l_gan = gan("ab", "ba", weight=1, mode="least-squares")
    l_cycle = [cycle * l1("aba", "a"), cycle * l1("bab", "b")]
    # Where the true translation is not known, a classifier judges: an identity map has the best cycles.
    judged = ground_truth if source.truth else attribute_success
    adam = Adam(lr=lr, betas=(0.5, 0.999), weight_decay=0, decay=0.5)

    return Recipe(
        model=model,
        players=[
            Player("generator", ["encoders", "generators"], l_gan.g + l_cycle, adam),
            Player("discriminator", ["discriminators"], [0.5 * term for term in l_gan.d], adam),
        ],
        data=source,
        steps=steps,
        batch=batch,
        flip=flip,
        crop=crop,
        evaluate=[
            judged("ab"),
            judged("ba"),
            psnr("aba", "a"),
            psnr("bab", "b"),
        ],
    )


# Images loaded at 286 and cut to 256; 200 epochs of the 1096 aerial photographs of the paper's maps.
presets = {"paper": {"size": 256, "crop": 30, "width": 64, "blocks": 9, "layers": 5, "batch": 1, "steps": 219200}}
