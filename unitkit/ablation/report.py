"""An ablation's report, written into its folder: `ablation.csv`, `ablation.md`, `plots/` and `ablation.html`."""

from __future__ import annotations

import base64
import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..runs.page.side_by_side import drawn
from ..runs.report import shown
from ..system.files import replacing
from ..templates import write_page
from ..templates.markdown import in_markdown, markdown_table
from .folder import Figure
from .grid import label
from .heatmaps import heat_maps
from .images import strips_of
from .plots import write_plots
from .statistics import Findings, against_baseline, mean_sd, read_findings

FEW = 3  # of a metric with at most so many figures all are shown beside the main one

Table = tuple[str, list[str], list[list[str]]]  # title, column heads, rows of text

WEIGHTS = {"ema": "their moving average", "last": "of the last step"}


def write_ablation_report(out: Path) -> None:
    """Write the report of the ablation in the folder `out`, as far as its cells have come.

    Raises:
        UserError: a folder that holds no ablation or a damaged one, or a disk that refuses.
    """
    findings = read_findings(out)
    _write_csv(findings, out / "ablation.csv")
    plots = write_plots(findings)
    tables = [settings_table(findings), comparison_table(findings), cells_table(findings)]
    notes = [settings_note(findings), comparison_note(findings), ""]
    protocol = protocol_of(findings)
    title = f"Ablation of {findings.ablation.record['recipe']}"
    sections = [
        f"## {in_markdown(name)}\n\n{markdown_table(head, rows)}\n" + (f"\n{in_markdown(note)}\n" if note else "")
        for (name, head, rows), note in zip(tables, notes, strict=True)
        if rows
    ]
    images = "".join(f"\n![{path.stem}](plots/{path.stem}.png)\n" for path in plots)
    facts = "\n".join(f"- {in_markdown(name)}: {in_markdown(text)}" for name, text in protocol)
    with replacing(out / "ablation.md") as file:
        file.write_text(
            "\n".join([f"# {in_markdown(title)}\n", *sections, images, f"## Protocol\n\n{facts}\n"]),
            "utf-8",
            "backslashreplace",  # a path may hold bytes that are no text
        )
    strips, left_out = strips_of(findings)
    write_page(
        out / "ablation.html",
        "ablation.html.jinja",
        title=title,
        plots=[{"name": path.stem, "svg": base64.b64encode(path.read_bytes()).decode()} for path in plots],
        heat_maps=heat_maps(findings),
        tables=[(each, note) for each, note in zip(tables, notes, strict=True) if each[2]],
        strips=drawn(strips),
        notes=left_out,
        protocol=protocol,
    )


def settings_table(findings: Findings) -> Table:
    """A row a setting: how many seeds finished, the main figure's mean and standard deviation, then other figures."""
    main, others = findings.main, headlines(findings)
    unit = findings.unit(main)
    rows = []
    for setting in findings.settings:
        ours = [each for each in findings.cells if each.cell.setting == setting]
        finished = sum(each.state == "done" for each in ours)
        mean, sd = mean_sd(list(findings.by_seed(setting, main).values()))
        cells = [_named(findings, setting), f"{finished} of {len(ours)}", _shown(unit, mean), _shown(unit, sd)]
        for other in others:
            mean, sd = mean_sd(list(findings.by_seed(setting, other).values()))
            spread = "" if sd is None else f" ± {_shown(findings.unit(other), sd)}"
            cells.append(_shown(findings.unit(other), mean) + spread)
        rows.append(cells)
    head = ["setting", "finished", f"{findings.words(main)}: mean", "sd", *map(findings.words, others)]
    return "Settings", head, rows


def settings_note(findings: Findings) -> str:
    """How to read the table of settings."""
    better = "Higher" if findings.higher else "Lower"
    return (
        f"{better} {findings.words(findings.main)} is better. sd: standard deviation over the seeds that finished, "
        "with n - 1; also what stands behind ±. Every figure of every cell is in ablation.csv."
    )


def comparison_table(findings: Findings) -> Table:
    """A row a setting other than the baseline: the mean difference, its interval, the pairs, the verdict."""
    unit = findings.unit(findings.main)
    rows = []
    for setting, found in against_baseline(findings):
        ends = [_signed(unit, end) for end in found.interval] if found.interval else []
        rows.append(
            [
                label(setting),
                "-" if found.difference is None else _signed(unit, found.difference),
                " to ".join(ends) or "-",
                str(found.n),
                found.verdict,
            ]
        )
    head = ["setting", "difference", "95 % confidence interval", "pairs", "verdict"]
    return f"Compared with the baseline, {label(findings.baseline)}", head, rows


