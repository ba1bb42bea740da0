"""Files of handwritten and house-number digits: MNIST, USPS and SVHN in the formats in which they go about."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...system.errors import UserError, refusal
from ..folders.held_out import hold_out
from ..sources import ImageArray
from .arrays import content, idx_images, idx_labels, npz_array, npz_shapes
from .formats import SIDE, hdf5_arrays, libsvm_table, matlab_arrays

TRAIN, TEST = "train", "test"
TEN = {10: 0}  # SVHN's label of the digit 0
PLUS_ONE = {0: -1} | {digit + 1: digit for digit in range(10)}  # the labels of USPS as libsvm has them; 0 is none

# The MD5 of the published files; those of MNIST packed, and as torchvision unpacks them.
PUBLISHED = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    "usps.bz2": "ec16c51db3855ca6c91edd34d0e9b197",
    "usps.t.bz2": "8ea070ee2aca1ac39742fdd1ef5ed118",
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}


@dataclass(frozen=True)
class Split:
    """One split: its images, the class of each (int64 (n,), 0..9) where it was asked for, and the files read."""

    images: ImageArray
    classes: np.ndarray | None
    files: tuple[Path, ...]

    def pick(self, rows: np.ndarray) -> Split:
        """Only these of its images, with their classes."""
        return Split(self.images.pick(rows), None if self.classes is None else self.classes[rows], self.files)


@dataclass(frozen=True)
class Layout:
    """One way in which a dataset lies in a folder.

    `expected` says it in words. The files that hold the images of a split match one of the patterns in `names`; for
    both splits it may be the same file. `read(path, split, labelled)` reads the split's images, and the classes only
    where `labelled` says so; it answers None where the file holds no such split.
    """

    expected: str
    names: Mapping[str, tuple[str, ...]]
    read: Callable[[Path, str, bool], Split | None]

    def file(self, folder: Path, split: str) -> Path | None:
        """The file with the split's images. Raises `UserError` where several could be meant."""
        for pattern in self.names[split]:
            try:
                found = sorted(path for path in folder.glob(pattern) if path.is_file())
            except OSError as error:
                raise refusal(f"cannot read the folder '{folder}'", error) from None
            if len(found) > 1:
                names = ", ".join(path.name for path in found)
                raise UserError(
                    f"'{folder}' holds several files of the {split} split, {names}: leave one of them there"
                )
            if found:
                return found[0]
        return None


@dataclass(frozen=True)
class Found:
    """A dataset that lies in a folder in one of its layouts."""

    layout: Layout
    folder: Path


@dataclass(frozen=True)
class Digits:
    """A dataset as read: its splits, whether it came with a test split, whether its files are the published ones."""

    train: Split
    test: Split
    official: bool
    published: bool


def find(name: str, folder: Path) -> Found | None:
    """Whether the training images of the dataset `name` lie in this folder, and in which layout."""
    return next((Found(layout, folder) for layout in LAYOUTS[name] if layout.file(folder, TRAIN)), None)


def read(found: Found, *, labelled: bool) -> Digits:
    """Both splits of a dataset; without a test split of its own, one in ten of the training images is held out.

    The classes of the training images are read only where `labelled` says so; those of the test images always. Raises
    `UserError` for a file that is damaged, does not fit the others, or is of another kind.
    """
    layout, folder = found.layout, found.folder
    path = layout.file(folder, TRAIN)
    assert path is not None, found
    own = layout.file(folder, TEST)
    test = layout.read(own, TEST, True) if own else None
    train = layout.read(path, TRAIN, labelled or test is None)
    assert train is not None, path  # readers answer so for a test split only
    official = test is not None
    if test is None:
        if len(train.images) < 2:
            raise UserError(f"'{path}' holds one image: it takes at least 2, one to train on and one to test")
        held = hold_out([str(row) for row in range(len(train.images))])
        train, test = train.pick(~held), train.pick(held)
    if not labelled:
        train = Split(train.images, None, train.files)
    files = dict.fromkeys([*train.files, *test.files])
    return Digits(train, test, official, all(_md5(file) == PUBLISHED.get(file.name) for file in files))


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _classes(values: np.ndarray, images: ImageArray, source: str, shift: Mapping[int, int] | None = None) -> np.ndarray:
    """The labels as classes 0..9, one for each image; `shift` says which class a label means that is not its own."""
    flat = values.ravel() if values.ndim == 2 and 1 in values.shape else values
    if flat.dtype.kind not in "iuf" or flat.ndim != 1:
        raise UserError(
            f"'{source}' holds labels of type {values.dtype} and shape {values.shape}: expected integers (N,)"
        )
    if len(flat) != len(images):
        raise UserError(
            f"'{source}' holds {len(flat)} labels, and '{images.label}' {len(images)} images: they must match"
        )
    classes: np.ndarray = np.where(np.abs(flat) < 100, flat, -1).astype(np.int64)
    wrong = classes != flat
    shifted = classes.copy()
    for label, meant in (shift or {}).items():
        shifted[classes == label] = meant
    wrong |= (shifted < 0) | (shifted > 9)
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(f"'{source}' holds the label {flat[row]} in row {row}: expected the digits 0 to 9")
    return shifted


