"""Whether a process that is killed loses or falsifies anything: kills commands at random moments, and runs them again.

    python benchmarks/kills.py --count 200 --seed 0

Trainings, evaluations, ablations and translations are run once untouched. Then they are run in forked processes that
get a signal (mostly SIGKILL) at a moment drawn from the time the command took, run again, perhaps killed again, and let
finish. After each kill, what was whole before must still be there and readable; at the end every file must be as the
untouched command left it: tensors, states, statistics and images bit for bit, figures to the last digit, and no other
file, but the sample grid of a step where a signal stopped the training. Prints the counts by command; the status is 1
where something was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from forked import become
from PIL import Image

import unitkit
from unitkit import load_recipe
from unitkit.check import check
from unitkit.commands.manifest import Manifest
from unitkit.runs.folder import RunFolder
from unitkit.runs.schema import TRANSLATIONS
from unitkit.runs.stored import read_lines

PATIENCE = 300.0  # seconds until a command that nobody kills hangs
SIGNALS = [signal.SIGKILL] * 6 + [signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
TINY = ("unit_faces", "size=16", "width=4", "width_d=4", "layers=2")
TRAINING = (
    *("train", *TINY, "steps=40", "--checkpoint-every", "5", "--sample-every", "7", "--keep", "3"),
    *("--watch", "psnr(aba,a)", "--watch-every", "9"),
)
EVALUATION = ("evaluate", "RUN", "--metrics", "psnr(ab,b), l1(aba,a), ssim(aa,a), diversity(ab)", "--seed", "3")
ABLATION = ("ablate", *TINY, "steps=8", "shared=0,1", "--checkpoint-every", "2")
TRANSLATION = ("translate", "RUN", "ab", "images", "out")
# What tells when, how fast and in how many parts, and so differs from one run to the next.
PASSING = {
    *("measured", "seconds", "started", "peak_memory", "folder", "command", "path", "commit", "history"),
    *("id", "run", "files"),
}


def start(words: Sequence[str], folder: Path) -> int:
    """Run a command line in a process, forked from this one and the first of its group, that prints to folder/log."""

    def as_from_a_terminal() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        become(words, folder, log, prepare=as_from_a_terminal)
    with suppress(OSError):  # as it does itself, perhaps later than a signal to its group is sent
        os.setpgid(child, child)
    return child


def ended(child: int, seconds: float) -> int | None:
    """Its status within so many seconds; None where it goes on."""
    until = time.monotonic() + seconds
    while True:
        done, how = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(how)
        if time.monotonic() >= until:
            return None
        time.sleep(0.002)


def complete(words: Sequence[str], folder: Path) -> str:
    """Run a command to its end. What was wrong with it, or ""."""
    for _ in range(60):
        size = (folder / "log").stat().st_size if (folder / "log").exists() else 0
        child = start(words, folder)
        status = ended(child, PATIENCE)
        if status is None:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"it hung for {PATIENCE:.0f} s"
        if status == 0:
            return ""
        said = (folder / "log").read_bytes()[size:].decode("utf-8", "replace")
        if "is running in" not in said:  # by a worker that is about to see that its ablation is gone
            return f"status {status} when it was run again: {said[-2000:]}"
        time.sleep(0.5)
    return "what its killed process left goes on for half a minute"


def contents(folder: Path) -> dict[str, Any]:
    """What every file of a folder holds, less what differs from one run to the next."""
    return {
        str(path.relative_to(folder)): held(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".lock", "log", "log.txt")
    }


def held(path: Path) -> Any:
    """What a file holds; of pages and plots, which tell the time, that they are there."""

    def lasting(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: lasting(each) for name, each in value.items() if name not in PASSING}
        return [lasting(each) for each in value] if isinstance(value, list) else value

    if path.name == Manifest.NAME:  # how each output was made last; what else it says of a file are times
        return {each["output"]: each["by"] for each in read_lines(path, TRANSLATIONS) if each["line"] == "output"}
    if path.suffix == ".json":
        return lasting(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return [lasting(json.loads(line)) for line in path.read_text().splitlines()]
    if path.suffix in (".html", ".md", ".svg") or path.parent.name == "plots":
        return path.stat().st_size > 0
    return path.read_bytes()


def unlike(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """The files that differ, and of JSON the names."""

    def how(name: str) -> str:
        one, other = found.get(name), expected.get(name)
        if not (isinstance(one, dict) and isinstance(other, dict)):
            return name
        keys = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
        return f"{name} ({', '.join(keys)})"

    return sorted(how(name) for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


def less_stops(found: dict[str, Any], expected: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Without what a training leaves where a signal stops it, a checkpoint and a sample grid, and the older checkpoint
    of which that one took the place."""
    runs = set(map(steps_of, expected)) - {""}
    newest = {run: Path(max(name for name in expected if name.startswith(run))).parent for run in runs}

    def older(name: str) -> bool:
        return steps_of(name) in runs and Path(name).parent != newest[steps_of(name)]

    found = {name: each for name, each in found.items() if name in expected or not ("/samples/" in name or older(name))}
    return found, {name: each for name, each in expected.items() if name in found or not older(name)}


