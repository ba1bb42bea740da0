"""Damaged run folders: a seeded mutator over the files of a tiny run and a tiny ablation, and the calls that read them.

    python tests/fuzz.py --mutations 10000 --seed 1

mutates one file at a time and makes one call that reads it. A call may return, or raise `UserError` or `TrainingError`,
within 10 s and 2 GiB; everything else is listed with its seed, and `--only SEED` does one again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from unitkit import load_recipe, trackers
from unitkit.ablation.folder import Figure, begin
from unitkit.ablation.grid import Grid
from unitkit.ablation.report import cells_table, comparison_table, protocol_of, settings_table, write_ablation_report
from unitkit.ablation.statistics import read_findings
from unitkit.commands.evaluate import Asked, evaluate_run
from unitkit.commands.resume import changes
from unitkit.commands.train import train_recipe
from unitkit.recipe_file import read_recipe_file
from unitkit.runs.checkpoint import load_matching
from unitkit.runs.folder import RunFolder
from unitkit.runs.image_check import ImageCheck
from unitkit.runs.options import RunOptions
from unitkit.runs.page import write_report
from unitkit.runs.record import ANEW, check_resumed, check_same_recipe
from unitkit.runs.record import WATCHED as SEEN
from unitkit.runs.report import picks
from unitkit.runs.stored import digest
from unitkit.system.errors import TrainingError, UserError
from unitkit.trainer import Trainer
from unitkit.translate import load

TINY = Path(__file__).with_name("tiny.py")
SECONDS, GIB = 10, 2**30
WHOLE = 0.05  # of what resuming reads, by a training that goes on
IMAGE = np.zeros((16, 16, 3), np.uint8)
KNOBS = {"steps": 2, "augment": False}
# What stands in a JSON file where a mutated value has one of these texts: Python would not write it so.
RAW = {"<huge>": "1" + "0" * 400, "<deep>": "[" * 10**5 + "]" * 10**5, "<half>": '"\\ud800"', "<zero>": "-0"}
DTYPES = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.float8_e4m3fn)


def make(home: Path) -> None:
    """A run of two checkpoints with everything that one may hold, and an ablation of two such runs."""
    quiet(lambda: train_recipe(str(TINY), ["steps=2"], options(home / "run", checkpoint_every=1, watch="psnr(aa, a)")))
    run = RunFolder(home / "run")
    bad = {"letter": "a", "split": "train", "index": 1, "name": "a[1]", "reason": "it is none", "step": 0}
    run.write_json(run.BAD, {"format": 1, "images": [bad]})
    (entry,) = run.evaluations()
    table = {"title": "t", "heads": ["path"], "rows": [{"cells": ["ab"], "figures": {"psnr": "psnr", "x": "none"}}]}
    psnr = entry["metrics"]["psnr(aa, a)"]
    entry["metrics"]["own"] = {**psnr, "table": table, "details": {"confusion": [[1, 2], [3, 4]]}, "failed": "it did"}
    run.write_json("metrics.json", {"format": 1, "evaluations": [entry]})
    for name in os.listdir(run.checkpoints):  # a moving average, as a recipe with ema keeps it
        average = Path(
            shutil.copy(run.checkpoints / name / "model.safetensors", run.checkpoints / name / "ema.safetensors")
        )
        state = json.loads((run.checkpoints / name / "state.json").read_text())
        state["files"]["ema.safetensors"] = digest(average)
        (run.checkpoints / name / "state.json").write_text(json.dumps(state))
    ablation = again(home / "ablation")
    for number, cell in enumerate(ablation.cells):
        shutil.copytree(run.path, ablation.run(cell).path)
        knobs = {**ablation.record["knobs"], **cell.setting}
        ablation.run(cell).write_json("run.json", {**run.record, "knobs": knobs})
        entries = run.evaluations()
        entries[0]["metrics"]["psnr(aa, a)"]["figures"]["psnr"] += number
        entries[0]["weights"] = "last"
        ablation.run(cell).write_json("metrics.json", {"format": 1, "evaluations": entries})


def options(out: Path, **more: Any) -> RunOptions:
    return RunOptions(out, device="cpu", watch_every=1 if "watch" in more else None, **more)


def again(out: Path) -> Any:
    """The ablation of a folder, new or taken up."""
    file = read_recipe_file(TINY)
    grid = Grid(dict(KNOBS), {"shared": [0, 1]})
    return begin(
        out,
        file,
        grid,
        1,
        {"shared": 0},
        Figure("psnr(aa, a)", "psnr"),
        options(out, precision="fp32", compile=False),
        ["unitkit", "ablate"],
    )


def quiet(call: Callable[[], object]) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        call()


# Calls


def translated(run: Path) -> None:
    load(run, device="cpu").translate(IMAGE, "ab")


def evaluated(run: Path) -> None:
    evaluate_run(Asked(run, device="cpu", max_images=1))


def resumed(run: Path) -> None:
    train_recipe(None, ["steps=3"], options(run, resume=True))


def restored(run: Path) -> None:
    """What resuming reads, into a trainer that is there already."""
    trainer, folder = _trainer(), RunFolder(run)
    before = check_same_recipe(folder, trainer.recipe)
    options(run, resume=True).resolved(before, "fp32")
    check_resumed(folder, before, trainer.model, trainer.recipe.data.size)
    with mock.patch.object(trainer, "run", folder):
        trainer._restore({**before, "started": "", "device": "cpu"} | {key: before.get(key) for key in (*ANEW, *SEEN)})
    ImageCheck(folder, trainer.recipe.data, before.get("bad_images"), lambda _: None, resumed=True)
    trackers.make(before.get("track", ()))
    list(changes(before, trainer))


def reported(run: Path) -> None:
    folder = RunFolder(run)
    write_report(folder)
    picks(folder)
    folder.bad_images()


def matched(run: Path) -> None:
    load_matching(_trainer().model, run)


def taken_up(out: Path) -> None:
    ablation = again(out)
    for cell in ablation.cells:
        ablation.done(cell)
        ablation.figure(cell)


def tabulated(out: Path) -> None:
    findings = read_findings(out)
    for table in (settings_table, comparison_table, cells_table, protocol_of):
        table(findings)


CALLS = {call.__name__: call for call in (translated, evaluated, restored, resumed, reported, matched)}
ABLATION_CALLS = {call.__name__: call for call in (taken_up, tabulated, write_ablation_report)}
# The calls that read a file, the usual one first; the first word of its name says which files it is.
READ_BY = {
    "model": ["translated", "translated", "translated", "evaluated", "matched"],
    "ema": ["translated", "matched", "restored"],
    "training": ["restored"],
    "state": ["restored", "restored", "evaluated"],
    "run": ["restored", "reported", "reported", "evaluated"],
    "metrics": ["reported", "reported", "reported", "evaluated"],
    "stats": ["reported", "reported", "restored"],
    "watched": ["reported", "reported", "restored"],
    "bad_images": ["reported", "reported", "reported", "restored", "evaluated"],
    "ablation": ["taken_up", "tabulated", "tabulated", "write_ablation_report"],
}


@cache
def _trainer() -> Trainer:
    made: list[Trainer] = []
    with tempfile.TemporaryDirectory() as home:
        recipe = replace(load_recipe(TINY, steps=2), ema=0.5)
        quiet(lambda: made.append(Trainer(recipe, options(Path(home)))))
    return made[0]


# Mutations


def values_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every list or object within a JSON value, with each of its keys."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from values_in(value[key])


def other_value(old: Any, draw: random.Random) -> Any:
    """A value in place of another: of any type, or near the old one."""
    near: list[Any] = []
    if isinstance(old, int | float) and not isinstance(old, bool):
        near = [old + 1, -old, old * 10**6, old + 0.5, str(old), [old], 5000, 2**40]
    elif isinstance(old, str):
        near = [old[:-1], old + "x", old.upper(), old * 3, [old], "../" + old, "\0" + old, old + "\n", old + "\udc80"]
    elif isinstance(old, list):
        near = [old * 2, old[:-1], old[::-1], old * 300, dict(enumerate(map(str, old))), [old]]
    elif isinstance(old, dict):
        near = [list(old), list(old.values()), {**old, "more": old}, {str(k).upper(): v for k, v in old.items()}, [old]]
    strange: list[Any] = [None, True, False, 0, 1, -1, 1.5, 2**31, -(2**63), 2**64, 1e308, "", "x", "x" * 10**5, [], {}]
    strange += [float("nan"), float("inf"), -float("inf"), [[]], [None], {"a": 1}, {"": {}}, "é\u2028", *RAW]
    return draw.choice(near if near and draw.random() < 0.5 else strange)


def mutate_json(text: str, draw: random.Random) -> bytes:
    holder = [json.loads(text)]
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        place, key = draw.choice(list(values_in(holder)))
        kind = draw.random()
        if isinstance(place, dict) and kind < 0.2:
            del place[key]
        elif isinstance(place, dict) and kind < 0.3:
            place[str(other_value(key, draw)) if draw.random() < 0.3 else f"{key}_"] = place.pop(key)
        elif isinstance(place, dict) and kind < 0.35:
            place[f"<twice>{key}"] = other_value(place[key], draw)
        elif kind < 0.4:
            _, other = draw.choice(list(values_in(holder)))
            place[key] = other
        else:
            place[key] = other_value(place[key], draw)
        if not isinstance(holder[0], dict | list):
            break
    found = json.dumps(holder[0], skipkeys=True, indent=draw.choice((None, 1))).replace("<twice>", "")
    for word, raw in RAW.items():
        found = found.replace(json.dumps(word), raw)
    return found.encode()


def mutate_lines(text: str, draw: random.Random) -> bytes:
    lines = text.encode().splitlines(keepends=True)
    place = draw.randrange(len(lines))
    kind = draw.randrange(6)
    if kind == 0:
        lines.insert(place, draw.choice((b"\n", b"null\n", b"{}\n", b"x\n", b"\0\0\0", b'{"step": 1}\n', b"[]\n")))
    elif kind == 1:
        lines = lines[:place] + lines[place + 1 :]
    else:
        lines[place] = mutate_json(lines[place].decode(), draw).replace(b"\n", b"") + b"\n"
    return b"".join(lines)[: None if draw.random() < 0.8 else -draw.randint(1, 40)]


def mutate_bytes(data: bytes, draw: random.Random) -> bytes:
    place, more = (
        draw.randrange(len(data) + 1),
        draw.choice((b"\0", b"\xff", b"\xef\xbb\xbf", b'"', b"{", b"]" * 9, b"9")),
    )
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 8))):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return draw.choice(
        (
            bytes(changed),
            bytes(changed),
            data[:place],
            data[place:],
            data[:place] + more + data[place:],
            more + data,
            data + more,
            data[:place] * 2,
            b"",
            bytes(len(data)),
            data.decode("latin-1").encode("utf-16"),
            draw.randbytes(40),
        )
    )


def mutate_tensors(path: Path, draw: random.Random) -> None:
    """Another file of tensors that is in order, but for what it holds; or one whose header lies."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    name = draw.choice(sorted(tensors))
    kind = draw.randrange(10)
    if kind < 3:
        header = mutate_json(data[8 : 8 + length].decode(), draw)
        lie = draw.choice((len(header), len(header), length, 0, 2**63, 2**64 - 1, len(header) + 1))
        path.write_bytes(struct.pack("<Q", lie) + header + data[8 + length :])
        return
    if kind == 3:
        tensors[draw.choice((f"{name}x", f"x{name}", "", name.upper(), f"{name}:int"))] = tensors.pop(name)
    elif kind == 4:
        del tensors[name]
    elif kind == 5:
        tensors[draw.choice((f"{name}x", "buffers/x", "x"))] = torch.ones(draw.choice((0, 1, 5)))
    elif kind == 6:
        value = tensors[name]
        shapes = (value[None], value.flatten(), value.reshape(-1)[:1], torch.zeros(0), torch.zeros(2, 3), value.sum())
        tensors[name] = draw.choice(shapes).clone()
    elif kind == 7:
        tensors[name] = tensors[name].to(draw.choice(DTYPES))
    elif kind == 8 and tensors[name].is_floating_point() and tensors[name].numel():
        tensors[name].view(-1)[-1] = draw.choice((float("nan"), float("inf"), -float("inf"), -1e30, 1e38))
    else:
        tensors = {each: -value if value.dtype != torch.bool else value for each, value in tensors.items()}
    save_file({each: value.contiguous() for each, value in tensors.items()}, path)