def _idx(path: Path, split: str, labelled: bool) -> Split:
    """The idx files of MNIST: `path` holds the images, and a file beside it, gzipped or not, the labels."""
    images = idx_images(path)
    if not labelled:
        return Split(images, None, (path,))
    name = path.name.removesuffix(".gz").replace("images-idx3", "labels-idx1")
    # Where both are there, the labels that are packed as the images are.
    beside = [file for file in (path.with_name(name), path.with_name(f"{name}.gz")) if file.is_file()]
    if not beside:
        raise UserError(f"'{path}' has no labels beside it: expected '{name}.gz' or '{name}' in that folder")
    labels = next((file for file in beside if file.suffix == path.suffix), beside[0])
    return Split(images, _classes(idx_labels(labels), images, str(labels)), (path, labels))


def _npz(path: Path, split: str, labelled: bool, shift: Mapping[int, int] | None = None) -> Split | None:
    """x_train, y_train, x_test and y_test as of Keras, or X and y of the one split that the file's name begins with."""
    shapes = npz_shapes(path)
    if f"x_{split}" in shapes:
        x, y = f"x_{split}", f"y_{split}"
    elif "X" in shapes and (split == TRAIN or path.name.startswith(TEST)):
        x, y = "X", "y"
    elif split == TEST and not path.name.startswith(TEST):
        return None
    else:
        raise UserError(f"'{path}' holds {content(shapes)}: expected x_{split} and y_{split}, or X and y")
    images = ImageArray(npz_array(path, x), f"{path}:{x}")
    if not labelled:
        return Split(images, None, (path,))
    if y not in shapes:
        raise UserError(f"'{path}' holds {x} and not {y}: expected the labels of the images beside them")
    return Split(images, _classes(npz_array(path, y), images, f"{path}:{y}", shift), (path,))


def _h5(path: Path, split: str, labelled: bool) -> Split | None:
    """Groups `train` and `test`, each with `data` (N, 256) in [0, 1] and `target` (N,)."""
    names = [f"{split}/data", f"{split}/target"] if labelled else [f"{split}/data"]
    arrays = hdf5_arrays(path, names)
    if arrays is None:
        if split == TEST:
            return None
        raise UserError(f"'{path}' lacks '{names[0]}'")
    data, *targets = arrays
    if data.ndim == 2 and data.shape[1] == SIDE**2:
        data = data.reshape(-1, SIDE, SIDE)
    images = ImageArray(data, f"{path}:{split}/data")
    return Split(images, _classes(targets[0], images, f"{path}:{names[1]}") if targets else None, (path,))


def _libsvm(path: Path, split: str, labelled: bool) -> Split:
    """A line an image, packed by bzip2: the label 1..10, the digit plus 1, and `1:value` to `256:value` in [-1, 1]."""
    table = libsvm_table(path)
    values = table[:, 2::2]
    if not (np.abs(values) <= 1).all():
        raise UserError(f"'{path}' holds values {values.min():.4g}..{values.max():.4g}: expected -1 to 1")
    images = ImageArray(((values + 1) / 2).reshape(-1, SIDE, SIDE), str(path))
    return Split(images, _classes(table[:, 0], images, str(path), PLUS_ONE) if labelled else None, (path,))


def _mat(path: Path, split: str, labelled: bool) -> Split:
    """The files of MATLAB: X (32, 32, 3, N) and y (N, 1), with 10 for the digit 0."""
    names = ["X", "y"] if labelled else ["X"]
    content = matlab_arrays(path, names)
    if missing := [name for name in names if name not in content]:
        raise UserError(f"'{path}' holds no array '{missing[0]}': expected X (32,32,3,N) and y (N,1)")
    pixels = content["X"]
    if pixels.ndim != 4 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise UserError(f"'{path}' holds X of {pixels.dtype} {pixels.shape}: expected uint8 (32,32,3,N)")
    images = ImageArray(pixels.transpose(3, 2, 0, 1), f"{path}:X")
    return Split(images, _classes(content["y"], images, f"{path}:y", TEN) if labelled else None, (path,))


def _both(name: str) -> dict[str, tuple[str, ...]]:
    return {TRAIN: (name,), TEST: (name,)}


# By dataset, the first that is there is read: the published files before others.
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "mnist": (
        Layout(
            "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte "
            "(.gz or not)",
            {
                TRAIN: ("train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"),
                TEST: ("t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz"),
            },
            _idx,
        ),
        Layout("mnist.npz", _both("mnist.npz"), _npz),
    ),
    "usps": (
        Layout("usps.bz2, usps.t.bz2", {TRAIN: ("usps.bz2",), TEST: ("usps.t.bz2",)}, _libsvm),
        Layout("usps.npz", _both("usps.npz"), _npz),
        Layout("usps.h5", _both("usps.h5"), _h5),
    ),
    "svhn": (
        Layout("train_32x32.mat, test_32x32.mat", {TRAIN: ("train_32x32.mat",), TEST: ("test_32x32.mat",)}, _mat),
        Layout("svhn.npz", _both("svhn.npz"), partial(_npz, shift=TEN)),
        Layout(
            "train*.npz, test*.npz with X and y",
            {TRAIN: ("train*.npz",), TEST: ("test*.npz",)},
            partial(_npz, shift=TEN),
        ),
    ),
}
