"""Trackers: what TensorBoard and Weights & Biases are told is what the training did, and a resumed run goes on."""

from __future__ import annotations

import io
import json
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commands import TINY, Moment, one_line, unitkit
from commands import run as run_apart
from PIL import Image

from unitkit import Adam
from unitkit.runs.folder import RunFolder
from unitkit.trackers import make

EventAccumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
).EventAccumulator

TRAIN = ("train", TINY, "lr=0.002", "decay=0.5", "--watch", "psnr(aa, a)", "--watch-every", 6, "--checkpoint-every", 6)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve steps with TensorBoard."""
    out = tmp_path_factory.mktemp("tracked") / "run"
    answer = unitkit(*TRAIN, "--sample-every", 8, "--track", "tensorboard", "--out", out)
    assert answer.status == 0, answer.err
    return out


def events(run: Path) -> Any:
    found = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    return found.Reload()


def steps(found: Any, name: str) -> list[int]:
    return [each.step for each in found.Scalars(name)]


def test_losses_are_those_of_the_log(run: Path) -> None:
    found, rows = events(run), RunFolder(run).stats()
    names = [name for name in rows[0] if "/" in name]
    assert len(names) > 5 and {f"loss/{name}" for name in names} == {
        tag for tag in found.Tags()["scalars"] if tag.startswith("loss/")
    }
    for name in names:
        values = found.Scalars(f"loss/{name}")
        assert [each.step for each in values] == [row["step"] for row in rows] == [1, 10, 12]
        assert [each.value for each in values] == pytest.approx([row[name] for row in rows], rel=1e-6)


def test_learning_rates_follow_the_schedule(run: Path) -> None:
    adam = Adam(lr=0.002, decay=0.5)
    for player in "generator", "discriminator":
        values = events(run).Scalars(f"lr/{player}")
        assert [each.value for each in values] == pytest.approx([adam.lr_at((step - 1) / 12) for step in (1, 10, 12)])
        assert values[0].value > values[1].value > values[2].value > 0


def test_speed_and_memory_are_of_this_process(run: Path) -> None:
    found = events(run)
    assert all(1 < each.value < 1e5 for each in found.Scalars("speed/images_per_second"))
    assert all(100 < each.value < 1e6 for each in found.Scalars("memory/peak_mib"))


def test_grids_are_those_of_the_run(run: Path) -> None:
    images = events(run).Images("samples")
    assert [each.step for each in images] == [8, 12]
    for each in images:
        with (
            Image.open(RunFolder(run).sample(each.step)) as ours,
            Image.open(io.BytesIO(each.encoded_image_string)) as it,
        ):
            assert (each.width, each.height) == ours.size
            assert it.tobytes() == ours.tobytes()


def test_metrics_are_told_while_training_and_at_the_end(run: Path) -> None:
    found, folder = events(run), RunFolder(run)
    watched = found.Scalars("watch/psnr(aa, a)/psnr")
    assert [(each.step, each.value) for each in watched] == [
        (row["step"], pytest.approx(row["psnr(aa, a)"]["psnr"], rel=1e-6)) for row in folder.watched()
    ]
    assert [each.step for each in watched] == [6, 12]
    (final,) = found.Scalars("evaluation/psnr(aa, a)/psnr")
    (kept,) = folder.evaluations()
    assert (final.step, final.value) == (12, pytest.approx(kept["metrics"]["psnr(aa, a)"]["figures"]["psnr"], rel=1e-6))


def test_knobs_are_told(run: Path) -> None:
    (text,) = events(run).Tensors("settings/text_summary")
    table = text.tensor_proto.string_val[0].decode()
    for row in "| recipe | tiny |", "| lr | 0.002 |", "| decay | 0.5 |", "| seed | 0 |":
        assert row in table


def test_a_resumed_run_goes_on_without_double_steps(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    (last,) = (each for each in (out / "checkpoints").iterdir() if each.name.endswith("12"))
    shutil.rmtree(last)  # as if it had been killed before
    (out / "metrics.json").unlink()
    answer = unitkit("train", "--resume", "--out", out, "steps=20")
    assert answer.status == 0, answer.err
    assert json.loads((out / "run.json").read_text())["track"] == ["tensorboard"]
    found = events(out)
    assert steps(found, "loss/generator/l1(aba, a)") == [1, 10, 20]
    assert steps(found, "watch/psnr(aa, a)/psnr") == [6, 12, 18]
    assert steps(found, "evaluation/psnr(aa, a)/psnr") == [20]
    assert [each.step for each in found.Images("samples")] == [8, 16, 20]
    assert len(list((out / "tensorboard").iterdir())) == 2


def test_a_killed_run_goes_on_without_double_or_missing_steps(tmp_path: Path) -> None:
    """Killed in step 12 with a checkpoint of step 6: it tells of step 10 again, and that counts."""
    out = tmp_path / "run"
    words = ("train", TINY, "steps=20", "--checkpoint-every", 6, "--sample-every", 5, "--track", "tensorboard")
    killed = run_apart(tmp_path / "log", *words, "--out", out, moments=[Moment("unitkit.trainer:Trainer.step", 12)])
    assert killed.status == -9 and [row["step"] for row in RunFolder(out).stats()] == [1, 10], killed
    before = events(out)
    assert steps(before, "loss/generator/l1(aba, a)") == [1, 10], "kept, though nobody ended it"
    assert [each.step for each in before.Images("samples")] == [5, 10]
    answer = unitkit("train", "--resume", "--out", out)
    assert answer.status == 0, answer.err
    found = events(out)
    assert steps(found, "loss/generator/l1(aba, a)") == [1, 10, 20]
    assert [each.step for each in found.Images("samples")] == [5, 10, 15, 20]
    assert steps(found, "evaluation/psnr(aa, a)/psnr") == [20]


def test_what_goes_on_within_a_second_is_read_after_what_was(run: Path, tmp_path: Path) -> None:
    """TensorBoard reads files in the order of their names: the second, then the process, whose number may be less."""
    out = RunFolder(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("tensorboard")))
    for _ in range(2):
        (tracker,) = make(("tensorboard",))
        tracker.open(out, 0)
        tracker.close()
    names = [path.name for path in (out.path / "tensorboard").iterdir()]
    assert len({name.split(".")[3] for name in names}) == len(names) == 2, names


CELLS = ("shared=0/seed-0", "shared=1/seed-0")


def test_the_cells_of_an_ablation_are_runs_of_one_log(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("ablate", TINY, "width=2", "--checkpoint-every", 6, "--out", out)
    answer = unitkit(*words, "shared=0,1", "--track", "tensorboard")
    assert answer.status == 0, answer
    cell = out / CELLS[1]
    shutil.rmtree(cell / "checkpoints/step-00000012")  # as if the ablation had been killed
    (cell / "metrics.json").unlink()
    answer = unitkit(*words, "shared=0,1,2")  # which tracks what it tracked
    assert answer.status == 0 and "1 of 3 cells are done already" in answer.out, answer
    multiplexer = pytest.importorskip("tensorboard.backend.event_processing.event_multiplexer")
    found = multiplexer.EventMultiplexer().AddRunsFromDirectory(str(out)).Reload()
    assert set(found.Runs()) == {f"{each}/tensorboard" for each in (*CELLS, "shared=2/seed-0")}
    for name in found.Runs():
        row = RunFolder(out / name).path.parent
        assert [each.step for each in found.Scalars(name, "loss/generator/l1(aba, a)")] == [1, 10, 12]
        assert [each.value for each in found.Scalars(name, "loss/generator/l1(aba, a)")] == pytest.approx(
            [each["generator/l1(aba, a)"] for each in RunFolder(row).stats()], rel=1e-6
        )
        assert [each.step for each in found.Scalars(name, "evaluation/psnr(aa, a)/psnr")] == [12]
        assert [each.step for each in found.GetAccumulator(name).Images("samples")] == [12]
    assert [hyperparameters(found.GetAccumulator(f"{each}/tensorboard"))["shared"] for each in CELLS] == [0, 1]


def hyperparameters(found: Any) -> dict[str, Any]:
    """Those that TensorBoard has of a run."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    name = "_hparams_/session_start_info"
    data = HParamsPluginData.FromString(found.SummaryMetadata(name).plugin_data.content)
    return {key: getattr(each, each.WhichOneof("kind")) for key, each in data.session_start_info.hparams.items()}


