"""Plans of trainings: what is missing is done, what is there stays, and one table tells of all."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import unitkit
from digit_files import some, write_idx
from sets import pictures, save

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from plan import Cell, Column, Job, Study, jobs, main

TINY = (
    "data={data}",
    "labels=one,two",
    "size=16",
    "width=4",
    "width_d=4",
    "blocks=1",
    "layers=2",
    "batch=2",
    "steps=2",
)
STUDY = Study(
    "tiny",
    [Cell("plain", "unit_maps", seeds=2), Cell("reflect", "unit_maps", ("padding=reflect",))],
    [Column("L1", "l1(aa, a)", "l1"), Column("within 16, %", "pixel_accuracy(ab, b)", "largest_channel", 100, 1)],
    TINY,
    ("l1(bb, b)",),
    (),
)


@pytest.fixture
def images(tmp_path: Path) -> str:
    for name in ("train/one", "train/two", "val/one", "val/two"):
        save(tmp_path / "images" / name, pictures(3, len(name), 16))
    return str(tmp_path / "images")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands of a plan, which run in this process."""
    found: list[str] = []

    def here(job: Job, threads: int, *words: str) -> str:
        found.append(f"{words[0]} {'--resume' if '--resume' in words else job.cell.name} {job.seed}")
        answer = unitkit(*words)
        return "" if answer.status == 0 else answer.err

    monkeypatch.setattr(Job, "_unitkit", here)
    return found


def test_a_plan_does_what_is_missing(
    tmp_path: Path, images: str, called: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    one = [str(tmp_path), "--data", images, "--cells", "plain", "--seeds", "1"]
    assert main("", [STUDY], one) == 0 and called == ["train plain 0", "evaluate plain 0"]
    assert main("", [STUDY], one) == 0 and len(called) == 2
    capsys.readouterr()
    assert main("", [STUDY], [str(tmp_path), "--data", images]) == 0
    assert called[2:] == ["train reflect 0", "evaluate reflect 0", "train plain 1", "evaluate plain 1"]
    printed = capsys.readouterr().out
    rows = [line.split(" | ") for line in printed.splitlines() if line.startswith("| plain") or "| reflect" in line]
    assert [row[1] for row in rows] == ["2", "1"] and "±" in rows[0][2] and "±" not in rows[1][2]
    (job,) = [job for job in jobs(STUDY, tmp_path, images) if job.cell.name == "reflect"]
    kept = json.loads((job.folder / "metrics.json").read_text())["evaluations"][-1]["metrics"]
    assert {"l1(aa, a)", "l1(bb, b)", "pixel_accuracy(ab, b)"} <= kept.keys()
    figures = [job.value(STUDY.columns[0]) for job in jobs(STUDY, tmp_path, images) if job.cell.name == "reflect"]
    assert rows[1][2] == f"{figures[0]:.2f}"


def test_a_plan_goes_on_with_what_was_stopped(tmp_path: Path, images: str, called: list[str]) -> None:
    (job,) = [job for job in jobs(STUDY, tmp_path, images) if job.cell.name == "reflect"]
    job.folder.parent.mkdir(parents=True)
    assert unitkit("train", "unit_maps", *job.words, "--out", job.folder).status == 0
    (job.folder / "metrics.json").unlink()  # as a kill before the end leaves it
    assert not job.trained
    assert main("", [STUDY], [str(tmp_path), "--data", images, "--cells", "reflect"]) == 0
    assert called == ["train --resume 0", "evaluate reflect 0"] and job.measured


def change(path: Path, name: str, value: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))


