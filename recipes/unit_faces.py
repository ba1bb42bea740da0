"""UNIT on faces: an attribute off (a) and on (b), such as glasses on rendered portraits or a smile on photographs.

unitkit train unit_faces
unitkit train unit_faces @photo data=FOLDER
unitkit train unit_faces @paper data=FOLDER

The objective is the paper's, L_VAE + L_GAN + L_CC. The default knobs are for minutes on two CPU cores: narrow
networks, and one encoder for both domains (one_encoder), which keeps colours from changing places between them.
"""

from common import RELEASED, Networks, translation_metrics

from unitkit import Adam, Player, Recipe, UserError, cycle, data, gan, l1, psnr, r1, vae
from unitkit.losses import Mode


def recipe(
    *,
    source: data.Open = data.Open("portraits", domains=2, size=64),
    networks: Networks = Networks(),
    optimizer: Adam = Adam(lr=3e-3, betas=(0.5, 0.999), weight_decay=1e-4, decay=0.5),
    lr_d: float = 1e-3,  # learning rate of the discriminators
    lambda_gan: float = 0.5,  # weight of the GAN loss, the paper's lambda 0
    lambda_kl: float = 0.01,  # weight of the posteriors against N(0, I), the paper's lambda 1 and 3
    lambda_rec: float = 10.0,  # weight of reconstructions and cycles, the paper's lambda 2 and 4
    lambda_idt: float = 0.0,  # weight of an image of b staying itself through the translator to b, and one of a to a
    lambda_r1: float = 0.0,  # weight of the discriminators' squared gradient on real images, every 16th step
    matching: bool = False,  # whether a discriminator also learns that the other domain's real images are not its own
    mode: Mode = "least-squares",  # of the GAN loss: non-saturating (the paper's), saturating, least-squares or hinge
) -> Recipe:
    """UNIT between two domains."""
    faces = source.open()
    if matching and len(set(faces.channels.values())) > 1:
        raise UserError(f"a discriminator cannot match grey and colour ({faces.channels}): channels=3 or matching=no")

    l_vae = vae("a", "b", kl=lambda_kl, likelihood=lambda_rec)
    l_gan = gan("ab", "ba", weight=lambda_gan, mode=mode, matching=matching)
    l_cc = cycle("aba", "bab", kl=lambda_kl, likelihood=lambda_rec)
    l_idt = [lambda_idt * l1("b/ab", "b"), lambda_idt * l1("a/ba", "a")]
    l_r1 = [16 * lambda_r1 * r1(domain) for domain in ("a", "b")]

    return Recipe(
        model=networks.unit(faces.channels),
        players=[
            Player("discriminator", ["discriminators"], l_gan.d, optimizer(lr=lr_d)),
            Player("penalty", ["discriminators"], l_r1, None, every=16),
            Player("generator", ["encoders", "generators"], l_vae + l_gan.g + l_cc + l_idt, optimizer),
        ],
        data=faces,
        steps=1900,
        batch=2,
        ema=0.995,
        evaluate=[
            *translation_metrics(faces, ["ab", "ba"]),
            *(psnr(path, path[0]) for path in ("aa", "bb", "aba", "bab")),
        ],
    )


presets = {
    # Photographs of faces, 64 pixels: discriminators that see the whole face and reject the other domain's real ones,
    # less weight on likeness, and smooth doublings against grids.
    "photo": {
        "downs": 2,
        "up": "smooth",
        "layers": 5,
        "width_d": 32,
        "lambda_rec": 3.0,
        "lambda_gan": 1.0,
        "matching": True,
        "batch": 4,
        "lr": 5e-4,
        "lr_d": 5e-4,
        "crop": 4,
        "steps": 5000,
    },
    # CelebA: two private layers and a shared back in the discriminators.
    "paper": {
        **RELEASED,
        "size": 128,
        "crop": 4,
        "discriminator": "coupled",
        "layers": 6,
        "shared_d": 5,
        "steps": 2_000_000,
    },
}
