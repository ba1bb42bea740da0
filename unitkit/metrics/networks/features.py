"""Features of images, for distances between sets: Inception's of FID and KID, and those of any timm model."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...system.errors import UserError
from .published import INCEPTION, Published, timm_weights
from .weights import facts, fill, read


@dataclass(frozen=True)
class Features:
    """A network that makes a vector of every image.

    Attributes:
        of: from uint8 images (N, 3, H, W) on the device to float32 vectors (N, D).
        protocol: the network, its layer, its weights with their hash, how images are brought to its size.
    """

    of: Callable[[Tensor], Tensor]
    protocol: dict[str, Any]

    def __call__(self, images: np.ndarray, device: torch.device | str) -> Tensor:
        """The vectors of images (N, C, H, W) from 0 to 255; grey ones become RGB. Float64 on the CPU.

        Raises `UserError` for images of other channels, of which these networks know nothing.
        """
        if images.shape[1] not in (1, 3):
            raise UserError(
                f"{self.protocol['features']} takes images in grey or RGB, and these have {images.shape[1]} channels: "
                f"choose another metric, such as psnr or ssim"
            )
        pixels = torch.from_numpy(np.rint(images).astype(np.uint8)).to(device)
        with torch.no_grad():
            vectors = self.of(pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels)
        return vectors.cpu().double()  # MPS has no float64


def inception(layer: int, weights: str | None, antialias: bool, device: torch.device | str) -> Features:
    """Inception's features, as torch-fidelity computes them.

    Args:
        layer: 64, 192, 768 or 2048 (the usual one).
        weights: a file, or None for the usual cache.
        antialias: scale images to 299x299 with antialiasing; without it as the reference does, which is what
            published figures mean, and which aliases images that are larger.

    Raises:
        UserError: weights that are missing, damaged or of another network.
    """
    path = INCEPTION.find(weights)
    network = _inception(path, path.stat().st_mtime_ns, layer).to(device)

    def of(pixels: Tensor) -> Tensor:
        if antialias:
            wide = nn.functional.interpolate(
                pixels.float(), (299, 299), mode="bilinear", align_corners=False, antialias=True
            )
            pixels = wide.round().clamp(0, 255).to(torch.uint8)
        vectors: Tensor = network(pixels)[0]
        return vectors

    how = "to 299x299, bilinear and antialiased" if antialias else "to 299x299, bilinear as in TensorFlow 1"
    protocol = {"features": f"Inception v3 (2015-12-05), layer {layer}", "resized": how}
    return Features(of, {**protocol, **facts(path, INCEPTION.digest)})


@lru_cache(maxsize=2)
def _inception(path: Path, changed: int, layer: int) -> Any:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Inception(FeatureExtractorInceptionV3):  # type: ignore[misc]
        """The reference's network, without its own loading, which would run code from a file that holds some."""

        def load_state_dict(self, *_: Any, **__: Any) -> None:
            """The weights come later, read and checked."""

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    network = Inception("inception", [str(layer)], feature_extractor_weights_path=nothing)
    state = read(path, INCEPTION.what)
    fill(network, state, path, INCEPTION.what)
    return network


def timm_features(model: str, weights: str | None, device: torch.device | str) -> Features:
    """The pooled features of a timm model, on images of the size and normalisation that it was trained with.

    Raises:
        UserError: an unknown model; weights that are missing, damaged or of another network.
    """
    path, published = find_timm(model, weights)
    network, config = _timm(model, path, path.stat().st_mtime_ns)
    network = network.to(device)
    mean, std = (torch.tensor(config[key], device=device).view(1, 3, 1, 1) for key in ("mean", "std"))
    size = tuple(config["input_size"][1:])

    def of(pixels: Tensor) -> Tensor:
        wide = nn.functional.interpolate(pixels.float(), size, mode="bicubic", align_corners=False, antialias=True)
        vectors: Tensor = network((wide.clamp(0, 255) / 255 - mean) / std)
        return vectors

    how = f"to {size[0]}x{size[1]}, bicubic and antialiased"
    return Features(of, {"features": f"timm {model}, pooled", "resized": how, **facts(path, published)})


def find_timm(model: str, weights: str | None) -> tuple[Path, str]:
    """The weights file of a timm model and the first digits of its published hash (which may be unknown)."""
    known = timm_weights(model)
    if known is None:
        if weights is None:
            raise UserError(f"timm has no published weights of '{model}': name a file with weights=PATH")
        return Published(model, f"timm {model}", "", "").find(weights), ""
    path = known.find(weights)
    return path, known.digest_of(path)


@lru_cache(maxsize=2)
def _timm(model: str, path: Path, changed: int) -> tuple[Any, dict[str, Any]]:
    import timm

    what = f"timm {model}"
    state = read(path, what)
    network: Any = timm.create_model(model, pretrained=False)
    fill(network, state, path, what)
    network.reset_classifier(0)
    return network.eval().requires_grad_(False), dict(network.pretrained_cfg)
