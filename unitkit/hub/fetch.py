"""A model fetched from the Hugging Face Hub: its own few files, within a bound, into the library's cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..system.errors import MachineError, UserError
from ..system.sizes import show_size
from .access import asking
from .names import Place

LARGEST = 4 * 2**30  # bytes of a model's files


def fetch(place: Place, key: str, others: Sequence[str]) -> Path:
    """The folder in the cache that holds a model's files: `key`, and those of `others` that it has, and nothing that
    a repository holds besides.

    What is there already is not fetched again. Without a network, or with HF_HUB_OFFLINE, the folder is that of what
    was fetched before.

    Args:
        place: where it is on the hub.
        key: the file by which a model is known. It is fetched last, so that where it is, the others are.
        others: names of files.

    Raises:
        UserError: no such repository or revision, one that may not be read, one without `key`, one that is too large.
        MachineError: no network, and nothing in the cache.
    """
    from huggingface_hub import hf_hub_download

    what = f"the model '{place}'"
    try:
        with asking(what):
            commit, names = _looked_up(place, key, others)
            for name in names:
                hf_hub_download(place.repository, name, revision=commit)
            file = hf_hub_download(place.repository, key, revision=place.revision)  # which keeps what a branch means
    except MachineError:
        with asking(what):
            if (kept := _cached(place, key)) is not None:
                return kept
        raise
    if (folder := Path(file).parent).name != commit:
        raise MachineError(f"{what} was changed while it was being fetched: try again")
    return folder


def _looked_up(place: Place, key: str, others: Sequence[str]) -> tuple[str, list[str]]:
    """The commit that a place means, and which of the files it has. Raises `UserError` for no model, or a large one."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(place.repository, revision=place.revision, files_metadata=True)
    sizes = {each.rfilename: each.size for each in info.siblings or ()}
    if key not in sizes or info.sha is None:
        some = ", ".join(sorted(sizes)[:4]) or "no file"
        raise UserError(f"'{place}' holds no model of unitkit's: it has {some:.200}, and no {key} beside them")
    names = [name for name in others if name in sizes]
    total = 0
    for name in (key, *names):
        if (size := sizes[name]) is None:
            raise UserError(f"the hub does not say how large {name} of '{place}' is, so it is not fetched")
        total += size
    if total > LARGEST:
        raise UserError(
            f"the model '{place}' is of {show_size(total)}, and no more than {show_size(LARGEST)} are fetched unasked: "
            f"if that is what you want, `hf download {place.repository} --local-dir FOLDER`, and give that folder"
        )
    return info.sha, names


def _cached(place: Place, key: str) -> Path | None:
    """The folder of what was fetched before."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(place.repository, key, revision=place.revision)
    return Path(found).parent if isinstance(found, str) else None
