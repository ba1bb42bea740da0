"""`report.html`: a run in one file that asks no server for anything, for people to look at and to pass on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...templates import write_page
from ..folder import RunFolder
from ..report import figures_key, picks, protocol_line, tables, warnings
from ..samples import BEST_AND_WORST, Layout
from ..steps import in_order
from .curves import loss_charts, watched_charts
from .facts import facts_of, knobs_of, progress_of, rest_of
from .grids import grid_of, grids_of, shown_rows, wiped

SECONDS = 30  # between two looks of the page at itself while the training goes on


def write_report(run: RunFolder, *, training: bool = False) -> None:
    """Write `report.html`: sample grids, metrics, curves, knobs and facts.

    Args:
        training: whether the training goes on, so that the page should be loaded again.

    Raises:
        UserError: a file of the run that is damaged, or a disk that refuses.
    """
    record, stats = run.record, run.stats()
    labels: Mapping[str, str] = record.get("labels", {})
    paths = [path for path in in_order(run.samples.glob("step-*.png")) if path.is_file()]
    grids = grids_of(paths)
    rows = shown_rows(grids[-1].layout, labels) if grids else []
    ends = grid_of(run.samples / BEST_AND_WORST, whole=True)
    write_page(
        run.path / "report.html",
        "run.html.jinja",
        title=record.get("recipe", run.path.name),
        progress=progress_of(record, stats, training),
        seconds=SECONDS,
        facts=facts_of(record, stats),
        grids=grids,
        shown=[{"step": grid.step, "uri": grid.uri if grid is not grids[-1] else None} for grid in grids],
        drawn=len(paths),
        rows=rows,
        wiped=wiped(rows),
        ends=ends if ends and ends.layout else None,
        ends_rows=shown_rows(ends.layout, labels) if ends else [],
        evaluations=[_section(entry, ends.layout if ends else None) for entry in reversed(run.evaluations())],
        picks=picks(run),
        watched=watched_charts(run.watched(), record.get("watch", {})),
        losses=loss_charts(stats),
        knobs=knobs_of(record),
        model=record.get("model", {}),
        record=rest_of(record),
    )


def _section(entry: Mapping[str, Any], ends: Layout | None) -> dict[str, Any]:
    """What the page says of an evaluation; `ends` are the best and the worst images, of this one or another."""
    matrices = [_confusion(name, result) for name, result in entry["metrics"].items() if "details" in result]
    protocols = {name: result["protocol"] for name, result in entry["metrics"].items() if result["protocol"]}
    return {
        "checkpoint": entry["checkpoint"],
        "data": entry["data"]["name"],
        "ends": ends is not None and any(ends.of == figures_key(entry, name) for name in entry["metrics"]),
        "tables": list(tables(entry["metrics"])),
        "confusions": [each for each in matrices if each],
        "protocol": protocol_line(entry),
        "whole": {**{name: value for name, value in entry.items() if name != "metrics"}, **protocols},
        "warnings": warnings(entry),
    }


def _confusion(name: str, result: Mapping[str, Any]) -> dict[str, Any] | None:
    """A metric's confusion matrix, where it has one, with the share of its row that each count is."""
    counts = result["details"].get("confusion")
    if not _is_matrix(counts):  # another metric's own
        return None
    rows = [[(count, count / max(sum(row), 1)) for count in row] for row in counts]
    return {"name": name, "rows": rows}


def _is_matrix(counts: Any) -> bool:
    """Whether JSON is a table of counts, as many columns as rows."""
    if not (isinstance(counts, list) and counts and all(isinstance(row, list) for row in counts)):
        return False
    return all(len(row) == len(counts) and all(type(each) is int and each >= 0 for each in row) for row in counts)
