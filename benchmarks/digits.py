"""Domain adaptation on digits: every method on every pair of domains, and the table of the poster.

    python benchmarks/digits.py OUT --data ../shared/data [--pairs mnist-usps,usps-mnist] [--methods unit,dann]
                                [--seeds 3] [--workers 2] [knob=value ...]

Each method and pair is an ablation over seeds in OUT/METHOD/SOURCE-TARGET; what is done stays done, so the command can
be stopped and given again. `--table` trains nothing and prints what is there. Figures are the target's test accuracy in
percent, mean and standard deviation over seeds: of the last step; of the step, among those watched, that is best on
held-out images of the source; and of the step that is best on the target's test images, which leaks their classes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from unitkit.ablation import last_evaluation
from unitkit.run import RunFolder

METHODS = ("source_only", "dann", "dtn", "cogan", "unit", "target_oracle")
RECIPES = Path(__file__).parent.parent / "recipes"


def train(out: Path, method: str, pair: str, data: str, seeds: int, workers: int, knobs: list[str]) -> None:
    """Train a method on a pair, every seed that is not done yet."""
    source, target = pair.split("-")
    roles = [f"target={target}"] if method == "target_oracle" else [f"source={source}", f"target={target}"]
    recipe = str(RECIPES / f"digits_{method}.py")
    where = ["--out", str(out / method / pair), "--seeds", str(seeds), "--workers", str(workers)]
    command = [sys.executable, "-m", "unitkit", "ablate", recipe, *roles, f"data={data}", *knobs, *where]
    subprocess.run(command, check=True)


def figures(run: RunFolder) -> tuple[float, float, float] | None:
    """Test accuracy in the target, in percent: last step, picked by the source, picked by itself. None if not done."""
    measured = last_evaluation(run) if (run.path / "run.json").exists() else None
    if measured is None:
        return None
    rows = run.watched()
    told = {letter: [row[f"accuracy({letter})"]["accuracy"] for row in rows] for letter in "ab"}
    picked = told["b"][max(range(len(rows)), key=told["a"].__getitem__)]  # the first of equals
    last = measured["metrics"]["accuracy(b)"]["figures"]["accuracy"]
    return 100 * last, 100 * picked, 100 * max(told["b"])


def spread(values: list[float]) -> str:
    """Mean and standard deviation; of one seed the value alone."""
    return f"{fmean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def table(out: Path) -> str:
    """Every folder OUT/METHOD/PAIR as a line of Markdown."""
    lines = [
        "| method | pair | seeds | last step | picked by the source | picked by the target's test |",
        "|" + "---|" * 6,
    ]
    for folder in sorted(path.parent for path in out.glob("*/*/ablation.json")):
        found = [figures(RunFolder(path.parent)) for path in sorted(folder.glob("*/seed-*/run.json"))]
        done = [each for each in found if each]
        if done:
            columns = [spread([each[i] for each in done]) for i in range(3)]
            lines.append(f"| {folder.parent.name} | {folder.name} | {len(done)} | {' | '.join(columns)} |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("knobs", nargs="*", help="for every recipe, such as steps=500")
    parser.add_argument("--data", help="folder with the files of mnist, usps, svhn")
    parser.add_argument("--pairs", default="mnist-usps,usps-mnist", help="SOURCE-TARGET, with commas between")
    parser.add_argument("--methods", default=",".join(METHODS), help="with commas between")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="train nothing, print the table")
    given = parser.parse_intermixed_args(words)
    methods, pairs = given.methods.split(","), given.pairs.split(",")
    if unknown := set(methods) - set(METHODS):
        parser.error(f"no method {', '.join(sorted(unknown))}: choose among {', '.join(METHODS)}")
    if wrong := [pair for pair in pairs if pair.count("-") != 1]:
        parser.error(f"'{wrong[0]}' is no pair SOURCE-TARGET, such as mnist-usps")
    if not given.table:
        if given.data is None:
            parser.error("name the folder with the files: --data FOLDER")
        for pair in pairs:
            for method in methods:
                train(given.out, method, pair, given.data, given.seeds, given.workers, given.knobs)
    print(table(given.out))


if __name__ == "__main__":
    main()