def mutate_place(path: Path, draw: random.Random) -> None:
    """Something else in a file's place."""
    kind = draw.randrange(7)
    path.unlink()
    if kind == 1:
        path.mkdir()
    elif kind == 2:
        os.mkfifo(path)
    elif kind == 3:
        path.symlink_to("nothing")
    elif kind == 4:
        path.symlink_to(path.name)
    elif kind == 5:
        path.symlink_to(draw.choice(("/dev/zero", "/dev/null", "/dev/full", "/")))
    elif kind == 6:
        path.touch(mode=0)


def mutate(path: Path, draw: random.Random) -> None:
    """Damage a file."""
    kind = draw.random()
    if kind < 0.08:
        mutate_place(path, draw)
    elif kind < 0.3:
        path.write_bytes(mutate_bytes(path.read_bytes(), draw))
    elif path.suffix == ".safetensors":
        mutate_tensors(path, draw)
    elif path.suffix == ".jsonl":
        path.write_bytes(mutate_lines(path.read_text(), draw))
    else:
        path.write_bytes(mutate_json(path.read_text(), draw))


# Trials


@dataclass(frozen=True)
class Trial:
    """A mutation and a call: what came of it, "" where that was as it may be."""

    seed: int
    file: str
    call: str
    failed: str
    refused: bool = False


