"""UNIT on animals: cats (a) and dogs (b).

unitkit train unit_animals @cats_dogs data=FOLDER      # FOLDER/{train,test}/{cat,dog}/
unitkit train unit_animals @paper data=FOLDER          # 200x200, the released networks: a GPU

The objective is the paper's, L_VAE + L_GAN + L_CC, and instance norm follows strided convolutions too, as in the
authors' networks for animals. Here shape must change, and not light alone: weights of likeness are low, and success is
what an independent classifier of the animals says. Without data it trains on rendered portraits, to be tried.
"""

from common import RELEASED, Networks, translation_metrics

from unitkit import Adam, Player, Recipe, cycle, data, gan, kernel, l1, psnr, r1, vae
from unitkit.losses import Mode


def recipe(
    *,
    source: data.Open = data.Open("portraits", domains=2, size=64),
    networks: Networks = Networks(norm=True, padding="reflect"),
    optimizer: Adam = Adam(lr=1e-3, betas=(0.5, 0.999), weight_decay=1e-4, decay=0.5),
    lr_d: float = 1e-3,  # learning rate of the discriminators
    lambda_gan: float = 1.0,  # weight of the GAN loss, the paper's lambda 0
    lambda_kl: float = 0.01,  # weight of the posteriors against N(0, I), the paper's lambda 1 and 3
    lambda_rec: float = 10.0,  # weight of reconstructions and cycles, the paper's lambda 2 and 4
    lambda_idt: float = 0.0,  # weight of an image of b staying itself through the translator to b, and one of a to a
    lambda_r1: float = 0.0,  # weight of the discriminators' squared gradient on real images, every 16th step
    mode: Mode = "least-squares",  # of the GAN loss: non-saturating (the paper's), saturating, least-squares or hinge
) -> Recipe:
    """UNIT between two kinds of animals."""
    animals = source.open()

    l_vae = vae("a", "b", kl=lambda_kl, likelihood=lambda_rec)
    l_gan = gan("ab", "ba", weight=lambda_gan, mode=mode)
    l_cc = cycle("aba", "bab", kl=lambda_kl, likelihood=lambda_rec)
    l_idt = [lambda_idt * l1("b/ab", "b"), lambda_idt * l1("a/ba", "a")]
    l_r1 = [16 * lambda_r1 * r1(domain) for domain in ("a", "b")]

    return Recipe(
        model=networks.unit(animals.channels),
        players=[
            Player("discriminator", ["discriminators"], l_gan.d, optimizer(lr=lr_d)),
            Player("penalty", ["discriminators"], l_r1, None, every=16),
            Player("generator", ["encoders", "generators"], l_vae + l_gan.g + l_cc + l_idt, optimizer),
        ],
        data=animals,
        steps=1200,
        batch=2,
        ema=0.995,
        evaluate=[
            *translation_metrics(animals, ["ab", "ba"]),
            *(kernel(path, path[-1], model="classifier") for path in ("ab", "ba") if not animals.truth),
            *(psnr(path, path[0]) for path in ("aa", "bb", "aba", "bab")),
        ],
    )


presets = {
    # Photographs of 200x200, at 128.
    "cats_dogs": {
        "size": 128,
        "downs": 2,
        "layers": 5,
        "width_d": 32,
        "augment": 0.3,
        "lambda_rec": 2.0,
        "batch": 2,
        "lr": 5e-4,
        "lr_d": 5e-4,
        "crop": 8,
        "steps": 10_000,
    },
    "paper": {**RELEASED, "size": 200, "norm": True, "layers": 6, "padding": "zero"},
}