def steps_of(name: str) -> str:
    """The folder of checkpoints in which a file lies, or ""."""
    before, found, _ = name.partition("checkpoints/step-")
    return before + "checkpoints/" if found else ""


def run_kept(run: Path, before: dict[str, Any]) -> list[str]:
    """What a killed command lost of a run, whose files are not written any more but the newest."""
    if not (run / "run.json").exists():
        return [f"{name} is gone" for name in before if name.startswith("checkpoints")]
    kept = RunFolder(run)
    was = [name.split("/")[1] for name in before if name.startswith("checkpoints/") and "step-" in name]
    newest = kept.checkpoints.is_dir() and sorted(path.name for path in kept.checkpoints.glob("step-*"))
    if was and (not newest or newest[-1] < max(was)):
        return [f"the newest checkpoint is {newest}, and was {max(was)}"]
    try:
        if newest and kept.latest():
            unitkit.load(run)
        kept.stats()
        kept.watched()
        kept.evaluations()
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    return []


@dataclass(frozen=True)
class Kind:
    """A command, what stands in its folder first, and what must hold after a kill.

    Args:
        words: the command line.
        again: that with which it goes on, where it is another.
        given: makes the folder in which it runs.
        kept: what a kill lost or left that it must not, of the folder, from its contents before and the expected ones.
    """

    words: tuple[str, ...]
    again: tuple[str, ...]
    given: Callable[[Path], None]
    kept: Callable[[Path, dict[str, Any], dict[str, Any]], list[str]]


def kinds(first: Path) -> dict[str, Kind]:
    """The four commands; `first` holds a run and images."""

    def copy(folder: Path) -> None:
        shutil.copytree(first, folder, dirs_exist_ok=True)

    def training(folder: Path, before: dict[str, Any], _: dict[str, Any]) -> list[str]:
        inner = {name.removeprefix("run/"): each for name, each in before.items() if name.startswith("run/")}
        return run_kept(folder / "run", inner)

    def evaluation(folder: Path, before: dict[str, Any], _: dict[str, Any]) -> list[str]:
        lost = [
            name for name in unlike(contents(folder), before) if "metrics.json" not in name and "report" not in name
        ]
        lost = [name for name in lost if ".writing-" not in name]
        entries = before["RUN/metrics.json"]["evaluations"]
        found = held(folder / "RUN/metrics.json")["evaluations"]
        return lost + (["an evaluation that was there is gone"] if any(each not in found for each in entries) else [])

    def ablation(folder: Path, before: dict[str, Any], _: dict[str, Any]) -> list[str]:
        faults = []
        for cell in (folder / "abl").glob("*/seed-0"):
            place = f"abl/{cell.relative_to(folder / 'abl')}/"
            inner = {name.removeprefix(place): each for name, each in before.items() if name.startswith(place)}
            faults += run_kept(cell, inner)
        return faults

    def translation(folder: Path, before: dict[str, Any], expected: dict[str, Any]) -> list[str]:
        """Every output is the old one or the new one, and whole, and the manifest takes no old one for new."""
        found, manifest = contents(folder), f"out/{Manifest.NAME}"
        faults = [
            f"{name} is neither the old nor the new one"
            for name in before.keys() - {manifest}
            if ".writing-" not in name and (name not in found or found[name] not in (before[name], expected[name]))
        ]
        for row in read_lines(folder / manifest, TRANSLATIONS):
            name = f"out/{row.get('output')}"
            if row.get("by") == expected[manifest].get(row.get("output")) and found.get(name) != expected.get(name):
                status = (folder / name).stat()
                if row["written"] == [status.st_size, status.st_mtime_ns]:
                    faults.append(f"{name} is taken for the new one")
        return faults

    return {
        "train": Kind((*TRAINING, "--out", "run"), (*TRAINING, "--out", "run", "--resume"), lambda _: None, training),
        "evaluate": Kind(EVALUATION, EVALUATION, copy, evaluation),
        "ablate": Kind((*ABLATION, "--out", "abl"), (*ABLATION, "--out", "abl"), lambda _: None, ablation),
        "translate": Kind(TRANSLATION, TRANSLATION, copy, translation),
    }


