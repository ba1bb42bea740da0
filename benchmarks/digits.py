"""Domain adaptation on digits: every method on every pair of domains, and the table of the poster.

    python benchmarks/digits.py OUT --data ../shared/data [--pairs mnist-usps,usps-mnist] [--methods unit,unit@plain]
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

from unitkit.ablation.folder import last_evaluation
from unitkit.check import check as check_recipe
from unitkit.recipe_file import parse_knobs, read_recipe_file
from unitkit.runs.folder import RunFolder, best_row
from unitkit.system.errors import UserError

METHODS = ("classifier", "dann", "dtn", "cogan", "unit", "classifier@oracle")
RECIPES = Path(__file__).parent.parent / "recipes"


def words(method: str, pair: str, data: str | None, knobs: Sequence[str]) -> tuple[Path, list[str]]:
    """The recipe file of a method, and what the command line says of its knobs."""
    (source, _, target), (name, at, preset) = pair.partition("-"), method.partition("@")
    roles = [f"source={source}", f"target={target}"]
    optional = ([at + preset] if at else []) + ([f"data={data}"] if data else [])
    return RECIPES / f"digits_{name}.py", [*optional, *roles, *knobs]


def ready(method: str, pair: str, data: str | None, knobs: Sequence[str]) -> None:
    """Open the data and check the recipe, before anything is trained. Raises `UserError`."""
    path, given = words(method, pair, data, knobs)
    file = read_recipe_file(path)
    preset, values = parse_knobs(given)
    check_recipe(file.build(file.values(preset, values)))


def train(out: Path, method: str, pair: str, given: argparse.Namespace) -> bool:
    """Train a method on a pair, every seed that is not done yet; whether all of them are done."""
    path, knobs = words(method, pair, given.data, given.knobs)
    where = ["--out", str(out / method / pair), "--seeds", str(given.seeds), "--workers", str(given.workers)]
    return subprocess.run([sys.executable, "-m", "unitkit", "ablate", str(path), *knobs, *where]).returncode == 0


def figures(run: RunFolder) -> tuple[float, float, float] | None:
    """Test accuracy in the target, in percent: last step, picked by the source, picked by itself. None if not done."""
    measured = last_evaluation(run) if (run.path / "run.json").exists() else None
    if measured is None:
        return None
    rows, first = run.watched(), next(iter(run.record["watch"]))
    last = measured["metrics"]["accuracy(b)"]["figures"]["accuracy"]
    chosen = (rows[best_row(rows, metric, True)]["accuracy(b)"]["accuracy"] for metric in (first, "accuracy(b)"))
    return 100 * last, *(100 * value for value in chosen)


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
            if folder.parent.name == "target_oracle":
                columns[1] = ""  # its source is the target
            lines.append(f"| {folder.parent.name} | {folder.name} | {len(done)} | {' | '.join(columns)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("knobs", nargs="*", help="for every recipe, such as steps=500")
    parser.add_argument("--data", help="folder with the files of mnist, usps, svhn; for drawn digits, none")
    parser.add_argument("--pairs", default="mnist-usps,usps-mnist", help="SOURCE-TARGET, with commas between")
    parser.add_argument("--methods", default=",".join(METHODS), help="METHOD or METHOD@PRESET, with commas between")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="train nothing, print the table")
    given = parser.parse_intermixed_args(argv)
    methods, pairs = given.methods.split(","), given.pairs.split(",")
    if "=" in given.out.name:
        parser.error(f"OUT is missing: '{given.out}' is a knob, and the folder of the results comes first")
    if unknown := {method.partition("@")[0] for method in methods} - {each.partition("@")[0] for each in METHODS}:
        parser.error(f"no method {', '.join(sorted(unknown))}: choose among {', '.join(METHODS)}")
    if given.table:
        if not given.out.is_dir():
            parser.error(f"there is no folder '{given.out}'")
        print(table(given.out))
        return
    cells = [(method, pair) for pair in pairs for method in methods]
    try:
        for method, pair in cells:
            ready(method, pair, given.data, given.knobs)
    except UserError as error:
        parser.error(f"{method} on {pair}: {error}")
    failed = [f"{method} on {pair}" for method, pair in cells if not train(given.out, method, pair, given)]
    print(table(given.out))
    if failed:
        sys.exit(f"not all done: {', '.join(failed)}; give the same command again to go on")


if __name__ == "__main__":
    main()