def test_knobs_are_hyperparameters(run: Path) -> None:
    found = hyperparameters(events(run))
    assert (found["lr"], found["recipe"], found["seed"], found["augment"]) == (0.002, "tiny", 0, True)


def test_an_ablation_refuses_an_unknown_tracker(tmp_path: Path) -> None:
    answer = unitkit("ablate", TINY, "shared=0,1", "--track", "wandd", "--out", tmp_path / "out")
    one_line(answer, "unknown tracker 'wandd'", "Did you mean 'wandb'?")
    assert not (tmp_path / "out").exists()


def test_an_unknown_tracker_is_refused_before_the_training(tmp_path: Path) -> None:
    answer = unitkit("train", TINY, "--track", "tensorbord", "--out", tmp_path / "run")
    one_line(answer, "unknown tracker 'tensorbord'", "Did you mean 'tensorboard'?")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "package"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")])
def test_a_missing_package_is_named(name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, f"unitkit.trackers.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)  # what makes its import fail
    answer = unitkit("train", TINY, "--track", f"tensorboard,{name}", "--out", tmp_path / "run")
    one_line(answer, f"the tracker '{name}' needs a package", "pip install 'unitkit[track]'")
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_is_named_twice_is_one() -> None:
    assert len(make(["tensorboard", "tensorboard"])) == 1


def test_a_folder_with_events_but_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run" / "tensorboard").mkdir(parents=True)
    (tmp_path / "run" / "tensorboard" / "events").write_text("")
    one_line(unitkit("train", TINY, "--out", tmp_path / "run"), "holds tensorboard but no run.json")


def test_only_the_first_rank_tracks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tracker,) = make(["tensorboard"])
    monkeypatch.setattr("unitkit.system.dist.rank", lambda: 1)
    nothing: Any = None  # of which another rank reads nothing
    tracker.start(nothing)
    tracker.after_step(nothing, {})
    tracker.finish(nothing)
    tracker.after_evaluation(nothing, {})
    assert tracker.writer is None  # type: ignore[attr-defined]