def make_first(folder: Path) -> None:
    """A run, images of several formats and sizes, and what an earlier translation left."""
    folder.mkdir()
    fault = complete(("train", *TINY, "steps=3", "--out", "RUN"), folder)
    assert not fault, fault
    noise = np.random.default_rng(0)
    (folder / "images").mkdir()
    for number, suffix in enumerate(["png", "jpg", "bmp", "webp", "tif"] * 3):
        picture = Image.fromarray(noise.integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize((160 + number, 120))
        picture.save(folder / "images" / f"{number}.{suffix}")
    slide = np.asarray(picture.resize((1400, 1300)))
    tifffile.imwrite(folder / "images" / "slide.tif", slide, tile=(256, 256), photometric="rgb", compression="zlib")
    fault = complete(("translate", "RUN", "aba", "images", "out"), folder)
    assert not fault, fault
    (folder / "log").unlink()


def tried(
    kind: Kind, seconds: float, expected: dict[str, Any], folder: Path, draw: random.Random
) -> tuple[int, list[str]]:
    """Run a command, kill it up to three times, and let it finish. The kills, and what was wrong."""
    kind.given(folder)
    words, kills, faults, status = kind.words, 0, [], None
    for _ in range(draw.randint(1, 3)):
        before = contents(folder)
        child = start(words, folder)
        status = ended(child, draw.uniform(0, seconds))
        if status is None:
            number, whole = draw.choice(SIGNALS), draw.random() < 0.5
            kills += 1
            (os.killpg if whole else os.kill)(child, number)
            status = ended(child, 60)
            if status is None:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                faults.append(f"{number.name} did not end it within a minute")
            elif status not in (0, -number, 128 + number):
                faults.append(f"status {status} after {number.name}: {(folder / 'log').read_text()[-500:]}")
            if "Traceback" in (folder / "log").read_text():
                faults.append(f"a traceback after {number.name}: {(folder / 'log').read_text()[-2000:]}")
            faults += [f"after {number.name}: {each}" for each in kind.kept(folder, before, expected)]
            words = kind.again
        elif status:
            faults.append(f"status {status}: {(folder / 'log').read_text()[-2000:]}")
        if faults or status == 0:
            break
    if status != 0 and (fault := complete(words, folder)):
        faults.append(fault)
    else:
        faults += [f"{name} is not as without a kill" for name in unlike(*less_stops(contents(folder), expected))]
    return kills, faults


def main(words: Sequence[str] | None = None) -> int:
    """Kill, print. 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="of kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=["train", "evaluate", "ablate", "translate"])
    o = parser.parse_args(words)
    torch.set_num_threads(1)  # a sum's order, and so its last bits, depends on the number of threads
    check(load_recipe("unit_faces"))  # what torch imports at its first meta tensor takes seconds
    draw = random.Random(o.seed)
    kills: Counter[str] = Counter()
    trials: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="unitkit-kills-") as place:
        make_first(first := Path(place, "first"))
        chosen = {name: kind for name, kind in kinds(first).items() if not o.kinds or name in o.kinds}
        expected, seconds = {}, {}
        for name, kind in chosen.items():
            (folder := Path(place, name)).mkdir()
            kind.given(folder)
            began = time.monotonic()
            fault = complete(kind.words, folder)
            assert not fault, fault
            seconds[name], expected[name] = time.monotonic() - began, contents(folder)
        for number in range(10**6):
            name = list(chosen)[number % len(chosen)]
            (folder := Path(place, "tried")).mkdir()
            more, faults = tried(chosen[name], seconds[name], expected[name], folder, draw)
            trials[name] += 1
            kills[name] += more
            wrong[name] += bool(faults)
            for fault in faults:
                print(f"{name} {number} of seed {o.seed}: {fault}", flush=True)
            shutil.rmtree(folder)
            if kills.total() >= o.count:
                break
    print(f"{'command':12}{'s alone':>9}{'runs':>7}{'kills':>7}{'wrong':>7}")
    for name in chosen:
        print(f"{name:12}{seconds[name]:9.1f}{trials[name]:7}{kills[name]:7}{wrong[name]:7}")
    return 1 if wrong.total() else 0


if __name__ == "__main__":
    sys.exit(main())
