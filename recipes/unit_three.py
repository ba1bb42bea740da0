"""UNIT over three domains and more: faces plain (a), with glasses (b) and with a hat (c), and all ways between them.

unitkit train unit_three
unitkit train unit_three data=FOLDER labels=spring,summer,winter
unitkit train unit_three data=FOLDER domains=4

Every domain has a generator and a discriminator, and all meet in one latent space, which one encoder reads
(`one_encoder`) or one each, so that n domains need n generators for their n (n - 1) translations. A discriminator sees
the translations from every other domain; they count together as much as the real images.
"""

from itertools import permutations

from common import Networks, translation_metrics

from unitkit import Adam, Player, Recipe, cycle, data, gan, psnr, vae
from unitkit.losses import Mode


def recipe(
    *,
    source: data.Open = data.Open("portraits", domains=3, size=64),
    networks: Networks = Networks(width_d=16),
    optimizer: Adam = Adam(lr=3e-3, betas=(0.5, 0.999), weight_decay=1e-4, decay=0.5),
    lr_d: float = 1e-3,  # learning rate of the discriminators
    lambda_gan: float = 0.5,  # weight of the GAN loss; the paper has 10
    lambda_kl: float = 0.01,  # weight of the posteriors against N(0, I); the paper has 0.1
    lambda_rec: float = 10.0,  # weight of reconstructions and cycles; the paper has 100
    mode: Mode = "least-squares",  # of the GAN loss: non-saturating (the paper's), saturating, least-squares or hinge
) -> Recipe:
    """UNIT between every two of several domains."""
    faces = source.open()
    letters = list(faces.domains)
    translations = [here + there for here, there in permutations(letters, 2)]
    cycles = [path + path[0] for path in translations]

    l_vae = vae(*letters, kl=lambda_kl, likelihood=lambda_rec)
    l_gan = gan(*translations, weight=lambda_gan, mode=mode)
    l_cc = cycle(*cycles, kl=lambda_kl, likelihood=lambda_rec)

    return Recipe(
        model=networks.unit(faces.channels),
        players=[
            Player("discriminator", ["discriminators"], l_gan.d, optimizer(lr=lr_d)),
            Player("generator", ["encoders", "generators"], l_vae + l_gan.g + l_cc, optimizer),
        ],
        data=faces,
        steps=1900,
        batch=2,
        evaluate=[
            *translation_metrics(faces, translations),
            *(psnr(letter + letter, letter) for letter in letters),
            *(psnr(path, path[0]) for path in cycles),
        ],
    )
