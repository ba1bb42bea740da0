"""Plans of trainings, one command each: what is missing is trained, resumed or measured, and what is there tabulated.

A plan is a list of cells. A cell is a recipe with words of a command line, trained once for each seed in
OUT/STUDY/CELL/seed-N, and measured by the metrics that its study asks for beside the recipe's own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from statistics import fmean, stdev

import torch
from measuring import clock, trainer_of
from torch.utils.flop_counter import FlopCounterMode

from unitkit import Spec, UserError
from unitkit.ablation.folder import Figure, figures_of, last_evaluation
from unitkit.check import check
from unitkit.networks.bounded import Meta
from unitkit.recipe_file import RecipeFile, parse_knobs, read_recipe_file
from unitkit.runs.folder import RunFolder

PACE = "pace.json"  # of a study: seconds a step of each cell
RECIPES = Path(__file__).parent.parent / "recipes"


@dataclass(frozen=True)
class Column:
    """A column of a table: a figure of a metric, times `times`, with so many digits."""

    head: str
    metric: str
    figure: str
    times: float = 1.0
    digits: int = 2


@dataclass(frozen=True)
class Cell:
    """A setting: its name in tables, its recipe, and the words that follow it, without those of data."""

    name: str
    recipe: str
    words: tuple[str, ...] = ()
    seeds: int = 1
    without: tuple[str, ...] = ()  # metrics of the study that its model cannot be measured by


@dataclass(frozen=True)
class Study:
    """Cells that one table compares.

    Attributes:
        name: its folder, and what the command line calls it.
        words: of all its cells, but knobs that a cell gives itself; `{data}` stands for the folder of data.
        more: metrics that are measured beside those of the columns.
    """

    name: str
    cells: Sequence[Cell]
    columns: Sequence[Column]
    words: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    options: tuple[str, ...] = ("--precision", "auto")


@dataclass(frozen=True)
class Job:
    """A training of a cell with one seed."""

    study: Study
    cell: Cell
    seed: int
    folder: Path
    words: tuple[str, ...]

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.folder)

    @property
    def there(self) -> bool:
        """Whether its training has begun."""
        return (self.folder / "run.json").is_file()

    @property
    def otherwise(self) -> list[str]:
        """In what the run that is there differs from what the plan now asks for, but where its data lie."""
        if not self.there:
            return []
        record, file = self.run.record, recipe_file(self.cell.recipe)
        wanted, defaults = file.kept(file.values(*parse_knobs(self.words))), file.kept(file.values())
        known = {**defaults, **record.get("knobs", {}), "recipe": record.get("recipe"), "seed": record.get("seed")}
        asked = {**wanted, "recipe": self.cell.recipe, "seed": self.seed}
        return [name for name, value in asked.items() if name != "data" and known.get(name) != value]

    @property
    def trained(self) -> bool:
        found = last_evaluation(self.run)
        return found is not None and found["step"] >= self.run.record["steps"] and not self.otherwise

    @property
    def measured(self) -> bool:
        if not self.trained or (found := last_evaluation(self.run)) is None:
            return False
        columns = [each for each in self.study.columns if each.metric not in self.cell.without]
        return all(each.figure in found["metrics"].get(each.metric, {}).get("figures", {}) for each in columns)

    def check(self) -> None:
        """Open the data and check the recipe. Raises `UserError`."""
        file = recipe_file(self.cell.recipe)
        check(file.build(file.values(*parse_knobs(self.words))))

    def do(self, threads: int, device: str = "auto") -> str:
        """Train what is not trained, measure what is not measured; what went wrong, or nothing."""
        recipe = str(recipe_file(self.cell.recipe).path)
        if names := self.otherwise:
            return f"{self.folder} was trained with other {', '.join(names)} than the plan now has: move it away"
        if not self.trained:
            words = ["--resume"] if self.there else [recipe, *self.words, "--seed", str(self.seed), *self.study.options]
            if said := self._unitkit(threads, "train", *words, "--device", device, "--out", str(self.folder)):
                return said
        if not self.measured:
            every = dict.fromkeys((*(column.metric for column in self.study.columns), *self.study.more))
            wanted = ", ".join(metric for metric in every if metric not in self.cell.without)
            return self._unitkit(threads, "evaluate", str(self.folder), "--device", device, "--metrics", wanted)
        return ""

    def _unitkit(self, threads: int, *words: str) -> str:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with open(self.folder.parent / f"{self.folder.name}.log", "a", encoding="utf-8") as log:
            command = [sys.executable, "-m", "unitkit", *words]
            ended = subprocess.run(command, stdout=log, stderr=log, env=environment, check=False)
        return f"{words[0]} ended with status {ended.returncode}: see {log.name}" if ended.returncode else ""

    def value(self, column: Column) -> float | None:
        found = last_evaluation(self.run)
        figure = figures_of(found).get(Figure(column.metric, column.figure)) if found else None
        return None if figure is None else figure * column.times

    @cached_property
    def network(self) -> tuple[float, float | None]:
        """Millions of parameters, a shared one counted once, and GFLOP of a translation `ab` of one image, if any."""
        found, record = last_evaluation(self.run), self.run.record
        assert found is not None, "asked of what is trained"
        with Meta(), torch.no_grad(), FlopCounterMode(display=False) as counter:
            model = Spec.from_json(record["model"]).build().eval()
            with suppress(UserError):  # of a model that does not translate
                model(torch.empty(1, model.channels["a"], *found["size"]), "ab")
        flop = counter.get_total_flops()
        return sum(p.numel() for p in model.parameters()) / 1e6, flop / 1e9 if flop else None


@lru_cache
def recipe_file(name: str) -> RecipeFile:
    """A shipped recipe, read and run once."""
    return read_recipe_file(RECIPES / f"{name}.py")


def jobs(study: Study, out: Path, data: str, seeds: int = 0) -> list[Job]:
    """All trainings of a study: first one of each cell, then the second of each."""
    found = []
    for seed in range(max(seeds or cell.seeds for cell in study.cells)):
        for cell in study.cells:
            if seed < (seeds or cell.seeds):
                own = {word.partition("=")[0] for word in cell.words}
                common = (word for word in study.words if word.partition("=")[0] not in own)
                words = tuple(word.replace("{data}", data) for word in (*common, *cell.words))
                found.append(Job(study, cell, seed, out / study.name / cell.name / f"seed-{seed}", words))
    return found


def table(study: Study, out: Path, data: str, seeds: int = 0) -> str:
    """What is there, as Markdown: means over seeds, and standard deviations where there are several."""
    about = ["precision", "M parameters", "GFLOP", "s/step", "minutes", "peak, MiB"]
    rows = [["", "seeds", *(column.head for column in study.columns), *about]]
    every, paces = jobs(study, out, data, seeds), json.loads(_read(out / study.name / PACE) or "{}")
    for cell in study.cells:
        own = [job for job in every if job.cell == cell]
        done = [job for job in own if job.trained]
        cells = [_mean([job.value(column) for job in done], column.digits) for column in study.columns]
        count = str(len(done)) if len(done) == len(own) else f"{len(done)} of {len(own)}"
        sizes = [_mean([job.network[place] for job in done[:1]], 2) for place in (0, 1)]
        memory = _mean([job.run.record.get("peak_memory", 0) / 2**20 for job in done[:1]], 0)
        pace = paces.get(cell.name)
        minutes = pace * done[0].run.record["steps"] / 60 if pace and done else None
        precision = ", ".join({job.run.record["precision"]: 0 for job in done}) or "-"
        rows.append([cell.name, count, *cells, precision, *sizes, _mean([pace], 3), _mean([minutes], 0), memory])
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def measure_pace(todo: Sequence[Job], file: Path, rounds: int, device: str) -> None:
    """Keep how many seconds a step of each cell takes, the mean of these rounds, in which all take one in turn.

    For a time when nothing else runs: those that trainings log are of a shared machine. Rounds are best a multiple of
    16, the steps between two of a lazy regulariser; a first one warms up, and is not counted. Players that come in
    later in a training are not timed. Ends where a training has fewer steps.
    """
    with tempfile.TemporaryDirectory() as folder:
        trainers = {}
        for job in todo:
            options, words = job.study.options, [str(recipe_file(job.cell.recipe).path), *job.words]
            precision = options[options.index("--precision") + 1] if "--precision" in options else "fp32"
            trainers[job.cell.name] = trainer_of(words, Path(folder) / job.cell.name, device, precision)
        if short := [name for name, trainer in trainers.items() if trainer.recipe.steps <= rounds]:
            sys.exit(f"error: {rounds} steps after a first one are more than a training has of {', '.join(short)}")
        seconds: dict[str, list[float]] = {name: [] for name in trainers}
        for number in range(rounds + 1):
            for name, trainer in trainers.items():
                seconds[name].append(clock(partial(trainer.step, number), trainer.device))
    found = {name: fmean(times[1:]) for name, times in seconds.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**json.loads(_read(file) or "{}"), **found}, indent=1))


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def _mean(values: Iterable[float | None], digits: int) -> str:
    values = list(values)
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" ± {stdev(known):.{digits}f}" if len(known) > 1 else ""
    fewer = f" ({len(known)} of {len(values)})" if len(known) < len(values) else ""
    return f"{fmean(known):.{digits}f}{spread}{fewer}"


def main(doc: str | None, studies: Sequence[Study], words: Sequence[str] | None = None) -> int:
    """The command line of a plan."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", default="../shared/data", help="the folder of real images")
    parser.add_argument("--studies", default=",".join(study.name for study in studies))
    parser.add_argument("--cells", default="", help="these alone, with ; between, for names have commas")
    parser.add_argument("--seeds", type=int, default=0, help="in place of those of each cell")
    parser.add_argument("--workers", type=int, default=1, help="trainings at once, which share the cores")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--pace", type=_rounds, default=0, metavar="N", help="time N steps of each cell, train nothing")
    parser.add_argument("--table", action="store_true", help="print what is there, train nothing")
    given = parser.parse_args(words)
    wanted, known = given.studies.split(","), {study.name: study for study in studies}
    if unknown := [name for name in wanted if name not in known]:
        parser.error(f"no study is called {', '.join(unknown)}: choose from {', '.join(known)}")
    failed = 0
    for study in (known[name] for name in wanted):
        names = [cell.name for cell in study.cells]
        cells = given.cells.split(";") if given.cells else names
        if unknown := [name for name in cells if name not in names]:
            parser.error(f"{study.name} has no cell '{unknown[0]}': choose from {'; '.join(names)}")
        chosen = [job for job in jobs(study, given.out, given.data, given.seeds) if job.cell.name in cells]
        if given.pace:
            first = [job for job in chosen if job.seed == 0]
            _check(first)
            measure_pace(first, given.out / study.name / PACE, given.pace, given.device)
        elif not given.table and (todo := [job for job in chosen if not job.measured]):
            failed += _do(todo, given.workers, given.device)
        print(f"\n## {study.name}\n\n{table(study, given.out, given.data, given.seeds)}")
    return 1 if failed else 0


def _do(todo: Sequence[Job], workers: int, device: str) -> int:
    """Do all of them, whatever becomes of one; how many failed. Ends at once where one cannot begin."""
    _check(todo)
    threads = max(1, (os.cpu_count() or 1) // workers)
    failed = 0
    with ThreadPoolExecutor(workers) as pool:
        for job, said in zip(todo, pool.map(partial(Job.do, threads=threads, device=device), todo), strict=True):
            failed += bool(said)
            print(f"{job.study.name} {job.cell.name} seed {job.seed}: {said or 'done'}", flush=True)
    return failed


def _rounds(text: str) -> int:
    if not text.isdigit() or text == "0":
        raise argparse.ArgumentTypeError(f"expected how many steps, such as 16, not '{text}'")
    return int(text)


def _check(todo: Sequence[Job]) -> None:
    """End where one of them cannot begin."""
    try:
        for job in {job.cell: job for job in todo}.values():
            job.check()
    except UserError as error:
        sys.exit(f"error: {error}")
