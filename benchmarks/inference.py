"""How fast trained networks translate: one image, a folder of them, and a large image in tiles.

    python benchmarks/inference.py --threads 2 --csv inference.csv
    python benchmarks/inference.py --width 16 --parts tiles --large 2000x3000
    python benchmarks/inference.py --width 16 --parts folder --folders 64x2000 1024x20 --rounds 2

"one": an image of 640x480 through the 2017 networks of `unit_faces @paper` (width 64 unless said otherwise), from and
to a tensor, by unitkit in both memory formats, and in bf16 where the device has it, beside the same networks as a plain
eager fp32 module (of `textbook.py`, with the same weights; the results must agree). "folder": `unitkit translate` of
folders of JPEG files from disk to disk, with so many workers, and the same files one by one. "tiles": a large image in
one pass and in tiles, each in a fresh process whose peak memory is its own.

Rounds are interleaved, their order turned round every time. Figures are medians with the 20 and 80 % quantiles.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from measuring import Row, add_machine_options, clock, introduce, print_table, spread, write_csv
from PIL import Image
from textbook import TextbookUnit
from torch import Tensor

import unitkit
from unitkit.commands import translate as command
from unitkit.data.files.encode import write_image
from unitkit.data.values import BYTES
from unitkit.models.inference import Inference
from unitkit.system.devices import emulates_bf16, peak_memory
from unitkit.translate import Translator

PARTS = ("one", "folder", "tiles")
TOLERANCE = 1e-3  # of the networks' results in fp32, in [-1, 1]


def networks(width: int, blocks: int) -> Any:
    """The 2017 networks for two domains, one residual block shared on each side of the latent."""
    torch.manual_seed(0)
    spec = unitkit.models.unit(
        channels={"a": 3, "b": 3},
        encoder=unitkit.encoders.residual(width=width, blocks=blocks),
        generator=unitkit.generators.residual(width=width, blocks=blocks),
        discriminator=unitkit.discriminators.strided(width=width, layers=4),
        sharing=unitkit.sharing.tie(encoder=1, generator=1),
    )
    return spec.build().eval()


def photograph(height: int, width: int) -> np.ndarray:
    """Smooth colours with noise, uint8 (3, H, W)."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 240, (height // 64 + 2, width // 64 + 2, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    found: np.ndarray = (smooth // 2 + random.integers(0, 64, smooth.shape, np.uint8)).transpose(2, 0, 1).copy()
    return found


def rounds(variants: Mapping[str, Callable[[], Any]], count: int, device: str) -> dict[str, Tensor]:
    """Seconds of each variant in every round, (count,), after one that warms up."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(count + 1):
        for name in list(variants)[:: 1 if number % 2 else -1]:
            times[name].append(clock(variants[name], device))
    return {name: torch.tensor(found[1:]) for name, found in times.items()}


def row(variant: str, values: Tensor, unit: str) -> Row:
    """The quantiles of a variant's rounds."""
    return {"variant": variant, "value": spread(values), "unit": unit, "rounds": len(values)}


@torch.no_grad()
def one(o: argparse.Namespace) -> list[Row]:
    """An image of 640x480 by the package and by the textbook's module."""
    model = networks(o.width, o.blocks).to(o.device)
    textbook = TextbookUnit(o.width, o.blocks, 4).to(o.device).eval()
    textbook.copy_weights(model)
    textbook.noise = 0.0
    x = torch.from_numpy(photograph(480, 640))[None].to(o.device).float() / 127.5 - 1
    expected = textbook.decode(textbook.encode(x, "a")[0], "b")
    variants: dict[str, Callable[[], Any]] = {"textbook": lambda: textbook.decode(textbook.encode(x, "a")[0], "b")}

    def variant(precision: str, layout: torch.memory_format) -> Callable[[], Tensor]:
        placed = networks(o.width, o.blocks).to(o.device).to(memory_format=layout)
        placed.load_state_dict(model.state_dict())
        image = x.contiguous(memory_format=layout)

        def translate() -> Tensor:
            with torch.autocast(torch.device(o.device).type, torch.bfloat16, enabled=precision == "bf16"):
                found: Tensor = placed(image, "ab")
            return found

        return translate

    for precision in ("fp32",) if emulates_bf16(torch.device(o.device)) else ("fp32", "bf16"):
        for name, layout in (("NCHW", torch.contiguous_format), ("channels-last", torch.channels_last)):
            variants[f"unitkit, {precision}, {name}"] = variant(precision, layout)
    for name, translate in variants.items():
        worst = float((translate().float() - expected).abs().max())
        print(f"{name}: largest difference from the textbook {worst:.1e}")
        if "bf16" not in name and not worst <= TOLERANCE:
            sys.exit(f"'{name}' translates otherwise than the textbook")
    times = rounds(variants, o.rounds, o.device)
    found = [row(f"640x480, {name}", 1e3 * each, "ms") for name, each in times.items()]
    return found + [row(f"640x480, {n}", each / times["textbook"], "x textbook") for n, each in times.items()]


