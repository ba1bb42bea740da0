"""Images that cannot be decoded: all named before training, skipped as a function of the step, kept in the run."""

from __future__ import annotations

import dataclasses
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import TINY, Moment, one_line, run, unitkit
from PIL import Image
from safetensors.torch import load_file
from test_dist import two_ranks

from unitkit import Recipe, UserError, load_recipe, open_data, psnr
from unitkit.ablation.folder import last_evaluation
from unitkit.ablation.grid import read_grid
from unitkit.ablation.workers import Job, run_job
from unitkit.commands.ablate import _check, train_cell
from unitkit.data import Data, batches, cache
from unitkit.data.batches import Batches
from unitkit.data.cache import Decoded
from unitkit.data.domains import make_domains
from unitkit.data.files import check
from unitkit.data.files.bad import BadImage, BadImages
from unitkit.data.files.check import bad_images
from unitkit.data.sampler import indices
from unitkit.data.sources import ImageArray, ImageFiles
from unitkit.hooks import Call, Checkpoints, Training
from unitkit.recipe import Watch
from unitkit.recipe_file import read_recipe_file
from unitkit.runs.folder import RunFolder
from unitkit.runs.image_check import SUDDEN
from unitkit.runs.options import RunOptions
from unitkit.system import dist
from unitkit.trainer import Trainer

N = 8


