"""`unitkit data check`: every image of some data looked at, and what is wrong with them said."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...data import open_data
from ...data.checking.findings import SEVERITIES, Finding, findings
from ...data.checking.page import page
from ...data.checking.summary import Row, rows, to_json
from ...data.checking.survey import survey
from ...system.errors import UserError
from ...system.files import refuse_unwritable, replacing
from ...system.output import screen
from ..progress import looking

SHOWN = 3  # images that a line on the terminal names
SIZE = 64  # of what is drawn
LONGEST = 80  # characters of the data that the page's name takes
TITLE = b": data check</title>"  # of every page
COLOURS = {"error": "red", "warning": "yellow", "note": "blue"}


def check_data(
    source: str, out: Path | None, for_programs: Path | None, labels: str | None, near: float, nan: float | None = None
) -> bool:
    """Look at all images, print the table and the findings, write the page; whether no finding is an error.

    Raises `UserError` for data that cannot be opened, for files that cannot be written, and for a page in place of
    another file.
    """
    console = screen(soft_wrap=False)
    data = open_data(source, size=SIZE, labels=labels, nan=nan, least=1)
    name = re.sub(r"[^\w.-]+", "-", source)[-LONGEST:].strip("-.")
    out = out or Path(f"data-check-{name or 'data'}.html")
    _refuse_other_file(out)
    for file in filter(None, (out, for_programs)):
        refuse_unwritable(file)
    with looking(screen(stderr=True)) as looked:
        seen = survey(data, looked)
    found = findings(seen, near)
    console.print(_table(rows(seen)))
    for each in found:
        _show(console, each)
    with replacing(out) as file:
        file.write_text(page(seen, found), "utf-8", "backslashreplace")
    if for_programs:
        with replacing(for_programs) as file:
            file.write_text(json.dumps(to_json(seen, found), indent=2) + "\n", "utf-8")
    counts = {severity: sum(each.severity == severity for each in found) for severity in SEVERITIES}
    said = ", ".join(f"{count} {severity}{'s' * (count > 1)}" for severity, count in counts.items() if count)
    console.print(f"{said or 'nothing is wrong'}; the report is {out}", markup=False, soft_wrap=True)
    return not counts["error"]


def _refuse_other_file(out: Path) -> None:
    """Raise `UserError` for a file that is there, and no page of an earlier check."""
    if out.is_file():
        with open(out, "rb") as file:
            if TITLE not in file.read(4096):
                raise UserError(f"{out} is there, and no page of data check: name another file with --out")


def _table(found: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("domain", "split"):
        table.add_column(name, overflow="fold")
    table.add_column("images", justify="right")
    for name in ("sizes: least / median / most", "modes", "values", "classes"):
        table.add_column(name, overflow="fold")
    for row in found:
        words = (f"{row.letter} {row.label}", row.split, str(row.images), row.sizes, row.kinds, row.values)
        table.add_row(*map(escape, (*words, row.classes_in_short)))
    return table


def _show(console: Console, finding: Finding) -> None:
    colour = COLOURS[finding.severity]
    console.print(f"[{colour}]{finding.severity}[/] {escape(finding.text)}", soft_wrap=True)
    for name in finding.images[:SHOWN]:
        console.print(f"    {name}", markup=False, soft_wrap=True)
    if len(finding.images) > SHOWN:
        console.print(f"    and {len(finding.images) - SHOWN} more")
    console.print(f"  {finding.way_out}", markup=False, soft_wrap=True)
