"""Random command lines: each must answer with status 0, 1 or 2 and no traceback, soon and in little memory.

python benchmarks/commands_fuzz.py --count 1000 --seed 0
python benchmarks/commands_fuzz.py --knobs

A line is a command with plausible words, of which some are replaced by hostile ones. It runs in a process that is
forked from this one, which has imported everything, in an empty folder of its own, some in an odd environment. Nothing
leaves the machine: every address but a number is unknown, every connection is refused, and a demo ends where it would
serve.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from forked import become
from PIL import Image

from unitkit import load_recipe
from unitkit.check import check
from unitkit.recipe_file import read_recipe_file, shipped
from unitkit.system.devices import survive_forks

SECONDS, BYTES = 10.0, 2 * 2**30  # of processor time, so that a busy machine does not count
COMMANDING = ("Cc", "Cf", "Zl", "Zp")  # letters that a terminal obeys: controls, directions, ends of lines
PATIENCE = 60.0  # seconds until a line is killed
NUMBERS = [
    "0", "1", "2", "3", "-1", "1e4", "1_0", "\uff11\uff12", "0.5", "inf", "nan", "-inf", "1e999", "1e-999",
    "65536", "65537", "1000000", "100000000", "10**23", "1e23", "0x10", "1e1", "99999999999999999999", "2.5", "-0",
    "+1", ".", "e5", "1e", "1..3", "3..1", "0..99999999", "1,2", "1,1", "1;2", ",", ";", "48x64", "0x0",
    "65536x65536", "1000000000",
]  # fmt: skip
TEXTS = [
    "", " ", "none", "true", "no", "~nobody-here/x", "~", "/", ".", "..", "/dev/null", "/dev/zero", "/proc/self/mem",
    "x" * 5000, "a/" * 2500, "\x1b[31mred\x1b[0m", "two\nlines", "\u202eright", "<script>alert(1)</script>", "$(rm)",
    "[bold]", "[/]", "%s%n", "{0}", "'", '"', "日本語", "\udcff", "-", "--", "-x", "--help", "=", "@", "@x", "a=b=c",
    "NaN", "portraits", "terrain", "digits", "timm", "unit", "ab", "aba", "abc", "z", "photos", "photos/x", "one.png",
    "run", "recipe.py", "run/checkpoints", "run/run.json", "https://example.org/x", "user@host:/x",
    "javascript:alert(1)", "\x9b31mred", "\u2066left\u2069", "two\u2028lines",
]  # fmt: skip
ENVIRONMENTS: list[dict[str, str | None]] = [
    {},
    {"COLUMNS": "0"},
    {"COLUMNS": "-1", "LINES": "x"},
    {"COLUMNS": "1"},
    {"COLUMNS": "99999999999"},
    {"WORLD_SIZE": "2"},
    {"WORLD_SIZE": "x"},
    {"WORLD_SIZE": "2", "RANK": "5", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"},
    {"LOCAL_WORLD_SIZE": "0", "LOCAL_RANK": "x"},
    {"TORCHELASTIC_MAX_RESTARTS": "x"},
    {"OMP_NUM_THREADS": "x"},
    {"HOME": None, "XDG_CACHE_HOME": "/proc/nowhere"},
    {"TERM": "dumb", "NO_COLOR": "1"},
    {"TMPDIR": "/nowhere"},
    {"UNITKIT_DATA": "~nobody-here"},
    {"HF_HUB_OFFLINE": "1"},
    {"HF_TOKEN": "none", "HF_ENDPOINT": "http://127.0.0.1:9"},
]


@dataclass(frozen=True)
class Line:
    """A command line: its words, what the environment says, and how stdout is encoded."""

    words: tuple[str, ...]
    environment: Mapping[str, str | None] = field(default_factory=dict)
    encoding: str = "utf-8"
    folder_gone: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a line ended: its status (None: killed), what it printed, its processor time, its growth in bytes."""

    status: int | None
    printed: str
    seconds: float
    growth: int

    def faults(self) -> list[str]:
        """What no line may do. Of the status that follows a signal, the signal is ours."""
        found = ["traceback"] * ("Traceback (most recent call last)" in self.printed)
        found += ["slow"] * (self.status is None or self.seconds > SECONDS)
        found += [f"status {self.status}"] * (self.status not in (0, 1, 2, None))
        found += ["large"] * (self.growth > BYTES)
        controls = {letter for letter in self.printed if unicodedata.category(letter) in COMMANDING} - set("\n\r\t")
        return found + ["controls"] * bool(controls)