class Slow(BaseException):
    """A call that takes too long."""


def _too_slow(*_: Any) -> None:
    raise Slow


def trial(home: Path, seed: int) -> Trial:
    """Mutate a copy of what `make` left in `home`, and call."""
    draw = random.Random(seed)
    stem = draw.choice(sorted(READ_BY))
    call = draw.choice(READ_BY[stem])
    if call == "restored" and draw.random() < WHOLE:
        call = "resumed"
    in_ablation = call in ABLATION_CALLS
    if not in_ablation and draw.random() < 0.1 and stem in ("run", "metrics", "state"):
        in_ablation, call = True, draw.choice(("taken_up", "tabulated"))
    with tempfile.TemporaryDirectory(dir=home) as place:
        whole = Path(shutil.copytree(home / ("ablation" if in_ablation else "run"), Path(place, "copy")))
        files = sorted(path for path in whole.rglob("*") if path.name.partition(".")[0] == stem and path.is_file())
        files = [path for path in files if path.suffix.startswith((".json", ".safetensors"))]
        # The newest of its kind is what is read.
        newest = [path for path in files if "step-00000001" not in str(path) and "best" not in path.parts]
        path = draw.choice(newest)
        if draw.random() < 0.5:
            shutil.rmtree(whole / "checkpoints/step-00000001", ignore_errors=True)  # nothing to fall back on
        was = path.read_bytes()
        mutate(path, draw)
        changed = path.is_file() and path.read_bytes() != was
        failed, refused = tried((ABLATION_CALLS if in_ablation else CALLS)[call], whole)
        if changed and not (failed or refused) and path.suffix == ".safetensors" and call in ("restored", "resumed"):
            failed = "a training goes on from what is not as it was"
    return Trial(seed, path.name, call, failed, refused)


