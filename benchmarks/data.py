"""Whether the loader keeps up with the step: images/s from JPEG files, cold and warm, beside what a step eats.

    python benchmarks/data.py --step-ms 20 50 200 --csv data.csv
    python benchmarks/data.py --recipe unit_faces @paper batch=4 --device cuda
    python benchmarks/data.py --start 100000

JPEG files are made in a temporary folder, so they come from the system's cache: the disk is not measured. "cold" is
the first epoch, in which every image is decoded, scaled to the training's size and kept; "warm" is a later one. The
loader has no setting for its threads (as many as processors, at most 8); fewer or more are put in its place here.

A step on a GPU leaves the processors alone, so it is a sleep of its length here; what `Batches.batch` then takes in the
first epoch beyond what it takes in a later one, between the same sleeps, is what the GPU would wait for. (Between
sleeps it takes longer than in a row: caches are cold and threads asleep. Augmentation is the device's work, and on a
CPU in that time.) On a CPU step and decoding share the processors: there a sleep is too kind. The step's length is
given, or measured of a recipe.

`--start N` measures instead how long it takes until data of N files are open, listing and headers, and until their
fingerprint is known: the first time, and again when the headers are remembered. The files are a few hundred, each
under many names.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from measuring import Row, add_machine_options, clock, introduce, print_table, spread, trainer_of, whole_step, write_csv
from PIL import Image

from unitkit import Data, UserError, open_data
from unitkit.data import cache
from unitkit.data.batches import Batches
from unitkit.data.folders import index

DOMAINS = ("a", "b")
QUALITY = 90  # of the JPEG files
DIFFERENT = 200  # of the files of a start, in each domain


def write_jpegs(folder: Path, side: int, count: int) -> None:
    """`count` images a domain, of this side, as detailed as photographs are: large shapes, edges, fine grain."""
    rng = np.random.default_rng(side)
    for domain in DOMAINS:
        (folder / domain).mkdir(parents=True)
        for number in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
            grain = rng.integers(-12, 13, (side, side, 1))
            pixels = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(np.int16) + grain
            pixels[side // 4 : side // 2, side // 4 : 3 * side // 4] //= 2
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(folder / domain / f"{number:04}.jpg", quality=QUALITY)


@contextmanager
def decoding_by(workers: int) -> Iterator[None]:
    """Within the block images are decoded by so many threads."""
    with ThreadPoolExecutor(workers) as pool, patch.object(cache, "_pool", lambda: pool):
        yield


def epoch(batches: Batches, first: int, steps: int, pause: float = 0.0) -> tuple[float, list[float]]:
    """Take the batches of some steps, the GPU busy for `pause` seconds after each. Returns the seconds of all, and
    those that each batch took."""
    taken = []
    started = time.perf_counter()
    for step in range(first, first + steps):
        taken.append(clock(partial(batches.batch, step), batches.device))
        time.sleep(pause)
    return time.perf_counter() - started, taken


def measure(data: Data, o: argparse.Namespace, side: int, workers: int) -> Iterator[Row]:
    """The loader's rates, and a row for each length of a step."""
    steps = len(data.domains["a"].train) // o.batch
    eaten = o.batch * len(data.domains)
    with decoding_by(workers):
        batches = Batches(data, o.batch, 0, o.device)
        cold = steps * eaten / epoch(batches, 0, steps)[0]
        warm = steps * eaten / epoch(batches, steps, steps)[0]
    for length in o.step_ms:
        with decoding_by(workers):
            batches = Batches(data, o.batch, 0, o.device)
            first, later = (epoch(batches, begin, steps, length / 1e3)[1] for begin in (0, steps))
        # The very first step finds nothing decoded ahead, which happens once in a training.
        waited = 1e3 * max(0.0, sum(first[1:]) / (steps - 1) - spread(later).middle)
        yield {
            "source": f"{side} px",
            "threads of the loader": workers,
            "cold images/s": cold,
            "warm images/s": warm,
            "step ms": length,
            "step eats images/s": 1e3 * eaten / length,
            "wait ms a step, first epoch": waited,
            "batch ms, later": 1e3 * spread(later).middle,
            "waits": "first epoch" if waited > 0.05 * length else "no",
        }


