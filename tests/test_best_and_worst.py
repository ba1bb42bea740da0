"""The best and the worst images of a report stand beside the figures that they are of, and beside no others."""

from __future__ import annotations

import json
import re
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import unitkit
from PIL import Image
from sets import pictures, save

from unitkit.runs.folder import RunFolder
from unitkit.runs.page import write_report
from unitkit.runs.report import figures_key
from unitkit.runs.samples import BEST_AND_WORST, layout_of

HEADING = "The best and the worst held-out images"


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A finished run that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def entries(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "metrics.json").read_text())["evaluations"]
    return found


def of(folder: Path) -> str:
    """The figures that the sheet says it is of."""
    with Image.open(folder / "samples" / BEST_AND_WORST) as image:
        layout = layout_of(image)
    assert layout is not None
    return layout.of


def beside(folder: Path) -> str:
    """The last second-level heading above the images, and how often they are there."""
    text = (folder / "report.html").read_text()
    assert text.count(HEADING) == 1
    return re.findall(r"<h2>(.*?)</h2>", text[: text.index(HEADING) + len(HEADING) + 5])[-1]


def evaluate(folder: Path, *words: object) -> str:
    answer = unitkit("evaluate", folder, "--device", "cpu", *words)
    assert answer.status == 0, answer.err
    return answer.out + answer.err


def test_a_training_s_images_stand_with_its_figures(trained: Path) -> None:
    (entry,) = entries(trained)
    assert of(trained) == figures_key(entry, "psnr(aa, a)")
    assert beside(trained).startswith("step-00000012 on ")


def test_figures_measured_again_have_their_images_drawn_again(folder: Path) -> None:
    sheet = folder / "samples" / BEST_AND_WORST
    before = sheet.read_bytes()
    sheet.write_bytes(b"damaged")
    assert "stay as they are" not in evaluate(folder)
    assert sheet.read_bytes() == before and beside(folder).startswith("step-00000012 on ")
    evaluate(folder, "--metrics", "l1(ab, b)")
    (entry,) = entries(folder)
    assert of(folder) == figures_key(entry, "l1(ab, b)") and beside(folder).startswith("step-00000012 on ")


@pytest.mark.parametrize(
    ("where", "words", "why"),
    [
        ("", ("--max-images", 2), "some of the held-out images"),
        ("checkpoints/step-00000009", (), "another checkpoint than the last"),
        ("", ("--data", "sets"), "other data"),
    ],
)
def test_other_figures_leave_the_images_with_their_own(
    folder: Path, tmp_path: Path, where: str, words: tuple[object, ...], why: str
) -> None:
    if "sets" in words:
        for split, label in product(("train", "test"), ("x", "y")):
            save(tmp_path / "sets" / split / label, pictures(4, 0, 16))
        words = ("--data", tmp_path / "sets")
    before = (folder / "samples" / BEST_AND_WORST).read_bytes()
    printed = evaluate(folder / where, *words, "--metrics", "psnr(aa, a)")
    assert f"these figures are of {why}" in " ".join(printed.split())
    assert (folder / "samples" / BEST_AND_WORST).read_bytes() == before
    first, last = entries(folder)
    assert of(folder) == figures_key(first, "psnr(aa, a)") != figures_key(last, "psnr(aa, a)")
    text = (folder / "report.html").read_text()
    newest, oldest = (m.start() for m in re.finditer(r"<h2>[^<]* on [^<]*</h2>", text))
    assert newest < oldest < text.index(HEADING), "with the training's own, which is shown below the newer"


def test_metrics_of_whole_sets_leave_the_images(folder: Path) -> None:
    before = (folder / "samples" / BEST_AND_WORST).read_bytes()
    assert "stay as they are" not in evaluate(folder, "--metrics", "diversity")
    assert (folder / "samples" / BEST_AND_WORST).read_bytes() == before and beside(folder).startswith("step-")


def test_images_of_no_evaluation_that_is_there_stand_alone(folder: Path) -> None:
    found = json.loads((folder / "metrics.json").read_text())
    found["evaluations"][0]["seed"] = 7
    (folder / "metrics.json").write_text(json.dumps(found))
    write_report(RunFolder(folder))
    assert beside(folder) == HEADING and "go with none of the evaluations" in (folder / "report.html").read_text()


def test_a_run_without_images_gets_them(folder: Path) -> None:
    shutil.rmtree(folder / "samples")
    evaluate(folder)
    assert beside(folder).startswith("step-00000012 on ")
    with Image.open(folder / "samples" / BEST_AND_WORST) as image:
        assert np.asarray(image).std() > 0
