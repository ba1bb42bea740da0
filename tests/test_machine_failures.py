"""What the machine refuses while images are read, or work is done, is told as that, and of no image or user."""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image, ImageFile
from test_depth import dicom, images

from unitkit import UserError
from unitkit.data.cache import broken
from unitkit.data.files.decode import decode, probe
from unitkit.data.files.encode import write_image
from unitkit.data.files.quick import header_of
from unitkit.data.formats import nifti, tiff
from unitkit.data.sources import Images
from unitkit.data.values import Values
from unitkit.system.errors import FAILING, MachineError

FORMATS = ("8.png", "16.png", "8.jpg", "8.webp", "8.bmp", "8.tif", "32.tif", "32.npy", "32.nii.gz", "12.dcm")
FAILURES = [MemoryError(), *(OSError(number, os.strerror(number)) for number in sorted(FAILING))]


def file_of(folder: Path, name: str) -> Path:
    bits, _, suffix = name.partition(".")
    path = folder / name
    if suffix == "dcm":
        return dicom(path, np.random.default_rng(0).integers(0, 4096, (12, 18)).astype(np.uint16))
    if suffix.startswith("nii") and nifti.nibabel is None:
        pytest.skip("nibabel is not installed")
    dtype = {"8": "uint8", "16": "uint16", "32": "float32"}[bits]
    write_image(list(images(dtype, 1 if bits == "32" else 3)), path, values=Values(dtype))
    return path


@contextmanager
def failing(path: Path, failure: Exception, at: int) -> Iterator[None]:
    """Within the block the `at`-th opening of a file fails, and those after it, whoever asks for it."""
    calls, owners = itertools.count(1), ((os, "open"), (builtins, "open"), (io, "open"))

    def armed(usual: Any) -> Any:
        def opened(file: Any, *args: Any, **kwargs: Any) -> Any:
            if not isinstance(file, int) and Path(os.fsdecode(file)) == path and next(calls) >= at:
                raise failure
            return usual(file, *args, **kwargs)

        return opened

    patches = [mock.patch.object(owner, name, armed(getattr(owner, name))) for owner, name in owners]
    tiff.layout_of.cache_clear()
    nifti._volume.cache_clear()
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
@pytest.mark.parametrize("name", FORMATS)
def test_a_failing_machine_damages_no_image(tmp_path: Path, name: str, failure: Exception) -> None:
    path = file_of(tmp_path, name)
    channels = probe(path).channels
    expected = MemoryError if isinstance(failure, MemoryError) else (MachineError, OSError)
    for at in range(1, 5):
        for work in (lambda: decode(path, channels), lambda: probe(path), lambda: header_of(str(path))):
            with failing(path, failure, at):
                try:
                    found = work()
                except expected as error:
                    assert at > 1 or not isinstance(error, UserError) or str(path) in str(error)
                else:
                    assert at > 1 and not isinstance(found, UserError), found


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
@pytest.mark.parametrize("name", [name for name in FORMATS if name.startswith("8")])
def test_nor_does_one_that_fails_while_it_decodes(tmp_path: Path, name: str, failure: Exception) -> None:
    path = file_of(tmp_path, name)
    for owner, method in (ImageFile.ImageFile, "load"), (Image.Image, "getexif"):
        with mock.patch.object(owner, method, side_effect=failure):
            try:
                decode(path, 3)
            except (MemoryError, MachineError):
                continue
            assert method == "getexif" and isinstance(failure, OSError), "metadata that cannot be read refuse no image"


def test_a_bad_image_is_none_where_the_machine_failed() -> None:
    class Failing(Images):
        def __len__(self) -> int:
            return 1

        def load(self, index: int) -> np.ndarray:
            raise MachineError("cannot read the image 'x': Too many open files")

    with pytest.raises(MachineError):
        broken(Failing(), [0])


def test_no_handles_are_left(trained: Path, tmp_path: Path) -> None:
    """The status of the command is the machine's."""
    path = file_of(tmp_path, "8.png")
    from commands import one_line, unitkit

    with failing(path, OSError(errno.EMFILE, os.strerror(errno.EMFILE)), 2):
        answer = unitkit("translate", trained, "ab", path, tmp_path / "y.png")
    one_line(answer, "8.png", "Too many open files", status=1)