def starts(count: int, side: int) -> Iterator[Row]:
    """What opening a folder of so many images takes, the first time and later."""
    with tempfile.TemporaryDirectory() as place, patch.dict(os.environ, XDG_CACHE_HOME=f"{place}/cache"):
        write_jpegs(Path(place, "made"), side, DIFFERENT)
        for domain in DOMAINS:
            folder = Path(place, "data", domain)
            folder.mkdir(parents=True)
            for number in range(count // len(DOMAINS)):
                os.link(f"{place}/made/{domain}/{number % DIFFERENT:04}.jpg", f"{folder}/{number:07}.jpg")
        time.sleep(1.1 * index.SETTLED / 1e9)  # younger files are not remembered
        for name in ("first", "second", "third"):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            started = time.perf_counter(), time.process_time()
            data = open_data(f"{place}/data", size=64)
            wall, busy = time.perf_counter() - started[0], time.process_time() - started[1]
            data.fingerprint()
            yield {
                "start": name,
                "files": sum(len(images) for d in data.domains.values() for images in (d.train, d.test)),
                "open s": wall,
                "of the processors": busy,
                "us a file": 1e6 * wall / count,
                "fingerprint s": time.perf_counter() - started[0] - wall,
                "MiB more": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
            }


def step_lengths(o: argparse.Namespace) -> list[float]:
    """The steps' lengths in ms: as given, or the median of a recipe's."""
    if not o.recipe:
        return list(o.step_ms)
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(o.recipe, Path(folder, "run"), o.device, o.precision)
        step = whole_step(trainer)
        o.batch = trainer.recipe.batch * trainer.recipe.accumulate
        times = [clock(partial(step, number), o.device) for number in range(1, 12)]
    return [1e3 * spread(times[1:]).middle]


def main(words: Sequence[str] | None = None) -> None:
    """Make the files, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step-ms", type=float, nargs="+", default=[20.0, 100.0], help="lengths of a step")
    parser.add_argument("--recipe", nargs="+", metavar="WORD", help="measure its step: NAME @preset knob=value")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16", help="of that step")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 1024], help="of the files' images, in pixels")
    parser.add_argument("--size", type=int, default=128, help="of the training's images")
    parser.add_argument("--images", type=int, default=128, help="in each domain")
    parser.add_argument("--batch", type=int, default=4, help="images per domain and step")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, min(8, os.cpu_count() or 1)])
    add_machine_options(parser)
    parser.set_defaults(threads=1)  # of torch, which has nothing to do here but a CPU's augmentation
    parser.add_argument("--start", type=int, metavar="FILES", help="measure the start with so many files")
    o = parser.parse_args(words)
    torch.set_num_threads(o.threads)
    if o.start:
        rows = list(starts(o.start, o.sides[0]))
        introduce(f"{o.start} JPEG files of {o.sides[0]} px, opened", o.device)
        print_table(rows)
        if o.csv:
            write_csv(o.csv, rows, o.device)
        return
    try:
        o.step_ms = step_lengths(o)
    except UserError as error:
        parser.error(str(error))
    rows = []
    for side in o.sides:
        with tempfile.TemporaryDirectory() as folder:
            write_jpegs(Path(folder), side, o.images)
            data = open_data(folder, size=o.size)
            for workers in dict.fromkeys(o.workers):
                rows += measure(data, o, side, workers)
    introduce(f"{o.images} JPEG files a domain to {o.size} px, {len(DOMAINS)} domains, batch {o.batch}", o.device)
    print_table(rows)
    if o.csv:
        write_csv(o.csv, [{**row, "size": o.size, "batch": o.batch, "images": o.images} for row in rows], o.device)


if __name__ == "__main__":
    main()
