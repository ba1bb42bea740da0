"""Which cells of an ablation show the same held-out images side by side."""

from __future__ import annotations

from ..runs.page.side_by_side import Strip, side_by_side
from .grid import label
from .statistics import Findings

ROWS = 3
MOST = 24  # settings
PATHS = ("ab",)


def strips_of(findings: Findings) -> tuple[list[Strip], list[str]]:
    """The first held-out images of domain a, their ground truth, and their translations by every setting.

    A setting shows its first seed that is done. One whose model cannot be loaded is left out, and a note says so.

    Returns: as `side_by_side`.
    """
    first = {repr(each.cell.setting): each for each in reversed(findings.done)}
    shown = [first[repr(setting)] for setting in findings.settings if repr(setting) in first]
    columns = [
        (f"{label(each.cell.setting)} (seed {each.cell.seed})", findings.ablation.run(each.cell).latest())
        for each in shown[:MOST]
    ]
    strips, notes = side_by_side(columns, PATHS, ROWS)
    capped = [f"The first {MOST} of {len(shown)} settings are shown."] if len(shown) > MOST else []
    return strips, [*capped, *notes]
