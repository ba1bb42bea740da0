"""What the machine refuses while images are read, or work is done, is told as that, and of no image or user."""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from commands import one_line, unitkit
from PIL import Image, ImageFile
from test_depth import dicom, images

from unitkit import UserError, cli
from unitkit.commands import translate as command
from unitkit.data import formats
from unitkit.data.cache import broken
from unitkit.data.files.decode import decode, probe
from unitkit.data.files.encode import write_image
from unitkit.data.files.quick import header_of
from unitkit.data.formats import dicom as dicom_format
from unitkit.data.formats import nifti, pages, tiff
from unitkit.data.sources import Images
from unitkit.data.values import Values
from unitkit.metrics import Result
from unitkit.metrics.paired import Totals
from unitkit.runs.folder import RunFolder
from unitkit.system.errors import FAILING, MachineError, of_system

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
    for kept in (nifti._volume, dicom_format._header, pages._pages, formats._claimed):
        kept.cache_clear()
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
    with failing(path, OSError(errno.EMFILE, os.strerror(errno.EMFILE)), 2):
        answer = unitkit("translate", trained, "ab", path, tmp_path / "y.png")
    one_line(answer, "8.png", "Too many open files", status=1)


NO_MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("not enough memory: you tried to allocate 1 bytes"),
]
OTHERS = [MachineError("the disk is full"), OSError(errno.ENOSPC, "No space left on device"), PermissionError(13, "no")]


@pytest.mark.parametrize("failure", NO_MEMORY, ids=repr)
@pytest.mark.parametrize("where", ["load", "Translator.drawn_style", "Translator.pixels", "Translator.translate_file"])
def test_memory_that_runs_out_while_translating(trained: Path, tmp_path: Path, where: str, failure: Exception) -> None:
    """Wherever it does: while a model is built, an image is read, or the network computes."""
    path = file_of(tmp_path, "8.tif")
    small = 0 if where.endswith("file") else command.LARGE
    words = ("--samples", 1) if where.endswith("style") else ()
    owner = command.Translator if "." in where else command
    with (
        mock.patch.object(owner, where.rpartition(".")[2], side_effect=failure),
        mock.patch.object(command, "LARGE", small),
        mock.patch.object(command.Translator, "check_styles"),
    ):
        answer = unitkit("translate", trained, "ab", path, tmp_path / "y.tif", *words)
    one_line(answer, "translating: the memory of cpu ran out; choose another --device", status=1)


@pytest.mark.parametrize("failure", [*NO_MEMORY, *OTHERS, ValueError("its own"), UserError("its own")], ids=repr)
def test_a_metric_that_the_machine_failed(trained: Path, tmp_path: Path, failure: Exception) -> None:
    """Ends its command with the machine's status, the others' figures kept; one that failed by itself does not."""
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    status = 1 if failure in [*NO_MEMORY, *OTHERS] else 2
    with mock.patch.object(Totals, "result", side_effect=[Result({"x": 1.0}), failure]):
        answer = unitkit("evaluate", run, "--metrics", "psnr(aa, a), l1(aa, a)", "--max-images", 1)
    one_line(answer, "not measured: l1(aa, a): ", status=status)
    entry = RunFolder(run).evaluations()[-1]["metrics"]
    assert entry["psnr(aa, a)"]["figures"] == {"x": 1.0}
    assert entry["l1(aa, a)"].get("machine", False) == (status == 1)
    folder = file_of(tmp_path, "8.png").parent
    with mock.patch.object(Totals, "__init__", side_effect=failure):
        one_line(unitkit("evaluate", "--images", f"ab={folder}", "--metrics", "l1(ab, ab)"), status=status)


def test_no_folder_for_temporary_files() -> None:
    error = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
    assert type(of_system(error)) is MachineError and "temporary directory" in str(of_system(error))
    assert type(of_system(FileNotFoundError(errno.ENOENT, "No such file or directory", "x"))) is UserError


@pytest.mark.parametrize(
    "words", [("show", "unitkit_faces"), ("train", "unit_faces"), ("doctor",), ("list",), ("runs",)]
)
def test_a_working_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    """Is told before anything is imported: a library of torch ends the process without a folder."""
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with mock.patch.object(cli, "app", side_effect=AssertionError("it is too late")):
        one_line(unitkit(*words), "the working folder is gone")