def test_a_table_tells_only_of_what_the_plan_asks_for(
    tmp_path: Path, images: str, called: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither of a run of an earlier plan, nor of one that was measured half way, nor of a metric that failed."""
    one = [str(tmp_path), "--data", images, "--cells", "reflect"]
    assert main("", [STUDY], one) == 0
    (job,) = [job for job in jobs(STUDY, tmp_path, images) if job.cell.name == "reflect"]
    assert job.measured and not job.otherwise

    metrics = job.folder / "metrics.json"
    kept = metrics.read_text()
    entries = json.loads(kept)
    entries["evaluations"][0]["metrics"]["l1(aa, a)"] |= {"figures": {}, "failed": "no memory"}
    metrics.write_text(json.dumps(entries))
    assert job.trained and not job.measured
    metrics.write_text(kept)

    change(job.folder / "run.json", "steps", 4)  # of which two are done
    assert not job.trained
    change(job.folder / "run.json", "steps", 2)

    later = replace(STUDY, words=(*TINY, "lambda_rec=3"))
    capsys.readouterr()
    assert main("", [later], one) == 1 and len(called) == 2
    printed = capsys.readouterr().out
    assert "other lambda_rec than the plan now has" in printed and "| reflect | 0 of 1 | - |" in printed


def test_models_that_translate_nothing_are_tabulated(
    tmp_path: Path, called: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    study = Study(
        "classified",
        [Cell("classifier", "digits_classifier")],
        [Column("target, %", "accuracy(b)", "accuracy", 100)],
        ("data={data}", "source=mnist", "target=mnist", "width=4", "batch=4", "steps=2"),
        options=(),
    )
    write_idx(tmp_path / "digits", some("mnist", 40), some("mnist", 12))
    assert main("", [study], [str(tmp_path), "--data", str(tmp_path / "digits")]) == 0 and len(called) == 1
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("| classifier"))
    assert row.split(" | ")[2:6] == [f"{jobs(study, tmp_path, '')[0].value(study.columns[0]):.2f}", "fp32", "0.03", "-"]


def test_a_cell_has_the_last_word(tmp_path: Path) -> None:
    study = Study("one", [Cell("deep", "unit_maps", ("layers=5", "blocks=2"))], (), (*TINY, "data={data}/x"))
    (job,) = jobs(study, tmp_path, "folder")
    assert "layers=2" not in job.words and "layers=5" in job.words and "data=folder/x" in job.words


def test_a_recipe_that_cannot_be_ends_a_plan_before_it_trains(tmp_path: Path, images: str, called: list[str]) -> None:
    wrong = Study("wrong", [Cell("wrong", "unit_maps", ("layers=none",))], STUDY.columns, TINY)
    with pytest.raises(SystemExit, match=r"error: .*layers"):
        main("", [wrong], [str(tmp_path), "--data", images])
    assert not called


def test_one_failure_leaves_the_others(tmp_path: Path, images: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def fails(job: Job, threads: int, *words: str) -> str:
        tried.append(job.cell.name)
        return "no"

    monkeypatch.setattr(Job, "_unitkit", fails)
    assert main("", [STUDY], [str(tmp_path), "--data", images, "--seeds", "1"]) == 1 and tried == ["plain", "reflect"]


def test_a_cell_is_measured_without_what_its_model_cannot_have(
    tmp_path: Path, images: str, called: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """CUT knows no way back, and so no cycle."""
    cycle = Column("cycle, dB", "psnr(aba, a)", "psnr")
    study = Study(
        "both",
        [Cell("UNIT", "unit_maps"), Cell("CUT", "cut", ("nce_layers=0,1", "patches=4"), without=(cycle.metric,))],
        [Column("L1", "l1(ab, b)", "l1"), cycle],
        (*TINY, "aligned=yes"),
        options=(),
    )
    assert main("", [study], [str(tmp_path), "--data", images]) == 0
    assert called == ["train UNIT 0", "evaluate UNIT 0", "train CUT 0", "evaluate CUT 0"]
    assert all(job.measured for job in jobs(study, tmp_path, images))
    rows = {line.split(" | ")[0][2:]: line.split(" | ") for line in capsys.readouterr().out.splitlines() if "|" in line}
    assert rows["CUT"][3] == "-" and float(rows["CUT"][2]) > 0 and float(rows["UNIT"][3]) > 0


def test_the_pace_is_timed_apart_from_the_trainings(
    tmp_path: Path, images: str, called: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(tmp_path), "--data", images, "--seeds", "1"]
    assert main("", [STUDY], [*words, "--pace", "1"]) == 0 and not called
    paces = json.loads((tmp_path / "tiny" / "pace.json").read_text())
    assert set(paces) == {"plain", "reflect"} and all(0 < pace < 60 for pace in paces.values())
    (tmp_path / "tiny" / "pace.json").write_text(json.dumps({"plain": 90.0}))
    capsys.readouterr()
    assert main("", [STUDY], words) == 0
    rows = {line.split(" | ")[0]: line.split(" | ") for line in capsys.readouterr().out.splitlines() if "|" in line}
    assert rows["| plain"][-3:-1] == ["90.000", "3"]  # two steps of a minute and a half
    assert rows["| reflect"][-3:-1] == ["-", "-"]


def test_what_cannot_be_timed_or_chosen_is_told_in_a_line(
    tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(tmp_path), "--data", images]
    with pytest.raises(SystemExit, match="error: 2 steps after a first one are more than a training has of plain"):
        main("", [STUDY], [*words, "--pace", "2"])
    for given, said in (["--pace", "-1"], "not '-1'"), (["--cells", "plain,reflect"], "no cell 'plain,reflect'"):
        with pytest.raises(SystemExit):
            main("", [STUDY], [*words, *given])
        assert said in capsys.readouterr().err


def test_a_plan_trains_and_measures_on_the_device_that_is_asked_for(
    tmp_path: Path, images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[str, ...]] = []
    monkeypatch.setattr(Job, "_unitkit", lambda job, threads, *words: found.append(words) or "")
    main("", [STUDY], [str(tmp_path), "--data", images, "--seeds", "1", "--cells", "plain", "--device", "cuda"])
    assert [(words[0], words[words.index("--device") + 1]) for words in found] == [
        ("train", "cuda"),
        ("evaluate", "cuda"),
    ]
