"""Weights that other people publish: what they are, where metrics look for them, and how they are fetched.

Metrics never download. `unitkit weights NAME` does, and a file that is not the published one is not kept.
"""

from __future__ import annotations

import logging
import re
import urllib.error
from dataclasses import dataclass
from pathlib import Path

import torch

from ...system.errors import UserError, nearest, refusal
from ...system.files import expanded

HUB = "https://huggingface.co/"


@dataclass(frozen=True)
class Published:
    """A public file of weights.

    Attributes:
        name: what `unitkit weights` calls it.
        what: the network in words.
        url: where it can be had.
        digest: the first digits of the published file's SHA-256; "" where none is published.
        licence: of the weights, as their publishers state it.
        used_by: the metrics that need it.
        megabytes: about its size, 0 where that is not known.
        repository: on Hugging Face, in whose libraries' cache the weights may lie too.
    """

    name: str
    what: str
    url: str
    digest: str
    licence: str = ""
    used_by: tuple[str, ...] = ()
    megabytes: float = 0
    repository: str = ""

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def place(self) -> Path:
        """Where the file is looked for, and put."""
        return self._in_hub() or torch_home() / self.file

    def find(self, given: str | None) -> Path:
        """The file that the user names, else the one in the cache. Raises `UserError` that says how to get it."""
        if given is not None:
            path = expanded(given)
            if not path.is_file():
                raise UserError(f"there is no weights file {path} for {self.what}; {self.way_out}")
            return path
        if self.place.is_file():
            return self.place
        raise UserError(f"the weights of {self.what} are not on this machine: {self.way_out}")

    @property
    def way_out(self) -> str:
        """How to get it, in words."""
        return f"`unitkit weights {self.name}` fetches them from {self.url}; or {self._by_hand}"

    @property
    def _by_hand(self) -> str:
        return f"put that file, fetched where there is a network, at {self.place}, or name it with weights=PATH"

    def fetch(self) -> Path:
        """Download it to its place, whole and with the published hash, or leave nothing there.

        Raises:
            UserError: no network, no such file, a file that was cut short or is another, a disk that refuses.
        """
        try:
            if self.url.startswith(HUB):
                from huggingface_hub import hf_hub_download

                logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of each of its attempts
                return Path(hf_hub_download(self.repository, self.file))
            self.place.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(self.url, str(self.place), self.digest or None)
            return self.place
        except RuntimeError as error:
            if "invalid hash" not in str(error):
                raise self._unreachable(error) from error
            raise UserError(
                f"what came from {self.url} is not the published file (its SHA-256 begins with {self.digest}), or was "
                f"cut short: nothing is kept; try again, or {self._by_hand}"
            ) from error
        except urllib.error.URLError as error:
            raise self._unreachable(error if isinstance(error, urllib.error.HTTPError) else error.reason) from error
        except OSError as error:
            if error.filename is None and error.errno is None:  # of a library's own, about the network
                raise self._unreachable(error) from error
            raise refusal(f"cannot keep {self.place}", error, "; set TORCH_HOME") from error
        except Exception as error:  # an address or answer that the libraries do not understand
            raise self._unreachable(error) from error

    def _unreachable(self, error: object) -> UserError:
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        return UserError(f"cannot fetch {self.url}: {said}; {self._by_hand}")

    def digest_of(self, path: Path) -> str:
        """The first digits that are published of this file's hash: of the hub's copy, another file, none are."""
        return "" if hub_cache() in path.parents else self.digest

    def _in_hub(self) -> Path | None:
        """The file in the cache of Hugging Face's libraries, where timm itself fetches to; else its place, or None."""
        if not self.repository:
            return None
        snapshots = hub_cache() / f"models--{self.repository.replace('/', '--')}" / "snapshots"
        found = [path for file in ("model.safetensors", "pytorch_model.bin") for path in snapshots.glob(f"*/{file}")]
        if found:
            return max(found, key=lambda path: path.stat().st_mtime_ns)
        return snapshots / "main" / self.file if self.url.startswith(HUB) else None


def _torchvision(name: str, what: str, file: str, digest: str, megabytes: float, used_by: str) -> Published:
    url = f"https://download.pytorch.org/models/{file}"
    return Published(name, what, url, digest, "BSD 3-Clause, as torchvision", (used_by,), megabytes)


INCEPTION = Published(
    name="inception",
    what="Inception v3 of 2015, as FID and KID use it",
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    digest="6726825d",
    licence="Apache 2.0, as TensorFlow's original",
    used_by=("fid", "kid"),
    megabytes=95.6,
)
BACKBONES = {
    "alex": _torchvision("alex", "AlexNet, for LPIPS", "alexnet-owt-7be5be79.pth", "7be5be79", 244.4, "lpips"),
    "vgg": _torchvision("vgg", "VGG 16, for LPIPS", "vgg16-397923af.pth", "397923af", 553.4, "lpips(net=vgg)"),
    "squeeze": _torchvision(
        "squeeze", "SqueezeNet 1.1, for LPIPS", "squeezenet1_1-b8a52dc0.pth", "b8a52dc0", 5.0, "lpips(net=squeeze)"
    ),
}
USUAL_TIMM = "resnet50"  # of `frechet` and `kernel`


def timm_weights(model: str) -> Published | None:
    """The weights of a timm model; None for a model without published ones. Raises `UserError` for an unknown model."""
    import timm

    name = model.partition(".")[0]
    if not timm.is_model(name):
        raise UserError(f"timm has no model '{name}'. {nearest(name, timm.list_models())}")
    try:
        config = timm.get_pretrained_cfg(model)
    except RuntimeError as error:
        raise UserError(
            f"timm has no weights '{model}'. {nearest(model, timm.list_pretrained(f'{name}.*'))}"
        ) from error
    url = str(config.url or "") if config else ""
    # Weights of JAX (.npz), which timm itself takes from its repository instead.
    repository = str(config.hf_hub_id or "") if config else ""
    if config is None or not (repository or url) or (url.endswith(".npz") and not repository):
        return None
    if not url.endswith((".pth", ".pt", ".safetensors")) and repository:
        url = f"{HUB}{repository}/resolve/main/model.safetensors"
    used_by = ("frechet", "kernel") if model == USUAL_TIMM else (f"frechet(model={model})", f"kernel(model={model})")
    digest = match[1] if (match := re.search(r"-([0-9a-f]{8})\.\w+$", url)) else ""
    licence = str(config.license or "unstated")
    return Published(model, f"timm {model}", url, digest, licence, used_by, repository=repository)


def published() -> list[Published]:
    """What the metrics need at their usual settings."""
    usual = timm_weights(USUAL_TIMM)
    return [INCEPTION, *BACKBONES.values(), *([usual] if usual else [])]


def torch_home() -> Path:
    """The folder where torch.hub, torchvision, torch-fidelity and torchmetrics keep weights (TORCH_HOME)."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def hub_cache() -> Path:
    """The folder where Hugging Face's libraries keep weights (HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)
