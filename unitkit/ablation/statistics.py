"""What the cells of an ablation found, and the statistics of it: means over seeds, and settings paired by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runs.report import figure_title
from ..runs.steps import latest, step_of
from ..system.errors import UserError
from .folder import Ablation, Figure, figures_of, last_evaluation, read_ablation
from .grid import Cell

LEVEL = 0.95

Setting = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """How far a cell has come.

    Attributes:
        state: "done", "failed", "begun" or "waiting".
        step: of the last checkpoint, None without one.
        entry: the evaluation of a cell that is done.
        reason: why a cell failed.
    """

    cell: Cell
    state: str
    step: int | None
    entry: dict[str, Any] | None
    reason: str = ""

    @property
    def figures(self) -> dict[Figure, float]:
        """Empty for a cell that is not done."""
        return figures_of(self.entry) if self.entry else {}

    @property
    def unmeasured(self) -> str:
        """The metrics of a cell that is done which failed, and why."""
        results = self.entry["metrics"].items() if self.entry else ()
        return "; ".join(f"{name} not measured: {result['failed']}" for name, result in results if "failed" in result)


@dataclass(frozen=True)
class Findings:
    """An ablation's cells in the order of the grid, the seeds of a setting beside each other."""

    ablation: Ablation
    cells: list[Finding]

    @property
    def swept(self) -> dict[str, list[Any]]:
        """The values of each swept knob."""
        found: dict[str, list[Any]] = self.ablation.record["swept"]
        return found

    @property
    def baseline(self) -> Setting:
        """The setting that the others are compared with."""
        found: Setting = self.ablation.record["baseline"]
        return found

    @property
    def settings(self) -> list[Setting]:
        """Each setting once, in the order of the grid."""
        found: list[Setting] = []
        for each in self.cells:
            if each.cell.setting not in found:
                found.append(each.cell.setting)
        return found

    @property
    def done(self) -> list[Finding]:
        return [each for each in self.cells if each.state == "done"]

    @property
    def figures(self) -> list[Figure]:
        """All figures of all cells, in the order in which the recipe measures them."""
        return list(dict.fromkeys(name for each in self.done for name in each.figures))

    @property
    def main(self) -> Figure:
        """The figure that the settings are compared by; its metric's first, as long as only the metric is known."""
        wanted = self.ablation.main
        known = [each for each in self.figures if each.metric == wanted.metric and wanted.name in ("", each.name)]
        return next(iter(known), wanted)

    @property
    def higher(self) -> bool:
        """Whether more of the main figure is better."""
        higher: bool = self._said("higher", self.main.metric).get(self.main.name, True)
        return higher

    def unit(self, figure: Figure) -> str:
        """Of a figure: "dB", "%" for shares, or nothing."""
        unit: str = self._said("units", figure.metric).get(figure.name, "")
        return unit

    def words(self, figure: Figure) -> str:
        """A figure in the field's words."""
        title: str = self._said("title", figure.metric) or figure.metric
        first = next((each for each in self.figures if each.metric == figure.metric), None)
        return figure_title(title, figure.name, first=figure in (first, Figure(figure.metric, "")))

    def _said(self, what: str, metric: str) -> Any:
        """What the cells' evaluations say of a metric, such as its units; of one that gave figures, if there is one."""
        results = [each.entry["metrics"].get(metric, {}) for each in self.done if each.entry]
        results.sort(key=lambda result: not result.get("figures"))
        return results[0].get(what, {}) if results else {}

    def by_seed(self, setting: Mapping[str, Any], figure: Figure) -> dict[int, float]:
        """A figure by seed, for the seeds of a setting that are done."""
        ours = [each for each in self.done if each.cell.setting == setting]
        return {each.cell.seed: each.figures[figure] for each in ours if figure in each.figures}


@dataclass(frozen=True)
class Comparison:
    """A setting against the baseline, paired by seed.

    Attributes:
        n: the seeds that both finished.
        difference: the mean of setting minus baseline over those seeds, None without one.
        interval: its confidence interval, None for fewer than two seeds.
        verdict: "better", "worse", "cannot tell", or why there is no interval.
    """

    n: int
    difference: float | None
    interval: tuple[float, float] | None
    verdict: str


