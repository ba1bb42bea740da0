"""UNIT on maps: aerial images (a) <-> street maps (b), trained unpaired and evaluated beside the ground truth.

unitkit train unit_maps
unitkit train unit_maps data=FOLDER         # FOLDER/{train,val}/{satellite,map}/, equal names are pairs
unitkit train unit_maps data=FOLDER load=256 size=96 palette=maps       # windows of 96 pixels; measured whole
unitkit ablate unit_maps constraint=sharing,cycle,both --seeds 5

The task of the paper's ablation: shared layers in the generator, the discriminator's depth, the weights, and what
sharing and cycle consistency add to each other. Domains draw their training images independently, so no pair is
ever seen as one.
"""

from dataclasses import replace
from typing import Literal

from common import Networks

from unitkit import Adam, Player, Recipe, class_accuracy, cycle, data, gan, pixel_accuracy, psnr, vae
from unitkit.losses import Mode


def recipe(
    *,
    source: data.Open = data.Open("terrain", domains=2, size=64, labels="satellite,map", aligned=True),
    networks: Networks = Networks(width=8, blocks=4, downs=2, norm=True, one_encoder=False, width_d=16),
    constraint: Literal["both", "sharing", "cycle", "none"] = "both",  # what holds the domains together: shared
    # blocks, cycle consistency, both (the paper's), or none
    optimizer: Adam = Adam(lr=2e-3, betas=(0.5, 0.999), weight_decay=1e-4, decay=0.5),
    lr_d: float = 2e-3,  # learning rate of the discriminators
    lambda_gan: float = 1.0,  # weight of the GAN loss, the paper's lambda 0
    lambda_kl: float = 0.01,  # weight of the posteriors against N(0, I), the paper's lambda 1, and 3 in the cycle
    lambda_rec: float = 10.0,  # weight of the reconstructions, the paper's lambda 2, and 4 in the cycle
    mode: Mode = "least-squares",  # of the GAN loss: non-saturating (the paper's), saturating, least-squares or hinge
    palette: str = "",  # of the maps, by whose classes they are judged: maps (pix2pix's), NAME=RRGGBB ..., or found
) -> Recipe:
    """UNIT between aerial images and street maps."""
    places = source.open()
    shared = networks.shared if constraint in ("both", "sharing") else 0
    cycled = 1.0 if constraint in ("both", "cycle") else 0.0

    l_vae = vae("a", "b", kl=lambda_kl, likelihood=lambda_rec)
    l_gan = gan("ab", "ba", weight=lambda_gan, mode=mode)
    l_cc = cycle("aba", "bab", kl=cycled * lambda_kl, likelihood=cycled * lambda_rec)

    return Recipe(
        model=replace(networks, shared=shared).unit(places.channels),
        players=[
            Player("discriminator", ["discriminators"], l_gan.d, optimizer(lr=lr_d)),
            Player("generator", ["encoders", "generators"], l_vae + l_gan.g + l_cc, optimizer),
        ],
        data=places,
        steps=700,
        batch=2,
        evaluate=[
            pixel_accuracy("ab", "b"),
            class_accuracy("ab", "b", palette=palette),
            psnr("ab", "b"),
            *(psnr(path, path[0]) for path in ("aa", "bb", "aba", "bab")),
        ],
    )
