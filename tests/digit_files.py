"""Files of digits as each data set has them, written for tests."""

from __future__ import annotations

import bz2
import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import h5py
import numpy as np
import pytest
import scipy.io

from unitkit.data import Data, digits
from unitkit.data.sources import Images
from unitkit.system.errors import UserError

SHARED = Path(os.environ.get("UNITKIT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
SIDES = {"mnist": 28, "usps": 16, "svhn": 32}
MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
USPS_TRAIN = [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]
USPS_TEST = [359, 264, 198, 166, 200, 160, 170, 147, 166, 177]
SVHN_FIRST = [66, 227, 141, 134, 110, 112, 78, 70, 78, 67]

Split = tuple[np.ndarray, np.ndarray]  # images and classes


def cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder of the machine's, and no network."""

    def refuse(*args: object, **options: object) -> None:
        raise URLError("no route\nto host")

    monkeypatch.delenv("UNITKIT_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("urllib.request.urlopen", refuse)


def some(name: str, n: int, seed: int = 0) -> Split:
    """Images of noise, each with its row in the first pixel, and classes that are no function of the row."""
    rng = np.random.default_rng((seed, n))
    side = SIDES[name]
    images = rng.integers(0, 256, (n, side, side, 3) if name == "svhn" else (n, side, side), np.uint8)
    images[:, 0, 0] = (np.arange(n) % 256).reshape(-1, *[1] * (images.ndim - 3))
    return images, rng.integers(0, 10, n)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, train: Split, test: Split | None, pack: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, split in (("train", train), ("t10k", test)):
        if split:
            for kind, array in (("images-idx3", split[0]), ("labels-idx1", split[1])):
                content = gzip.compress(idx(array), 1) if pack else idx(array)
                (folder / f"{stem}-{kind}-ubyte{'.gz' if pack else ''}").write_bytes(content)


def write_plain_idx(folder: Path, train: Split, test: Split | None) -> None:
    write_idx(folder, train, test, pack=False)


def write_torchvision(folder: Path, train: Split, test: Split | None) -> None:
    write_idx(folder / "MNIST" / "raw", train, test)


def write_npz(name: str) -> Callable[[Path, Split, Split | None], None]:
    def write(folder: Path, train: Split, test: Split | None) -> None:
        rest = {"x_test": test[0], "y_test": test[1]} if test else {}
        np.savez(folder / f"{name}.npz", x_train=train[0], y_train=train[1].astype(np.uint8), **rest)

    return write


def write_h5(folder: Path, train: Split, test: Split | None) -> None:
    with h5py.File(folder / "usps.h5", "w") as file:
        for split, part in (("train", train), ("test", test)):
            if part:
                file[f"{split}/data"] = part[0].reshape(len(part[0]), 256).astype(np.float32) / 255
                file[f"{split}/target"] = part[1]


def libsvm(images: np.ndarray, labels: np.ndarray) -> bytes:
    """`labels` are the digits plus 1."""
    rows = zip(labels, images.reshape(len(images), -1) / 127.5 - 1, strict=True)
    lines = (f"{label} " + " ".join(f"{i}:{v:.4f}" for i, v in enumerate(row, 1)) + " \n" for label, row in rows)
    return bz2.compress("".join(lines).encode())


def write_bz2(folder: Path, train: Split, test: Split | None) -> None:
    for name, part in (("usps.bz2", train), ("usps.t.bz2", test)):
        if part:
            (folder / name).write_bytes(libsvm(part[0], part[1] + 1))


def write_mat(folder: Path, train: Split, test: Split | None) -> None:
    for name, part in (("train", train), ("test", test)):
        if part:
            labels = np.where(part[1] == 0, 10, part[1]).astype(np.uint8)[:, None]
            content = {"X": part[0].transpose(1, 2, 3, 0), "y": labels}
            scipy.io.savemat(folder / f"{name}_32x32.mat", content, do_compression=True)


def write_house_npz(folder: Path, train: Split, test: Split | None) -> None:
    np.savez(folder / "train_first.npz", X=train[0], y=train[1])
    if test:  # with the digit 0 as in the original
        np.savez(folder / "test.npz", X=test[0], y=np.where(test[1] == 0, 10, test[1]))


WRITERS: dict[str, tuple[str, Callable[[Path, Split, Split | None], None]]] = {
    "idx": ("mnist", write_plain_idx),
    "idx.gz": ("mnist", write_idx),
    "torchvision": ("mnist", write_torchvision),
    "keras": ("mnist", write_npz("mnist")),
    "usps.npz": ("usps", write_npz("usps")),
    "h5": ("usps", write_h5),
    "bz2": ("usps", write_bz2),
    "mat": ("svhn", write_mat),
    "X, y": ("svhn", write_house_npz),
    "svhn.npz": ("svhn", write_npz("svhn")),
}


def stack(images: Images) -> np.ndarray:
    """All images as in `some`: (N, H, W), or (N, H, W, 3) in colour."""
    found = np.stack([images.load(i) for i in range(len(images))])
    return found[:, 0] if found.shape[1] == 1 else found.transpose(0, 2, 3, 1)


def refused(*words: object, **options: Any) -> str:
    """Opening raises one line with these words in it."""
    with pytest.raises(UserError) as caught:
        digits(**options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message, message
    return message


def only(folder: Path, name: str, **options: Any) -> Data:
    """The dataset as the source and as the target, at its own size, pixel by pixel as in its files."""
    options = {"padding": False, "size": SIDES[name], **options}
    return digits(source=name, target=name, folder=str(folder), **options)  # type: ignore[arg-type]


def need(*folders: str) -> str:
    for folder in folders:
        if not (SHARED / folder).is_dir():
            pytest.skip(f"no folder {SHARED / folder}")
    return str(SHARED)


def rows(images: Images) -> list[int]:
    heads = np.stack([images.load(i)[0, 0, :3] for i in range(len(images))]).astype(int)
    return [int(row) for row in heads[:, 1] * 256 + heads[:, 2]]