def read_findings(out: Path) -> Findings:
    """Everything that is known of the ablation in a folder. Raises `UserError` where there is none or a damaged one."""
    path = out / "ablation.json"
    if not path.is_file():
        raise UserError(f"{out} is not an ablation: it holds no ablation.json, which `unitkit ablate` leaves")
    ablation = Ablation(out, read_ablation(out))
    reasons = {each["folder"]: each["failed"] for each in ablation.record["cells"]}
    swept = ablation.record["swept"]

    def place(cell: Cell) -> tuple[list[int], int]:
        """In the order of the grid; a value that is not in it comes last."""
        values = [(swept[name], cell.setting[name]) for name in swept]
        return [known.index(value) if value in known else len(known) for known, value in values], cell.seed

    cells = sorted(ablation.cells, key=place)
    return Findings(ablation, [_finding(ablation, cell, reasons[cell.folder]) for cell in cells])


def _finding(ablation: Ablation, cell: Cell, reason: str | None) -> Finding:
    run = ablation.run(cell)
    last = latest(run.checkpoints)
    step = step_of(last.name) if last else None
    if ablation.done(cell):
        return Finding(cell, "done", step, last_evaluation(run))
    if reason:
        return Finding(cell, "failed", step, None, reason)
    return Finding(cell, "begun" if (run.path / "run.json").is_file() else "waiting", step, None)


def mean_sd(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The mean, None of nothing, and the standard deviation with n - 1, None of fewer than two values."""
    n = len(values)
    if not n:
        return None, None
    mean = sum(values) / n  # not fsum, which raises at infinities of both signs
    if n < 2:
        return mean, None
    return mean, math.sqrt(sum((value - mean) * (value - mean) for value in values) / (n - 1))


def averaged(settings: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The mean over several settings by seed, for the seeds that all of them finished.

    A seed that one setting lacks is left out: the others' mean would be of another mixture of settings.
    """
    seeds = [seed for seed in (settings[0] if settings else {}) if all(seed in each for each in settings)]
    return {seed: sum(each[seed] for each in settings) / len(settings) for seed in seeds}


def compare(
    setting: Mapping[int, float], baseline: Mapping[int, float], *, comparisons: int = 1, higher: bool = True
) -> Comparison:
    """A setting against the baseline over the seeds that both have, each figure by its seed.

    The interval is Student's t at 1 - 0.05 / comparisons (Bonferroni), so that as many intervals hold together with
    95 %. `higher` says that more is better.
    """
    differences = [value - baseline[seed] for seed, value in setting.items() if seed in baseline]
    mean, sd = mean_sd(differences)
    n = len(differences)
    if mean is None or sd is None:
        return Comparison(n, mean, None, "one seed: no interval" if n else "no seed in common")
    half = quantile(n - 1, comparisons) * sd / math.sqrt(n)
    low, high = mean - half, mean + half
    verdict = "cannot tell"  # also where a figure is not a number
    if low > 0 or high < 0:
        verdict = "better" if (low > 0) == higher else "worse"
    return Comparison(n, mean, (low, high), verdict)


def quantile(freedom: int, comparisons: int) -> float:
    """Student's t that a two-sided interval reaches to, where `comparisons` intervals share the 5 %."""
    from scipy.stats import t  # here, since it takes a second to load

    return float(t.ppf(1 - (1 - LEVEL) / (2 * comparisons), freedom))


def against_baseline(findings: Findings) -> list[tuple[Setting, Comparison]]:
    """Every other setting of the grid compared with the baseline by the main figure.

    All that are planned count for the correction, finished or not: the intervals do not widen as cells come in.
    """
    others = [setting for setting in findings.settings if setting != findings.baseline]
    reference = findings.by_seed(findings.baseline, findings.main)
    return [
        (
            setting,
            compare(
                findings.by_seed(setting, findings.main),
                reference,
                comparisons=len(others),
                higher=findings.higher,
            ),
        )
        for setting in others
    ]