def tried(call: Callable[[Path], None], place: Path) -> tuple[str, bool]:
    """Why a call failed that may not, and whether it was refused as it should be."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    former = signal.signal(signal.SIGALRM, _too_slow)
    signal.alarm(SECONDS)
    refused = False
    try:
        quiet(lambda: call(place))
    except (UserError, TrainingError) as error:
        refused = True
        if len(str(error)) > 5000:
            return f"a message of {len(str(error))} characters: {str(error)[:80]!r}", True
    except Slow:
        return f"more than {SECONDS} s", False
    except BaseException as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        if ONLY:
            traceback.print_exc()
        return f"{type(error).__name__}: {str(error)[:100]} ({Path(frame.filename).name}:{frame.lineno})", False
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return (f"{grown / GIB:.1f} GiB" if grown > 2 * GIB else ""), refused


ONLY = False


def main() -> None:
    """Run the trials and say what came of them; ends with 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first mutation; the next have the next")
    parser.add_argument("--only", type=int, help="the seed of one mutation")
    words = parser.parse_args()
    torch.set_num_threads(1)
    global ONLY
    ONLY = words.only is not None
    seeds = [words.only] if ONLY else range(words.seed, words.seed + words.mutations)
    counts, failures = Counter[tuple[str, str, str]](), []
    with tempfile.TemporaryDirectory() as home:
        make(Path(home))
        for seed in seeds:
            found = trial(Path(home), seed)
            counts[found.file, found.call, "failed" if found.failed else "refused" if found.refused else "read"] += 1
            if found.failed:
                failures.append(found)
                print(f"seed {found.seed}: {found.file}, {found.call}: {found.failed}", flush=True)
    for (file, call, outcome), count in sorted(counts.items()):
        print(f"{count:6} {file:24} {call:22} {outcome}")
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()