def lines(seed: int, count: int) -> Iterator[Line]:
    """So many command lines, the same for the same seed."""
    draw = random.Random(seed)
    recipes = [*shipped(), "tiny.py"]
    knobs = {name: list(read_recipe_file(path).knobs) for name, path in shipped().items()}
    knobs["tiny.py"] = ["data", "size", "width", "shared", "batch", "steps", "lr", "decay", "noise", "augment", "crop"]

    def text() -> str:
        return draw.choice(draw.choice([NUMBERS, TEXTS]))

    def some(words: Sequence[str], most: int) -> list[str]:
        return draw.sample(list(words), draw.randint(0, min(most, len(words))))

    def sets(recipe: str) -> list[str]:
        names = some([name for name in knobs.get(recipe, []) if name != "steps"], 3)
        given = [f"{name}={draw.choice(NUMBERS) if draw.random() < 0.7 else text()}" for name in names]
        return given + [f"@{draw.choice(['paper', 'photo', 'plain', 'x', ''])}"] * (draw.random() < 0.1)

    def options(choices: Mapping[str, Sequence[str]], most: int) -> list[str]:
        found = []
        for name in some(list(choices), most):
            found += (
                [name] if not choices[name] else [name, draw.choice([*choices[name], text(), draw.choice(NUMBERS)])]
            )
        return found

    devices = {"--device": ["cpu", "auto", "cuda", "cpu:1", "meta"]}
    training = {**devices, "--precision": ["fp32", "bf16", "auto"], "--out": ["out", "run", "photos"]}
    training |= {"--checkpoint-every": ["2"], "--bad-images": ["skip", "stop"]}
    for _ in range(count):
        recipe = draw.choice(recipes) if draw.random() < 0.9 else text()
        quick = ["steps=1"]  # a long training is no fault, nor that of a shipped recipe
        match kind := draw.choice(["train"] * 4 + ["show"] * 3
                                  + ["ablate", "translate", "evaluate", "push", "demo", "compare"] * 2
                                  + ["export", "list", "runs", "new", "weights", "doctor", "nothing"]):  # fmt: skip
            case "train":
                more = {"--seed": ["0"], "--keep": ["2"], "--memory": ["8G", "1M"], "--watch": ["psnr(aa, a)", "l1"]}
                more |= {"--resume": [], "--track": ["tensorboard"], "--init-from": ["run"], "--sample-every": ["1"]}
                words = [*(["tiny.py"] if draw.random() < 0.9 else [text()]), *sets("tiny.py"), *quick]
                words += options({**training, **more, "--watch-every": ["1"]}, 3)
            case "show":
                words = [recipe, *sets(recipe), *options({"--memory": ["8G"], "--help": []}, 1)]
            case "ablate":
                more = {
                    "--seeds": ["1"],
                    "--workers": ["1"],
                    "--baseline": ["width=1"],
                    "--metric": ["psnr"],
                    "--yes": [],
                }
                words = ["tiny.py" if draw.random() < 0.9 else text(), *sets("tiny.py"), *quick]
                words += options({**training, **more}, 3)
            case "translate":
                words = [draw.choice(["run", "out", text()]), draw.choice(["ab", "aba", text()])]
                words += [draw.choice(["one.png", "photos/train/x", text()]), draw.choice(["new.png", "new", text()])]
                more = {"--samples": ["2"], "--seed": ["1"], "--style": ["one.png"], "--weights": ["last"]}
                words += options({**devices, **more, "--precision": ["fp32"], "--parts": ["tiny.py"]}, 2)
            case "evaluate":
                more = {
                    "--max-images": ["2"],
                    "--seed": ["1"],
                    "--save": ["new.json"],
                    "--data": ["photos"],
                    "--size": ["8"],
                }
                more |= {"--metrics": ["psnr(aa, a)", "l1(ab, b)", "fid", "kid(ab, b, subsets=1_0)", "ssim(ab,b"]}
                images = ["--images", draw.choice(["ab=photos/train/x", text()]), "--images", "b=photos/train/y"]
                words = [draw.choice(["run", text()])] if draw.random() < 0.7 else images
                words += options({**devices, **more, "--weights": ["last"]}, 3)
            case "export":
                words = [draw.choice(["run", text()]), draw.choice(["new.safetensors", "new.pt2", text()])]
                more = {"--path": ["ab"], "--format": ["safetensors", "pt2"], "--seed": ["1"], "--parts": ["tiny.py"]}
                words += options({**more, "--style": ["one.png"], "--precision": ["fp16"]}, 2)
            case "push":
                words = [draw.choice(["run", "run/checkpoints", text()]), draw.choice(["anna/x", "hf:anna/x", text()])]
                more = {"--private": [], "--public": [], "--weights": ["last"], "--revision": ["main", "v1"]}
                more |= {"--message": ["the first"], "--license": ["mit"], "--parts": ["tiny.py"]}
                words += ["--dry-run", draw.choice(["new", "photos", text()])] * (draw.random() < 0.6)
                words += options(more, 3)
            case "demo":
                words = [draw.choice(["run", "run/checkpoints", text()]) for _ in range(draw.randint(1, 3))]
                more = {"--host": ["127.0.0.1", "::1", "0.0.0.0", "1.2.3.4"], "--port": ["0"], "--held": ["1"]}
                more |= {"--open": [], "--no-open": [], "--parts": ["tiny.py"], "--weights": ["last"], **devices}
                words += options(more, 3)
            case "compare":
                words = [draw.choice(["run", "copy", "run/checkpoints", text()]) for _ in range(draw.randint(1, 4))]
                more = {"--out": ["new.html", "run/new.html"], "--paths": ["ab,ba", "aba"], "--max-images": ["2"]}
                words += options(more, 2)
            case "runs":
                words = [draw.choice(["run", "copy", "photos", "nowhere"]), *options({"--cells": [], "--json": []}, 2)]
            case "list":
                words = [draw.choice(["recipe", "encoder", "loss", "metric", text()]), *some([text(), "l1"], 1)]
            case "new":
                words = [draw.choice(["mine.py", "tiny.py", text()]), *options({"--from": ["cut", "tiny.py"]}, 1)]
            case "weights":
                words = some(["nothing", "psnr", text()], 2)
            case "doctor":
                words = options({"--device": ["cpu:7", "cuda:99"]}, 1) or ["--device", "nothing"]
            case _:
                kind, words = text(), [text() for _ in range(draw.randint(0, 3))]
        words = [word for word in words if "\0" not in word]
        odd = draw.random() < 0.3
        yield Line(
            (kind, *words),
            draw.choice(ENVIRONMENTS) if odd else {},
            draw.choice(["ascii", "latin-1", "utf-8", "koi8-r"]),
            odd and draw.random() < 0.15,
        )