def folder(o: argparse.Namespace) -> list[Row]:
    """Folders of JPEG files by `unitkit translate` from disk to disk, headers and manifest included, but without the
    start of Python, for each number of workers; and one by one."""
    found = []
    translator = Translator(networks(o.width, o.blocks).to(o.device), {"a": "a", "b": "b"})
    for side, count in o.folders:
        with tempfile.TemporaryDirectory() as name, mock.patch.object(command, "load", return_value=translator):
            place = Path(name)
            (place / "in").mkdir()
            image = Image.fromarray(photograph(side, side).transpose(1, 2, 0))
            for number in range(count):
                image.save(place / f"in/{number}.jpg", quality=95)

            def translated(workers: int, place: Path = place) -> None:
                with contextlib.redirect_stdout(io.StringIO()):
                    command.translate_images(
                        place, "ab", place / "in", place / "out", device=o.device, threads=workers, again=True
                    )

            def single(place: Path = place) -> None:
                for file in (place / "in").iterdir():
                    images = translator.stream([translator.pixels(file, "a")], "ab", [None])
                    write_image(list(images), place / "single" / file.name)

            variants: dict[str, Callable[[], Any]] = {f"--workers {n}": partial(translated, n) for n in o.workers}
            times = rounds({**variants, "one by one": single}, o.rounds, o.device)
            found += [row(f"{count} of {side}x{side}, {n}", count / each, "images/s") for n, each in times.items()]
            began = time.perf_counter()
            command.translate_images(place, "ab", place / "in", place / "out", device=o.device)
            again = torch.tensor([time.perf_counter() - began])
            found.append(row(f"{count} of {side}x{side}, done before", again, "s"))
    return found


def large(o: argparse.Namespace, tiled: bool) -> tuple[float, float, np.ndarray]:
    """Seconds, peak MiB of this process, and the result of a large image."""
    torch.set_num_threads(o.threads)
    inference = Inference(networks(o.width, o.blocks).to(o.device))
    pixels = photograph(*o.large)[None]
    inference.translate(pixels[:, :, :256, :256], "ab", {})
    started = time.perf_counter()
    found = inference.translate(pixels, "ab", {}) if tiled else inference._at_once(pixels, "ab", {}, BYTES, BYTES)
    return time.perf_counter() - started, peak_memory(inference.device) / 2**20, found


def tiles(o: argparse.Namespace) -> list[Row]:
    """A large image in tiles against one pass over the whole (left out with --no-whole)."""
    runs: dict[str, list[tuple[float, float, np.ndarray]]] = {}
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        for _ in range(o.large_rounds):
            for tiled in (True, False) if o.whole else (True,):
                runs.setdefault("in tiles" if tiled else "whole", []).append(pool.submit(large, o, tiled).result())
    found = []
    for name, each in runs.items():
        named = f"{o.large[0]}x{o.large[1]} {name}"
        found.append(row(named, torch.tensor([seconds for seconds, _, _ in each]), "s"))
        found.append(row(named, torch.tensor([memory for _, memory, _ in each]), "peak MiB"))
    if o.whole:
        apart = np.abs(runs["in tiles"][0][2].astype(int) - runs["whole"][0][2])
        found.append(row("largest difference", torch.tensor([float(apart.max())]), "of 255"))
        found.append(row("pixels that differ", torch.tensor([100 * float((apart > 0).mean())]), "%"))
    return found


def size(text: str) -> tuple[int, int]:
    """Two numbers, HEIGHTxWIDTH or SIDExCOUNT."""
    height, _, width = text.partition("x")
    return int(height), int(width)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--folders", type=size, nargs="+", default=[(64, 2000), (1024, 200)], help="SIDExCOUNT")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--large", type=size, default=(2000, 3000), help="HEIGHTxWIDTH")
    parser.add_argument("--large-rounds", type=int, default=3)
    parser.add_argument("--whole", action=argparse.BooleanOptionalAction, default=True)
    add_machine_options(parser)
    o = parser.parse_args(words)
    torch.set_num_threads(o.threads)
    parts: dict[str, Callable[[argparse.Namespace], list[Row]]] = {"one": one, "folder": folder, "tiles": tiles}
    found = [each for part in o.parts for each in parts[part](o)]
    introduce(f"width {o.width}, {o.blocks} blocks; medians with 20 and 80 % quantiles", o.device)
    print_table(found)
    if o.csv:
        write_csv(o.csv, found, o.device)


if __name__ == "__main__":
    main()
