"""CycleGAN: translation with the cycle alone, from the parts of UNIT.

unitkit train cyclegan
unitkit train cyclegan @paper data=FOLDER
unitkit train cyclegan @paper lambda_idt=5 data=FOLDER      # paintings to photographs

The objective of Zhu, Park, Isola and Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial
Networks", ICCV 2017. Its translator a -> b is encoder a followed by generator b, and b -> a encoder b followed by
generator a: with nothing shared and no noise on the code, no weight serves both. The identity loss puts an image of b
through the translator a -> b, `b/ab`. Least squares, the discriminators' halved, who see the last 50 translations too;
10 times the L1 cycle; Adam and its schedule are the paper's. The default knobs are for minutes on two CPU cores: narrow
networks without norm, a higher learning rate, and the identity loss, without which colours change places.

Different from the paper and its code, with @paper too:
- Zero padding instead of reflection; transposed convolutions as in the paper, but LeakyReLU without norm after the
  first convolution, and a last convolution of 1x1 instead of 7x7. Rows aa and bb of a sample grid join networks that
  were not trained to fit.
- Discriminators are convolutions 3x3 of stride 2 without norm, LeakyReLU 0.01, He start, instead of the 70x70 PatchGAN
  (4x4, instance norm, LeakyReLU 0.2): a logit sees 31x31 pixels at layers=4 and 63x63 at layers=5.
- The learning rate falls by the step, not by the epoch.
"""

from typing import Literal

from common import translation_metrics

from unitkit import (
    Adam,
    Player,
    Recipe,
    data,
    discriminators,
    encoders,
    gan,
    generators,
    l1,
    models,
    psnr,
    r1,
    sharing,
)


def recipe(
    *,
    source: data.Open = data.Open("portraits", domains=2, size=64),
    width: int = 16,  # channels after the first convolution of translators and discriminators; the paper has 64
    blocks: int = 4,  # residual blocks of a translator, half of them in its encoder; the paper has 6 at 128, 9 at 256
    downs: int = 1,  # convolutions of stride 2 in a translator, and transposed ones; the paper has 2
    kernel: Literal[3, 4] = 4,  # of the transposed ones: 3 (the paper's) or 4 (less of a checkerboard)
    norm: bool = False,  # instance norm after these, as in the paper
    init: Literal["gaussian", "kaiming"] = "kaiming",  # of translators: gaussian, N(0, 0.02), in the paper
    layers: int = 4,  # strided convolutions of a discriminator
    pool: int = 50,  # translations that the discriminators may see again
    optimizer: Adam = Adam(lr=1e-3, betas=(0.5, 0.999), weight_decay=0, decay=0.5),
    lambda_cyc: float = 10.0,  # weight of the cycle against the GAN loss
    lambda_idt: float = 5.0,  # weight of the identity loss; the paper has 5 for paintings, and 0 else
    lambda_r1: float = 0.0,  # weight of the discriminators' squared gradient on real images, every 16th step
) -> Recipe:
    """CycleGAN between two domains."""
    images = source.open()

    l_gan = gan("ab", "ba", weight=1, mode="least-squares", pool=pool > 0)
    l_cyc = [lambda_cyc * l1("aba", "a"), lambda_cyc * l1("bab", "b")]
    l_idt = [lambda_idt * l1("b/ab", "b"), lambda_idt * l1("a/ba", "a")]
    l_r1 = [16 * lambda_r1 * r1(domain) for domain in ("a", "b")]

    return Recipe(
        model=models.unit(
            channels=images.channels,
            encoder=encoders.residual(width=width, blocks=blocks - blocks // 2, downs=downs, norm=norm, init=init),
            generator=generators.residual(
                width=width, blocks=blocks // 2, ups=downs, kernel=kernel, norm=norm, init=init
            ),
            discriminator=discriminators.strided(width=width, layers=layers),
            sharing=sharing.none(),
            noise=0,
            pool=pool,
            size=images.window,
        ),
        players=[
            Player("generator", ["encoders", "generators"], l_gan.g + l_cyc + l_idt, optimizer),
            Player("discriminator", ["discriminators"], [0.5 * term for term in l_gan.d], optimizer),
            Player("penalty", ["discriminators"], l_r1, None, every=16),
        ],
        data=images,
        steps=1200,
        batch=2,
        evaluate=[*translation_metrics(images, ["ab", "ba"]), psnr("aba", "a"), psnr("bab", "b")],
    )


# Images loaded at 286 and cut to 256; 200 epochs of the 1096 aerial photographs of the paper's maps.
presets = {
    "paper": {
        "size": 256,
        "crop": 30,
        "width": 64,
        "blocks": 9,
        "downs": 2,
        "kernel": 3,
        "norm": True,
        "init": "gaussian",
        "layers": 5,
        "lr": 2e-4,
        "lambda_idt": 0.0,
        "batch": 1,
        "steps": 219_200,
    }
}
