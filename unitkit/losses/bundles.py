"""The paper's three bundles of terms: L_VAE, L_GAN and L_CC, with their weights as arguments.

Liu, Breuel, Kautz, "Unsupervised Image-to-Image Translation Networks", NIPS 2017. Weights default to the paper's:
l0 = 10, l1 = l3 = 0.1, l2 = l4 = 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from ..system.errors import UserError, nearest
from . import MODES, Loss, Mode, Term, gan_d, gan_d_pooled, gan_g, l1
from . import kl as kl_loss

On = Literal["mean", "sample"]


def vae(*domains: str, kl: float = 0.1, likelihood: float = 100, pixel: Loss = l1, on: On = "mean") -> list[Term]:
    """L_VAE_i = l1 KL(q(z|x) || p) - l2 E[log p_G(x|z)], for each domain: the reconstruction path is `aa` for `a`.

    Args:
        kl: l1.
        likelihood: l2; -log p_G is the loss `pixel` up to scale and constant.
        pixel: `l1` for the paper's Laplacian, `l2` for a Gaussian.
        on: see the loss `kl`.
    """
    return [term for x in domains for term in (kl * kl_loss(x, on=on), likelihood * pixel(x + x, x))]


def cycle(*paths: str, kl: float = 0.1, likelihood: float = 100, pixel: Loss = l1, on: On = "mean") -> list[Term]:
    """L_CC_i = l3 KL(q(z|x) || p) + l3 KL(q(z|x') || p) - l4 E[log p_G(x|z')], x' the translation on the way.

    Args:
        paths: there and back, such as `aba`: both posteriors met on the way, and the return, are scored.
        kl: l3.
        likelihood: l4.
        pixel: see `vae`.
        on: see the loss `kl`.
    """
    for path in paths:
        if len(path) < 3 or path[0] != path[-1]:
            raise UserError(f"cycle('{path}'): a cycle ends where it began, such as 'aba'")
    return [
        term
        for path in paths
        for term in (
            *(kl * kl_loss(path[:i], on=on) for i in range(1, len(path))),
            likelihood * pixel(path, path[0]),
        )
    ]


class Game(NamedTuple):
    """The two sides of L_GAN: what discriminators minimise, and what encoders and generators minimise."""

    d: list[Term]
    g: list[Term]


def gan(
    *paths: str, weight: float = 10, mode: Mode = "non-saturating", pool: bool = False, matching: bool = False
) -> Game:
    """L_GAN_i = l0 E[log D_i(x_i)] + l0 E[log(1 - D_i(x'))], x' every translation among `paths` that ends in i.

    D_i sees real images and translations, never reconstructions.

    Args:
        weight: l0.
        mode: of both sides: "non-saturating" (the released code), "saturating", "least-squares" or "hinge".
        pool: whether D_i sees translations out of the model's pool, see `gan_d_pooled`.
        matching: whether D_i also sees real images of the domains where its translations start, as no images of its
            own: then a translation that is real to the eye but did not change is caught, too. It is the matching-aware
            discriminator of Reed et al. 2016, with the domain in place of the text. What is not of the domain counts
            together as much as what is, so that a translation weighs half as much.

    Raises:
        UserError: an unknown mode; `matching` with a pool, which holds translations alone, or where no translation
            begins in another domain.
    """
    if mode not in MODES:
        raise UserError(f"unknown mode of the GAN loss '{mode}'. {nearest(mode, MODES)}")
    if pool and matching:
        raise UserError("a pool holds translations, and no real images of other domains: choose pool or matching")
    into = {path[-1]: [p for p in paths if p[-1] == path[-1]] for path in paths}
    if matching:
        into = {domain: [*translations, *_mismatched(translations, domain)] for domain, translations in into.items()}
    told_apart = gan_d_pooled if pool else gan_d
    return Game(
        d=[weight * told_apart(domain, *others, mode=mode) for domain, others in into.items()],
        g=[weight * gan_g(path, mode=mode) for path in paths],
    )


def _mismatched(translations: Sequence[str], domain: str) -> list[str]:
    """Where these begin, but noise and the domain itself, as seen by the domain's discriminator."""
    starts = dict.fromkeys(path[0] for path in translations if path[0] not in ("z", domain))
    if not starts:
        raise UserError(f"matching needs translations to '{domain}' from other domains, not {', '.join(translations)}")
    return [f"{start}/{domain}" for start in starts]
