"""A picture that is larger than memory, translated window by window: how long it takes, and in how much memory.

    python benchmarks/slide.py --side 20000

Draws an RGB TIFF in compressed tiles, trains networks of width 4 for some steps, has `unitkit translate` translate the
picture in a process of its own, and prints its seconds and its peak of resident memory, which counts mapped files.
Then a part of the picture is translated both whole and by windows, and the largest difference of 255 is printed; the
status is 1 where it is above 1, or where the memory was above 2 GiB.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from unitkit.commands import translate as command
from unitkit.data.formats.windows import windows_of

TILE, PART = 512, 2500
TRAINING = ("unit_faces", "size=64", "width=4", "width_d=4", "layers=2", "steps=20")


def tiles(side: int) -> Iterator[np.ndarray]:
    """Tiles (TILE, TILE, 3), row by row: fields of colour with a fine pattern."""
    fields = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    for top in range(0, side, TILE):
        for left in range(0, side, TILE):
            y, x = np.mgrid[top : top + TILE, left : left + TILE]
            pattern = (y * x % 37)[..., None] - 18
            yield np.clip(fields[y // 1000 % 20, x // 1000 % 20].astype(int) + pattern, 0, 255).astype(np.uint8)


def main() -> int:
    """Draw, train, translate, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=20_000)
    side = parser.parse_args().side
    unitkit = [sys.executable, "-m", "unitkit"]
    rgb = {"photometric": "rgb", "compression": "zlib", "tile": (TILE, TILE)}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tifffile.imwrite(folder / "slide.tif", tiles(side), shape=(side, side, 3), dtype="uint8", **rgb)  # type: ignore[arg-type]
        size = (folder / "slide.tif").stat().st_size / 2**20
        subprocess.run(
            [*unitkit, "train", *TRAINING, "--out", "run"], cwd=folder, stdout=subprocess.DEVNULL, check=True
        )
        trained = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        began = time.perf_counter()
        subprocess.run([*unitkit, "translate", "run", "ab", "slide.tif", "out.tif"], cwd=folder, check=True)
        seconds, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        said = "at most " if peak == trained else ""
        print(f"{side} x {side}, {size:.0f} MiB: {seconds:.0f} s, {said}{peak / 1024:.0f} MiB of memory at its peak")
        part = windows_of(folder / "slide.tif").read(range(PART), range(PART + 200)).transpose(1, 2, 0)
        tifffile.imwrite(folder / "part.tif", part, **rgb)  # type: ignore[arg-type]
        found = []
        for name, large in ("whole.tif", command.LARGE), ("windows.tif", 100):
            command.LARGE = large
            command.translate_images(folder / "run", "ab", folder / "part.tif", folder / name)
            found.append(tifffile.imread(folder / name).astype(int))
    difference = int(np.abs(found[0] - found[1]).max())
    print(
        f"windows differ from the whole by {difference} of 255 at most, in a part of {part.shape[0]} x {part.shape[1]}"
    )
    return int(difference > 1 or peak > 2**21)


if __name__ == "__main__":
    sys.exit(main())
