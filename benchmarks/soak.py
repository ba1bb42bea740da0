"""Whether a long training stays as it was: its memory, open files, threads and pace, from minute to minute.

    python benchmarks/soak.py --hours 2 --csv soak.csv -- unit_faces
    python benchmarks/soak.py --hours 2 -- unit_faces @photo data=FOLDER

Trains a recipe, in a process of its own, that writes checkpoints, sample grids and watched metrics far more often than
one does by hand, and reads what /proc says of the process and its children. After the hours it is stopped by SIGTERM,
which must leave a checkpoint, and resumed for some steps. Prints the figures by the twelfth of the time; the status is
1 where the memory of the last is more than 2 % or 16 MiB above that of the third, where files or threads are more,
where checkpoints take more of the disk or a step takes twice as long, where the training ended by itself, or where it
could not be resumed.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from unitkit.runs.folder import RunFolder
from unitkit.runs.steps import step_of

PARTS = 12
WARM = 2  # parts at the start that nothing is compared with: caches fill
SHARE, MIB = 0.02, 16.0
OFTEN = ("--checkpoint-every", "200", "--sample-every", "200", "--watch-every", "400")
STEPS = 100_000_000  # more than there is time for


class Reading(NamedTuple):
    """What the process and its children had at a time."""

    seconds: float
    MiB: float  # resident, of the process and its children
    files: int  # open
    threads: int
    run_MiB: float  # on the disk, in checkpoints and beside them
    checkpoints_MiB: float


def family(pid: int) -> list[int]:
    """A process, its children and theirs."""
    children = (Path(f"/proc/{pid}/task") / task / "children" for task in os.listdir(f"/proc/{pid}/task"))
    return [pid, *(each for file in children for child in file.read_text().split() for each in family(int(child)))]


def read(pid: int, seconds: float, run: Path) -> Reading | None:
    """A reading; None where a process ended while it was made."""
    memory = files = threads = 0
    try:
        for each in family(pid):
            lines = Path(f"/proc/{each}/status").read_text().splitlines()
            found = {name: value for name, _, value in (line.partition(":") for line in lines)}
            memory += int(found["VmRSS"].split()[0])
            threads += int(found["Threads"])
            files += len(os.listdir(f"/proc/{each}/fd"))
        sizes = {file: file.stat().st_size for file in run.rglob("*") if file.is_file()}
        kept = sum(size for file, size in sizes.items() if run / "checkpoints" in file.parents)
    except (OSError, KeyError):
        return None
    return Reading(seconds, memory / 1024, files, threads, sum(sizes.values()) / 2**20, kept / 2**20)


def step_now(run: Path) -> int:
    """The last step that the run has logged."""
    rows = RunFolder(run).stats() if (run / "stats.jsonl").is_file() else []
    return int(rows[-1]["step"]) if rows else 0


def soak(
    words: Sequence[str], run: Path, seconds: float, every: float
) -> tuple[list[Reading], list[tuple[float, int]], str]:
    """Train for the time. The readings, the step at times, and what was wrong with how it ended."""
    command = [sys.executable, "-m", "unitkit", "train", *words, f"steps={STEPS}", "--out", str(run), *OFTEN]
    with open(run.parent / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        started = time.perf_counter()
        readings: list[Reading] = []
        steps: list[tuple[float, int]] = []
        while (now := time.perf_counter() - started) < seconds and process.poll() is None:
            if (reading := read(process.pid, now, run)) is not None:
                readings.append(reading)
            if (run / "run.json").is_file() and (not steps or now - steps[-1][0] > seconds / PARTS / 4):
                steps.append((now, step_now(run)))
            time.sleep(min(every, max(0.0, seconds - now)))
        if process.poll() is not None:
            return readings, steps, f"it ended by itself: {(run.parent / 'log').read_text()[-2000:]}"
        process.send_signal(signal.SIGTERM)
        status = process.wait(120)
    if status != 128 + signal.SIGTERM:
        return readings, steps, f"SIGTERM ended it with status {status}: {(run.parent / 'log').read_text()[-2000:]}"
    last = step_of(RunFolder(run).latest().name) or 0
    resume = ["train", "--resume", "--out", str(run), f"steps={last + 20}"]
    again = subprocess.run([sys.executable, "-m", "unitkit", *resume], capture_output=True, text=True)
    if again.returncode or f"steps {last} to {last + 20}" not in again.stdout:
        return readings, steps, f"it could not be resumed at step {last}: {again.stderr or again.stdout}"
    return readings, steps, ""


def judged(readings: Sequence[Reading], steps: Sequence[tuple[float, int]], seconds: float) -> list[str]:
    """Print the parts. What is wrong with them."""
    parts = [[r for r in readings if part <= r.seconds / seconds * PARTS < part + 1] for part in range(PARTS)]
    print(f"{'minutes':>9}{'steps':>9}{'MiB':>9}{'most MiB':>10}{'files':>7}{'threads':>9}{'run MiB':>9}{'steps/s':>9}")
    rows = []
    for part, found in enumerate(parts):
        if not found:
            continue
        memory, files, threads = (statistics.median(values) for values in list(zip(*found, strict=True))[1:4])
        at = [each for each in steps if part <= each[0] / seconds * PARTS < part + 1]
        pace = (at[-1][1] - at[0][1]) / (at[-1][0] - at[0][0]) if len(at) > 1 else float("nan")
        rows.append((memory, files, threads, statistics.median(r.checkpoints_MiB for r in found), pace))
        print(
            f"{(part + 1) * seconds / PARTS / 60:9.0f}{at[-1][1] if at else 0:9}{memory:9.1f}"
            f"{max(r.MiB for r in found):10.1f}{files:7.0f}{threads:9.0f}{found[-1].run_MiB:9.1f}{pace:9.2f}"
        )
    if len(rows) < PARTS:
        return ["there is not a reading in every part"]
    early, late = rows[WARM], rows[-1]
    wrong = []
    if late[0] > early[0] + max(MIB, SHARE * early[0]):
        wrong.append(f"memory grew from {early[0]:.1f} to {late[0]:.1f} MiB")
    if late[1] > early[1]:
        wrong.append(f"open files grew from {early[1]:.0f} to {late[1]:.0f}")
    if late[2] > early[2]:
        wrong.append(f"threads grew from {early[2]:.0f} to {late[2]:.0f}")
    if late[3] > 1.01 * early[3] + 1:
        wrong.append(f"checkpoints grew from {early[3]:.1f} to {late[3]:.1f} MiB")
    if late[4] < early[4] / 2:
        wrong.append(f"steps a second fell from {early[4]:.2f} to {late[4]:.2f}")
    return wrong


def main(words: Sequence[str] | None = None) -> int:
    """Train, read, print. 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--every", type=float, default=10.0, metavar="SECONDS", help="between readings")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="all readings")
    parser.add_argument("words", nargs="*", help="of the training, after --: a recipe, knobs, options")
    o = parser.parse_args(words)
    seconds = o.hours * 3600
    with tempfile.TemporaryDirectory() as folder:
        readings, steps, end = soak(o.words or ["unit_faces"], Path(folder) / "run", seconds, o.every)
    if o.csv and readings:
        with open(o.csv, "w", newline="") as file:
            csv.writer(file).writerows([Reading._fields, *readings])
    wrong = judged(readings, steps, seconds) + ([end] if end else [])
    print("\n".join(f"wrong: {each}" for each in wrong) or "flat, stopped with a checkpoint, resumed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