def comparison_note(findings: Findings) -> str:
    """How to read the comparison."""
    count = len(findings.settings) - 1
    points = " in percentage points" if findings.unit(findings.main) == "%" else ""
    corrected = f" at 1 - 0.05/{count} each (Bonferroni), so that all {count} hold together" if count > 1 else ""
    main = findings.words(findings.main)
    return (
        f"Setting minus baseline in {main}{points}, paired by seed: the mean over the seeds that both finished. "
        f"Intervals: Student's t{corrected}. 'cannot tell': the interval holds 0, so the difference may be noise, or "
        "the seeds too few to see it."
    )


def cells_table(findings: Findings) -> Table:
    """The cells that are not done, or not measured by every metric, and why."""
    rows = [
        [label(each.cell.setting), str(each.cell.seed), each.state, each.reason or each.unmeasured]
        for each in findings.cells
        if each.state != "done" or each.unmeasured
    ]
    return "Cells that are not in these figures", ["setting", "seed", "state", "reason"], rows


def headlines(findings: Findings) -> list[Figure]:
    """The figures beside the main one: those of its own metric if they are few, and the first of every other metric."""
    main = findings.main.metric
    by_metric: dict[str, list[Figure]] = {}
    for name in findings.figures:
        by_metric.setdefault(name.metric, []).append(name)
    found = [by_metric.pop(main, [])]
    found += [names[:1] for names in by_metric.values()]
    if len(found[0]) > FEW:
        found[0] = []
    return [name for names in found for name in names if name != findings.main]


def protocol_of(findings: Findings) -> list[tuple[str, str]]:
    """Under what the figures were made, as (what, value); where the cells differ, every value there is."""
    record = findings.ablation.record
    entries = [each.entry for each in findings.done if each.entry]
    runs = [findings.ablation.run(each.cell).record for each in findings.done]
    counts = [
        f"{findings.words(findings.main)}: {', '.join(f'{n} of {reading}' for reading, n in result['n'].items())}"
        for entry in entries
        for name, result in entry["metrics"].items()
        if name == findings.main.metric
    ]
    return [
        ("recipe", f"{record['recipe']}, sha256 {record.get('sha256', '?')[:12]}"),
        ("fixed knobs", _knobs(record["fixed"]) or "the recipe's defaults"),
        (
            "swept knobs",
            "; ".join(f"{k} = {', '.join(map(str, values))}" for k, values in findings.swept.items()) or "none",
        ),
        ("seeds", str(record.get("seeds", "?"))),
        ("data", _distinct(f"{e['data']['name']} ({e['data']['fingerprint']}), split {e['split']}" for e in entries)),
        ("size", _distinct("x".join(map(str, entry["size"])) for entry in entries)),
        ("held-out images", _distinct(counts)),
        ("steps", _distinct(str(entry["step"]) for entry in entries)),
        ("weights", _distinct(WEIGHTS.get(entry.get("weights", ""), "?") for entry in entries)),
        ("batch", _distinct(str(run.get("batch", "?")) for run in runs)),
        ("precision", _distinct(str(run.get("precision", "?")) for run in runs)),
        ("device", _distinct(str(run.get("device", "?")) for run in runs)),
        ("versions", _distinct(_knobs(entry.get("versions", {})) for entry in entries)),
        ("command", record.get("command", "?")),
    ]


def _write_csv(findings: Findings, path: Path) -> None:
    figures = findings.figures
    with replacing(path) as place, open(place, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow([*findings.swept, "seed", "state", "step", *figures])
        for each in findings.cells:
            knobs = [each.cell.setting[name] for name in findings.swept]
            values = [each.figures.get(name, "") for name in figures]
            step = "" if each.step is None else each.step
            writer.writerow([*knobs, each.cell.seed, each.state, step, *values])


def _named(findings: Findings, setting: Mapping[str, Any]) -> str:
    return label(setting) + (" (baseline)" if setting == findings.baseline else "")


def _shown(unit: str, value: float | None) -> str:
    return "-" if value is None else shown(value, unit)


def _signed(unit: str, value: float) -> str:
    text = shown(value, unit)
    return f"+{text}" if value > 0 else text


def _knobs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _distinct(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(texts)) or "-"