class Service:
    """What stands for wandb, and for a run of it whose server has steps up to 9."""

    Error, Settings, Image, step = RuntimeError, SimpleNamespace, str, 10

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.rows: list[int] = []
        self.summary: dict[str, float] = {}

    def init(self, **words: Any) -> Service:
        self.begun.append(words)
        return self

    def log(self, values: dict[str, Any], step: int) -> None:
        self.rows.append(step)

    def finish(self, exit_code: int) -> None:
        pass


def test_wandb_is_told_of_a_cell_s_group_and_of_no_step_twice(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service()
    monkeypatch.setitem(sys.modules, "wandb", service)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, "unitkit.trackers.wandb", raising=False)
    (tracker,) = make(["wandb"])
    del sys.modules["unitkit.trackers.wandb"]
    for place in ("shared/shared=1/seed-0", "alone"):
        (tmp_path / place).mkdir(parents=True)
        shutil.copy(trained / "run.json", tmp_path / place)
    (tmp_path / "shared/ablation.json").write_text("{}")
    tracker.open(RunFolder(tmp_path / "alone"), 0)
    tracker.open(RunFolder(tmp_path / "shared/shared=1/seed-0"), 6)
    alone, cell = service.begun
    assert (alone["name"], alone["group"], alone["resume"]) == ("alone", None, None)
    assert (cell["name"], cell["group"], cell["resume"]) == ("shared=1/seed-0", "shared", "allow")
    assert cell["id"] != alone["id"] and cell["config"]["width"] == 4
    for step in (7, 9, 10, 12):
        tracker.numbers(step, {"loss": 1.0})
    assert service.rows == [10, 12]
    tracker.kind = "evaluation"
    tracker.numbers(9, {"psnr": 20.0})
    assert service.rows == [10, 12] and service.summary == {"psnr": 20.0}


def test_wandb_offline_keeps_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path))
    out = tmp_path / "run"
    answer = unitkit("train", TINY, "steps=2", "--track", "wandb", "--out", out)
    assert answer.status == 0, answer.err
    name = (out / "wandb" / "id").read_text()
    answer = unitkit("train", "--resume", "--out", out, "steps=3")
    assert answer.status == 0, answer.err
    assert (out / "wandb" / "id").read_text() == name
    kept = sorted((out / "wandb").glob("offline-run-*"))
    assert len(kept) == 2 and all(each.name.endswith(name) for each in kept)
    first, second = (told(each / f"run-{name}.wandb") for each in kept)
    stats = {row["step"]: row for row in RunFolder(out).stats()}
    for rows, numbers in (first, [1, 2]), (second, [3]):
        assert [step for step, row in rows.items() if "loss/generator/l1(aba, a)" in row] == numbers
        for step in numbers:
            assert rows[step]["loss/generator/l1(aba, a)"] == stats[step]["generator/l1(aba, a)"]
    assert first[2]["samples._type"] == "image-file" and "evaluation/psnr(aa, a)/psnr" in first[2]
    assert len(list(kept[0].rglob("*.png"))) == 1


def told(file: Path) -> dict[int, dict[str, Any]]:
    """What a file of an offline run says of each step."""
    from wandb.proto import wandb_internal_pb2

    rows = {}
    for data in records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            rows[record.history.step.num] = items
    return rows


def records(data: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format: blocks of 32 KiB, of pieces with a header of 7 bytes."""
    place, whole = 7, b""  # behind the file's own header
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the only piece, or the last
            yield whole
            whole = b""
