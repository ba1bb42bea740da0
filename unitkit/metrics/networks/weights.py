"""Files of weights that other people publish: read as tensors only, checked, and described by their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...system.errors import UserError

HASH_DIGITS = 16


def facts(path: Path, published: str) -> dict[str, Any]:
    """What a protocol says of a weights file: name, hash, whether it is the published one (None: not known)."""
    digest = sha256(path)
    known = digest.startswith(published) if published else None
    return {"weights": path.name, "sha256": digest[:HASH_DIGITS], "published": known}


def warnings_of(found: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence where the weights are not the published ones."""
    if found["published"] is not False:
        return ()
    return (f"{found['weights']} is not the published file of weights: do not compare with published figures",)


def sha256(path: Path) -> str:
    """Of the file's bytes, in hexadecimal."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path, what: str) -> dict[str, Tensor]:
    """The tensors of a weights file, `.safetensors` or torch's own; no code in it is run.

    Raises:
        UserError: a file that is damaged, or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive raises nearly anything
        reason = str(error).strip().partition("\n")[0][:120] or type(error).__name__
        raise UserError(f"cannot read {path} as weights of {what}: {reason}; fetch it again") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(each, Tensor) for each in state.values()):
        raise UserError(f"{path} holds no weights by name, as {what} needs them")
    return dict(state)


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path, what: str) -> None:
    """Load weights into a network. Raises `UserError` where names or shapes are of another network."""
    own = network.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # older files lack them
    strange = sorted((own.keys() - counters - state.keys()) | (state.keys() - own.keys()))
    strange += [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if strange:
        verb = "lacks" if strange[0] not in state else "has another" if strange[0] in own else "has a strange"
        raise UserError(f"{path} is of another network than {what}: it {verb} '{strange[0]}'")
    with torch.no_grad():
        for name in own.keys() & state.keys():
            own[name].copy_(state[name])