def photos(root: Path, suffix: str = "jpg", train: int = N, test: int = 4) -> Path:
    """Two labels, x and y, of noise in 16x16."""
    draw = np.random.default_rng(0)
    for split, count in ("train", train), ("test", test):
        for label in "xy":
            (root / split / label).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                pixels = draw.integers(0, 255, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{i:02}.{suffix}", quality=100)
    return root


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "text": lambda data: b"<html>404</html>",
    "a cut header": lambda data: data[:9],
    "cut": lambda data: data[: -len(data) // 4],
}


def damage(path: Path, how: str = "cut") -> Path:
    path.write_bytes(DAMAGE[how](path.read_bytes()))
    return path


def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the data larger than the memory: one image of each split is looked at before training."""
    monkeypatch.setattr(batches, "memory_limit", lambda: 0)
    monkeypatch.setattr(check, "SAMPLE", 1)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = RunFolder(folder).latest()
    return load_file(newest / "model.safetensors") | load_file(newest / "training.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def listed(folder: Path) -> dict[str, int]:
    """The run's bad images, and the step from which each is known."""
    found = json.loads((folder / "bad_images.json").read_text())["images"]
    return {
        f"{each['split']}/{Path(each['name']).parent.name}/{Path(each['name']).name}": each["step"] for each in found
    }


def train(data: Path, folder: Path, *words: object) -> Any:
    return unitkit("train", TINY, f"data={data}", "--out", folder, *words)


def seen_at(step: int, domain: int = 0) -> int:
    """A training image that this step of batch 2 is the first to see."""
    return int(indices(step, seed=0, domain=domain, n=N, batch=2)[0])


# Before the first step


def test_all_bad_images_are_named_together_before_training(tmp_path: Path) -> None:
    data = photos(tmp_path / "data")
    bad = [damage(data / f"train/x/{i:02}.jpg", how) for i, how in enumerate(DAMAGE)]
    others = [damage(data / "test/x/01.jpg"), damage(data / "train/y/03.jpg", "empty")]
    (tmp_path / "run").mkdir()
    answer = train(data, tmp_path / "run")
    one_line(
        answer, "6 images cannot be decoded", "and 1 more", "--bad-images skip", str(tmp_path / "run/bad_images.json")
    )
    assert {Path(name).name for name in listed(tmp_path / "run")} == {path.name for path in [*bad, *others]}
    assert not (tmp_path / "run/run.json").exists()
    for path in bad[2:]:
        path.unlink()
    answer = train(data, tmp_path / "run")
    one_line(answer, "4 images cannot be decoded", *(f"'{path}'" for path in [*bad[:2], *others]))
    for path in [*bad[:2], *others]:
        path.unlink()
    # The command that was refused works as it stands, and no old list misleads.
    assert train(data, tmp_path / "run", "steps=1").status == 0
    assert not (tmp_path / "run/bad_images.json").exists()


def test_a_jpeg_without_its_last_bytes_trains_with_a_note(tmp_path: Path) -> None:
    data = photos(tmp_path / "data")
    for path in data / "train/x/03.jpg", data / "test/y/01.jpg":
        path.write_bytes(path.read_bytes()[:-2])
    answer = train(data, tmp_path / "run", "steps=1")
    assert answer.status == 0, answer.err
    assert "without their last bytes" in answer.out and "train/x/03.jpg" in answer.out and "test/y/01" in answer.out


@pytest.mark.parametrize("policy", [(), ("--bad-images", "stop")])
def test_stop_is_the_default_before_training(tmp_path: Path, policy: tuple[str, ...]) -> None:
    bad = damage(photos(tmp_path / "data") / "train/y/02.jpg")
    one_line(train(tmp_path / "data", tmp_path / "run", *policy), "an image cannot be decoded", f"'{bad}'")


def test_another_word_is_refused(tmp_path: Path) -> None:
    for command in "train", "ablate":
        answer = unitkit(command, TINY, "--out", tmp_path / "run", "--bad-images", "skp")
        one_line(answer, "'skp'", "Did you mean 'skip'?")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("how", ["empty", "cut"])
def test_a_domain_of_bad_images_is_refused(tmp_path: Path, split: str, how: str) -> None:
    data = photos(tmp_path / "data")
    for path in (data / split / "x").iterdir():
        damage(path, how)
    one_line(train(data, tmp_path / "run", "--bad-images", "skip"), "none of the", "'x'")


def test_of_a_large_set_a_sample_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = photos(tmp_path / "data")
    large(monkeypatch)
    monkeypatch.setattr(check, "SAMPLE", 4)
    answer = train(data, tmp_path / "run", "steps=1")
    assert "the 8 train images of 'x' do not fit in memory: 4 of them" in answer.out, answer
    damage(data / "train/x/01.jpg")
    assert train(data, tmp_path / "unseen", "steps=1").status == 0
    damage(data / "train/x/01.jpg", "empty")  # which its header tells
    damage(data / "train/x/04.jpg")
    one_line(train(data, tmp_path / "seen", "steps=1"), "2 images", "01.jpg", "04.jpg")


def test_nothing_is_decoded_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = ImageFiles.load

    def counted(self: ImageFiles, i: int) -> np.ndarray:
        loaded.append(self.name(i))
        return load(self, i)

    monkeypatch.setattr(ImageFiles, "load", counted)
    made = Batches(open_data(str(photos(tmp_path)), size=16), 3, seed=0)
    told: list[tuple[int, int]] = []
    assert bad_images(made, 0, lambda done, total: told.append((done, total))) == []
    assert told[-1] == (24, 24)
    for step in range(9):
        made.batch(step)
    assert len(loaded) == len(set(loaded)) == 24


def test_what_is_no_file_needs_no_look() -> None:
    array = ImageArray(np.zeros((6, 8, 8), np.uint8), "zeros")
    data = Data("zeros", (8, 8), make_domains((label, array, array) for label in "xy"))
    for each in data, open_data("portraits", size=16):
        assert bad_images(Batches(each, 2, seed=0), 0, lambda done, total: pytest.fail("looked")) == []


def test_ranks_share_the_look(tmp_path: Path) -> None:
    data = photos(tmp_path)
    for name in "train/x/00.jpg", "train/x/05.jpg", "test/y/01.jpg":
        damage(data / name)
    parts = [bad_images(Batches(open_data(str(data), size=16), 2, seed=0, rank=rank, world=2)) for rank in (0, 1)]
    assert all(parts) and not {bad.place for bad in parts[0]} & {bad.place for bad in parts[1]}
    assert {bad.place for part in parts for bad in part} == {("a", "train", 0), ("a", "train", 5), ("b", "test", 1)}


def test_ctrl_c_leaves_nothing_to_wait_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def slow(self: ImageFiles, i: int) -> np.ndarray:
        calls.append(i)
        time.sleep(0.01)
        if i == 0:
            raise KeyboardInterrupt
        return np.zeros((3, 16, 16), np.uint8)

    images = open_data(str(photos(tmp_path, train=100)), size=16).domains["a"].train
    monkeypatch.setattr(ImageFiles, "load", slow)
    for look in Decoded(images, 10**9).broken, lambda rows: cache.broken(images, rows):
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            look(range(100))
        time.sleep(0.05)
        assert len(calls) < 60


def test_ctrl_c_while_looking_ends_at_once(tmp_path: Path) -> None:
    data = photos(tmp_path / "data", train=60)
    moments = [Moment("unitkit.data.cache:_errors", 2, (signal.SIGINT,))]
    words = (TINY, f"data={data}", "--out", tmp_path / "run")
    answer = run(tmp_path / "log", "train", *words, moments=moments, terminal=80)
    assert answer.status == 130 and answer.err == "stopped\n", answer
    assert not (tmp_path / "run/run.json").exists()
    answer = run(tmp_path / "log", "train", *words, "steps=1", terminal=80)
    assert answer.status == 0 and "looking at every image" in answer.out, answer


def test_an_image_that_was_cancelled_is_decoded_when_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = open_data(str(photos(tmp_path)), size=16).domains["a"].train
    decoded = Decoded(images, 10**9)
    load = ImageFiles.load
    monkeypatch.setattr(ImageFiles, "load", lambda self, i: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        decoded.broken(range(N))
    monkeypatch.setattr(ImageFiles, "load", load)
    assert decoded.broken(range(N)) == {} and decoded.ready.all()


# Replaced, as a function of the step


def known(*places: tuple[str, str, int, int]) -> list[BadImage]:
    return [BadImage(letter, split, i, f"files[{i}]", f"'{i}' is bad", step) for letter, split, i, step in places]


def arrays(n: int = 6) -> Data:
    array = ImageArray(np.arange(n, dtype=np.uint8)[:, None, None] * np.ones((8, 8), np.uint8), "files")
    return Data("files", (8, 8), make_domains((label, array, array) for label in "xy"))


def test_the_next_good_image_takes_a_bad_ones_place() -> None:
    bad = BadImages(
        arrays(), known(("a", "train", 2, 0), ("a", "train", 3, 7), ("a", "train", 5, 0), ("b", "test", 0, 0))
    )
    order = np.arange(6)
    assert bad.good("a", order, 0).tolist() == [0, 1, 3, 3, 4, 0]
    assert bad.good("a", order, 6).tolist() == [0, 1, 3, 3, 4, 0]
    assert bad.good("a", order, 7).tolist() == [0, 1, 4, 4, 4, 0]
    assert bad.good("b", order, 7).tolist() == order.tolist()
    for i in range(6):
        bad.add(known(("a", "train", i, 9))[0])
    assert bad.good("a", order, 8).tolist() == [0, 1, 4, 4, 4, 0]  # what is known later changes nothing before
    with pytest.raises(UserError, match="none of the 6 training images of 'x'"):
        bad.good("a", order, 9)


def test_the_list_survives_and_forgets_what_does_not_fit(tmp_path: Path) -> None:
    bad = BadImages(arrays(), known(("a", "train", 2, 4), ("b", "test", 1, 0)))
    run = RunFolder(tmp_path)
    run.keep_bad_images(bad.to_json())
    again = run.bad_images()
    assert BadImages(arrays(), again).found == bad.found
    assert set(BadImages(arrays(2), again).found) == {("b", "test", 1)}
    other = dataclasses.replace(again[0], name="another[2]")
    assert not BadImages(arrays(), [other, dataclasses.replace(other, letter="z")])
    for value in ([], {}, {"images": [{}]}, {"images": 3}, None):
        (tmp_path / "bad_images.json").write_text(json.dumps(value))
        with pytest.raises(UserError, match=r"bad_images\.json: .*delete it to check all anew"):
            run.bad_images()


def test_classes_follow_the_image_that_is_shown() -> None:
    data = arrays()
    domain = dataclasses.replace(data.domains["a"], train_classes=np.arange(6))
    data = dataclasses.replace(data, domains={**data.domains, "a": domain})
    made = Batches(data, 6, seed=0, flip=False, bad=BadImages(data, known(("a", "train", 4, 1))))
    for step in range(3):
        batch = made.batch(step)
        shown = ((batch["a"][:, 0, 0, 0] + 1) * 127.5).round().long()
        assert shown.tolist() == batch["label:a"].tolist()
        assert (4 in shown.tolist()) == (step == 0)


def test_skipping_is_a_function_of_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found before training or when needed, in one go or resumed: the same weights."""
    data = photos(tmp_path / "data")
    for i in seen_at(1), seen_at(3):
        damage(data / f"train/x/{i:02}.jpg")
    words = ("steps=6", "--checkpoint-every", 2)
    assert train(data, tmp_path / "known", *words, "--bad-images", "skip").status == 0
    large(monkeypatch)
    answer = train(data, tmp_path / "later", *words)
    assert answer.status == 0, answer.err
    assert f"{seen_at(3):02}.jpg' is damaged" in answer.out and "from step 4 on" in answer.out
    assert set(listed(tmp_path / "later").values()) == {1, 3}
    assert set(listed(tmp_path / "known").values()) == {0}
    assert train(data, tmp_path / "parts", *words[1:], "steps=2").status == 0
    for steps in 4, 6:
        assert unitkit("train", "--resume", "--out", tmp_path / "parts", f"steps={steps}", *words[1:]).status == 0
    assert same(weights(tmp_path / "later"), weights(tmp_path / "parts"))
    assert same(weights(tmp_path / "later"), weights(tmp_path / "known"))
    assert listed(tmp_path / "parts") == listed(tmp_path / "later")


def test_a_resumed_run_uses_its_list_where_a_file_was_mended_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = photos(tmp_path / "data")
    path = data / f"train/x/{seen_at(1):02}.jpg"
    whole = path.read_bytes()
    damage(path)
    large(monkeypatch)
    assert train(data, tmp_path / "whole", "steps=9").status == 0
    assert train(data, tmp_path / "parts", "steps=3").status == 0
    path.write_bytes(whole)
    assert unitkit("train", "--resume", "--out", tmp_path / "parts", "steps=9").status == 0
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_stop_ends_a_training_that_runs_with_its_steps_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = photos(tmp_path / "data")
    bad = data / f"train/x/{seen_at(2):02}.jpg"
    whole = bad.read_bytes()
    damage(bad)
    large(monkeypatch)
    words = ("steps=5", "--bad-images", "stop")
    one_line(train(data, tmp_path / "run", *words), f"'{bad}'", "--bad-images skip")
    assert RunFolder(tmp_path / "run").latest().name == "step-00000002"
    one_line(unitkit("train", "--resume", "--out", tmp_path / "run"), f"'{bad}'")  # the run's own word holds
    bad.write_bytes(whole)
    answer = unitkit("train", "--resume", "--out", tmp_path / "run")
    assert answer.status == 0 and "the images differ from those" in answer.out
    assert train(data, tmp_path / "other", *words).status == 0
    assert same(weights(tmp_path / "run"), weights(tmp_path / "other"))


def test_a_disk_that_goes_away_is_no_bad_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = photos(tmp_path / "data", train=4 * SUDDEN)
    large(monkeypatch)
    for i in range(1, 4 * SUDDEN, 3):
        damage(data / f"train/x/{i:02}.jpg")
    answer = train(data, tmp_path / "run", "steps=60")
    one_line(answer, f"{SUDDEN + 1} images of 'x' could not be read since the training began", "resume")
    RunFolder(tmp_path / "run").latest()


def test_images_that_are_gone_at_a_resume_are_not_taken_for_bad(tmp_path: Path) -> None:
    """One disk of two is not mounted, say: many are refused, and the run's list stays as it was; a few are skipped."""
    data = photos(tmp_path / "data", train=3 * SUDDEN)
    assert train(data, tmp_path / "run", "steps=1").status == 0
    for i in range(2 * SUDDEN):
        damage(data / f"train/x/{i:02}.jpg", "empty")
    resume = ("train", "--resume", "--out", tmp_path / "run", "steps=2")
    for _ in range(2):
        one_line(unitkit(*resume), f"{2 * SUDDEN} images cannot be decoded", f"and {2 * SUDDEN - 5} more")
        assert not (tmp_path / "run/bad_images.json").exists()
    photos(tmp_path / "data", train=2 * SUDDEN - 1)
    answer = unitkit(*resume)
    assert answer.status == 0 and "an image cannot be decoded" in answer.out, answer
    assert listed(tmp_path / "run") == {f"train/x/{2 * SUDDEN - 1}.jpg": 1}


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed")
def test_ranks_agree(tmp_path: Path) -> None:
    data = photos(tmp_path / "data")
    for name in "train/x/00.jpg", "train/x/05.jpg", "train/y/02.jpg", "test/y/01.jpg":
        damage(data / name)
    words = (TINY, f"data={data}", "steps=4", "--out", tmp_path / "run")
    for answer in (rank.wait() for rank in two_ranks(tmp_path / "stop", *words)):
        one_line(answer, "4 images cannot be decoded")
    answers = [rank.wait() for rank in two_ranks(tmp_path / "skip", *words, "--bad-images", "skip")]
    assert [answer.status for answer in answers] == [0, 0], answers
    assert len(listed(tmp_path / "run")) == 4
    first, second = (load_file(tmp_path / "skip" / f"rank{rank}.safetensors") for rank in (0, 1))
    assert same(first, second)


def test_what_another_rank_finds_is_listed_by_the_next_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And said once: each rank decodes other images than the first."""
    data, warned = photos(tmp_path / "data"), list[str]()
    options = RunOptions(tmp_path / "run", device="cpu", bad_images="skip")
    trainer = Trainer(recipe(data, steps=1), options, warn=warned.append)
    theirs = BadImage("a", "train", 3, str(data / "train/x/03.jpg"), "03.jpg is cut off", 0)
    monkeypatch.setattr(dist, "world", lambda: 2)
    monkeypatch.setattr(dist, "gather", lambda found: [*found, theirs])
    trainer.done = 1
    for _ in range(2):
        Checkpoints(1).after_step(trainer, {})
    assert [bad.name for bad in trainer.run.bad_images()] == [theirs.name]
    assert len(warned) == 1 and "03.jpg" in warned[0]


# Held-out images


def test_bad_held_out_images_are_left_out_and_counted(tmp_path: Path) -> None:
    data = photos(tmp_path / "data")
    damage(data / "test/x/01.jpg")
    damage(data / "test/y/00.jpg", "empty")
    damage(data / "train/y/00.jpg", "text")
    one_line(train(data, tmp_path / "stop"), "3 images")
    folder = tmp_path / "run"
    assert train(data, folder, "steps=2", "--bad-images", "skip").status == 0
    entry = RunFolder(folder).evaluations()[0]
    assert entry["metrics"]["psnr(aa, a)"]["n"] == {"aa": 3, "a": 3}
    assert entry["left_out"] == {"a": 1, "b": 1} and entry["data"] == RunFolder(folder).record["data"]
    # The metric that reads training images, too, and a measurement afterwards.
    answer = unitkit("evaluate", folder, "--metrics", "psnr(aa, a), attribute_success(ab, steps=5)")
    assert answer.status == 0, answer.err
    (entry,) = RunFolder(folder).evaluations()
    assert entry["metrics"]["attribute_success(ab, steps=5)"]["n"] == {"ab": 3, "a": 3}
    assert "left out: 1 of 'x' and 1 of 'y'" in answer.out
    other = photos(tmp_path / "other")
    damage(other / "train/x/02.jpg", "empty")  # which nothing reads
    bad = damage(other / "test/x/02.jpg", "empty")
    one_line(unitkit("evaluate", folder, "--data", other), f"'{bad}'")


def test_of_aligned_data_a_scene_is_left_out_as_a_whole(tmp_path: Path) -> None:
    data = open_data(str(photos(tmp_path, "png")), size=16, aligned=True)
    assert data.truth
    left = BadImages(data, [BadImage("b", "test", 1, str(tmp_path / "test/y/01.png"), "bad")]).without()
    assert left.truth
    for letter, path in ("a", "ab"), ("b", "ba"):
        kept = left.domains[letter].test
        assert [Path(kept.name(i)).stem for i in range(len(kept))] == ["00", "02", "03"]
        truths = [left.truth(path, i).tolist() for i in range(3)]
        assert truths == [data.truth(path, i).tolist() for i in (0, 2, 3)]
    assert left.left_out == {"a": 1, "b": 1} and left.fingerprint() == data.fingerprint()


# From Python, and in ablations


def recipe(data: Path, **knobs: Any) -> Recipe:
    return load_recipe(TINY, data=str(data), **knobs)


def test_from_python(tmp_path: Path) -> None:
    data = photos(tmp_path / "data")
    damage(data / "train/x/02.jpg")
    with pytest.raises(UserError, match=r"02\.jpg"):
        Trainer(recipe(data), RunOptions(tmp_path / "run"))
    with pytest.warns(UserWarning, match=r"02\.jpg"):
        trainer = Trainer(recipe(data, steps=1), RunOptions(tmp_path / "run", device="cpu", bad_images="skip"))
    assert trainer.fit()
    with pytest.raises(UserError, match="Did you mean 'stop'"):
        Trainer(recipe(data), RunOptions(tmp_path / "other", bad_images="stopp"))


def test_a_cell_of_an_ablation_skips_too(tmp_path: Path) -> None:
    data = photos(tmp_path / "data")
    damage(data / "train/x/02.jpg", "empty")
    damage(data / "test/x/02.jpg")
    file = read_recipe_file(TINY)
    grid = read_grid(file, [f"data={data}", "steps=1,2"])
    with pytest.raises(UserError, match=r"an image cannot be decoded.*02\.jpg"):
        _check(file, grid, grid.settings[0], None)  # before any cell runs
    _check(file, grid, grid.settings[0], "skip")
    for policy, fails in ("stop", True), ("skip", False):
        knobs = {**grid.fixed, "steps": 1}
        job = Job(str(TINY), TINY, knobs, RunOptions(tmp_path / policy, seed=0, device="cpu", bad_images=policy))
        assert bool(run_job(job, train_cell)) == fails
        assert (last_evaluation(RunFolder(job.out)) is None) == fails  # by which the ablation knows what is done


def test_the_list_follows_an_image_to_another_place(tmp_path: Path) -> None:
    """Files of one name in many folders, as videos have them: what came before them shifts all places."""
    data = tmp_path / "data"
    for split, label, folder in ((s, x, f) for s in ("train", "test") for x in "xy" for f in ("d1", "d2", "d3", "d4")):
        photos(tmp_path / "one", "png", 1, 1)
        (data / split / label / folder).mkdir(parents=True)
        (tmp_path / f"one/{split}/{label}/00.png").rename(data / split / label / folder / "frame.png")
    for split in "train", "test":
        damage(data / split / "x/d3/frame.png")
    folder = tmp_path / "run"
    assert train(data, folder, "steps=2", "--bad-images", "skip").status == 0
    for split in "train", "test":
        (data / split / "x/d0").mkdir()
        Image.new("RGB", (16, 16)).save(data / split / "x/d0/frame.png")
    assert unitkit("train", "--resume", "--out", folder, "steps=3").status == 0
    found = json.loads((folder / "bad_images.json").read_text())["images"]
    assert sorted((each["split"], each["index"]) for each in found) == [("test", 3), ("train", 3)]
    assert all("d3" in each["name"] for each in found)
    assert RunFolder(folder).evaluations()[-1]["left_out"] == {"a": 1, "b": 0}


@pytest.mark.parametrize("policy", ["skip", None, "stop"])
@pytest.mark.parametrize("how", ["gone", "cut"])
def test_a_held_out_image_that_goes_bad_meanwhile(tmp_path: Path, policy: str | None, how: str) -> None:
    data, folder = photos(tmp_path / "data"), tmp_path / "run"
    warned: list[str] = []
    ours = recipe(data, steps=4)
    ours = dataclasses.replace(ours, sample_every=1, watch=Watch([psnr("aba", "a")], every=1))
    trainer = Trainer(ours, RunOptions(folder, device="cpu", bad_images=policy), warn=warned.append)

    def spoil(training: Training, losses: object) -> None:
        path = data / "test/x/01.jpg"
        if training.done == 2:
            path.unlink() if how == "gone" else damage(path)

    trainer.hooks.insert(0, Call(spoil))
    if policy == "stop":
        with pytest.raises(UserError, match=r"01\.jpg"):
            trainer.fit()
        assert (folder / "checkpoints/step-00000002").is_dir()
        return
    assert trainer.fit() and len(warned) == 1 and "01.jpg" in warned[0] and "left out" in warned[0]
    entry = trainer.evaluate()
    assert entry["metrics"]["psnr(aa, a)"]["n"]["a"] == 3 and entry["left_out"] == {"a": 1, "b": 0}
    assert [row["step"] for row in RunFolder(folder).watched()] == [1, 2, 3, 4]
    assert len(list((folder / "samples").iterdir())) == 4


def test_a_metric_that_needs_more_than_are_left_is_refused_before_training(tmp_path: Path) -> None:
    data = photos(tmp_path / "data", test=2)
    damage(data / "test/x/00.jpg")
    two = dataclasses.replace(psnr("aba", "a"), fewest=2)
    for ours in {"evaluate": [two]}, {"watch": Watch([two])}:
        short = dataclasses.replace(recipe(data), **ours)  # type: ignore[arg-type]
        with pytest.raises(UserError, match="at least 2 images of 'aba', and there is 1"):
            Trainer(short, RunOptions(tmp_path / "run", device="cpu", bad_images="skip"), warn=lambda line: None)
        assert not (tmp_path / "run/run.json").exists()


def test_too_few_left_since_are_refused_before_a_training_goes_on(tmp_path: Path) -> None:
    data, folder = photos(tmp_path / "data", test=2), tmp_path / "run"
    two = dataclasses.replace(psnr("aba", "a"), fewest=2)
    ours = dataclasses.replace(recipe(data), evaluate=[two], steps=1)
    assert Trainer(ours, RunOptions(folder, device="cpu", bad_images="skip")).fit()
    damage(data / "test/x/00.jpg")
    longer = dataclasses.replace(ours, steps=2)
    with pytest.raises(UserError, match="at least 2 images of 'aba', and there is 1"):
        Trainer(longer, RunOptions(folder, device="cpu", bad_images="skip", resume=True), warn=lambda line: None)
