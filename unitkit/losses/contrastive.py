"""The contrast of patches: a place of a translation is told from all other places by what the image has there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..annotations import AtLeast, Positive
from .term import register


class Patches(NamedTuple):
    """Layers of an encoder, (N, C, h, w) each, and for each the projection (..., C) to unit vectors (..., D)."""

    layers: tuple[Tensor, ...]
    projections: Sequence[Callable[[Tensor], Tensor]]


@register("patches", differentiates=False)
def patch_nce(
    query: Patches,
    key: Patches,
    *,
    patches: Positive = 256,
    temperature: Annotated[float, AtLeast(1e-6)] = 0.07,
) -> Tensor:
    """PatchNCE: each place of a translation is classified as the same place of the image it comes from: ("ab/a", "a").

    -log of exp(v.v+ / t) / (exp(v.v+ / t) + sum_n exp(v.v-_n / t)), v the query at a place, v+ the key there and v-_n
    the keys at the other places of the same image (Park et al. 2020, equations 2 to 4); a mean over places and layers,
    where the paper writes sums. As in its code, the places are drawn anew each time and are the same in all images of a
    batch, and no gradient goes into the keys.

    Args:
        patches: places drawn of each layer, without replacement; all of one that has fewer.
        temperature: t.
    """
    layers = zip(query.layers, key.layers, query.projections, key.projections, strict=True)
    losses = [_contrast(q, k.detach(), of_q, of_k, patches, temperature) for q, k, of_q, of_k in layers]
    return torch.stack(losses).mean()


def _contrast(
    query: Tensor,
    key: Tensor,
    of_query: Callable[[Tensor], Tensor],
    of_key: Callable[[Tensor], Tensor],
    patches: int,
    temperature: float,
) -> Tensor:
    queries, keys = (rearrange(layer, "n c h w -> n (h w) c") for layer in (query, key))
    places = torch.randperm(queries.shape[1], device=query.device)[:patches]
    v, v_key = of_query(queries[:, places]), of_key(keys[:, places]).detach()
    logits = einsum(v, v_key, "n place d, n other d -> n place other") / temperature
    positive = repeat(torch.arange(len(places), device=query.device), "place -> (n place)", n=len(query))
    return cross_entropy(rearrange(logits, "n place other -> (n place) other"), positive)