def make_home(home: Path) -> None:
    """What the lines can name: a recipe, photographs, a run."""
    shutil.copy(Path(__file__).parents[1] / "tests" / "tiny.py", home / "tiny.py")
    noise = np.random.default_rng(0)
    for split, label in (("train", "x"), ("train", "y"), ("test", "x"), ("test", "y")):
        folder = home / "photos" / split / label
        folder.mkdir(parents=True)
        for i in range(3):
            Image.fromarray(noise.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / f"{i}.png")
    shutil.copy(home / "photos/train/x/0.png", home / "one.png")
    run(Line(("train", "tiny.py", "steps=2", "--out", "run")), home)
    assert (home / "run" / "report.html").is_file(), "the run that the lines name was not trained"
    shutil.copytree(home / "run", home / "copy")


def run(line: Line, home: Path) -> Outcome:
    """Run a line in a process that is forked from this one."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as printed:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            prepare = partial(_prepare, line, home)
            become(line.words, home, printed.fileno(), encoding=line.encoding, prepare=prepare)
        status = None
        while time.monotonic() - began < PATIENCE:
            done, how, usage = os.wait4(child, os.WNOHANG)
            if done:
                status = os.waitstatus_to_exitcode(how)
                break
            time.sleep(0.005)
        else:
            os.killpg(child, signal.SIGKILL)
            _, _, usage = os.wait4(child, 0)
        printed.seek(0)
        text = printed.read().decode(line.encoding, "replace")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Outcome(status, text, usage.ru_utime + usage.ru_stime, max(0, usage.ru_maxrss - before) * 1024)


def _prepare(line: Line, home: Path) -> None:
    _stay_here(line)
    for name, value in line.environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    if line.folder_gone:
        gone = Path(tempfile.mkdtemp(dir=home))
        os.chdir(gone)
        gone.rmdir()


def _stay_here(line: Line) -> None:
    """Let nothing reach beyond this process: no name is looked up, nobody connected to, no page served or opened."""
    numbers = partial(socket.getaddrinfo, flags=socket.AI_NUMERICHOST)
    socket.getaddrinfo = lambda host, port, family=0, type=0, proto=0, flags=0: numbers(host, port, family, type, proto)
    socket.socket.connect = _refused  # type: ignore[method-assign]
    if line.words[0] == "demo":
        import webbrowser

        import uvicorn

        uvicorn.Server.run = lambda self, sockets=None: None  # type: ignore[method-assign]
        webbrowser.open = lambda *_, **__: False


def _refused(*_: object) -> None:
    raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


def knob_lines() -> Iterator[Line]:
    """Every knob of every recipe with numbers that few can have."""
    for name, path in shipped().items():
        for knob in read_recipe_file(path).knobs:
            for value in ("0", "-1", "65536", "1e6", "1e9", "1e12", "65536x65536"):
                yield Line(("show", name, f"{knob}={value}"))


def fuzz(given: Iterable[Line], verbose: bool = False) -> tuple[Counter[str], list[tuple[Line, Outcome]]]:
    """Run lines: how often each status came, and the lines with faults."""
    survive_forks()
    counts: Counter[str] = Counter()
    bad = []
    with tempfile.TemporaryDirectory(prefix="unitkit-fuzz-") as kept:
        (first := Path(kept, "first")).mkdir()
        make_home(first)
        for number, line in enumerate(given):
            home = Path(kept, "home")
            shutil.copytree(first, home)
            outcome = run(line, home)
            shutil.rmtree(home)
            counts[f"status {outcome.status}"] += 1
            if faults := outcome.faults():
                bad.append((line, outcome))
                counts.update(faults)
                if verbose:
                    took = f"{outcome.seconds:.1f} s, {outcome.growth >> 20} MiB"
                    print(f"{number}: {', '.join(faults)}, {took}: {line!r:.700}")
                    print("\n".join(f"    {each:.200}" for each in outcome.printed.splitlines()[-12:]), flush=True)
    return counts, bad


def main() -> None:
    """Run the lines, print the faults and the counts; exits with 1 where there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--knobs", action="store_true", help="show every recipe with every knob out of bounds instead")
    given = parser.parse_args()
    torch.set_num_threads(1)
    check(load_recipe("unit_faces"))  # what torch imports at its first meta tensor takes seconds
    began = time.monotonic()
    counts, bad = fuzz(knob_lines() if given.knobs else lines(given.seed, given.count), verbose=True)
    ended = sum(count for name, count in counts.items() if name.startswith("status"))
    print(f"{ended} command lines in {time.monotonic() - began:.0f} s: {dict(sorted(counts.items()))}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
