"""Ablations that were never trained: folders of copies of one run, with figures of one's own."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ACCURACY = "pixel_accuracy(ab, b)"

Figure = Callable[[Mapping[str, Any], int], float | None]


def ablation(
    out: Path, cell: Path, swept: Mapping[str, Sequence[Any]], seeds: int, figure: Figure, higher: bool = True
) -> Path:
    """An ablation's folder; `figure` gives a cell's main figure, None for one that failed."""
    cells = []
    for seed, values in itertools.product(range(seeds), itertools.product(*swept.values())):
        setting = dict(zip(swept, values, strict=True))
        name = re.sub(r"[^\w=.-]", "_", "-".join(f"{k}={v}" for k, v in setting.items())) + f"/seed-{seed}"
        value = figure(setting, seed)
        cells.append(
            {"folder": name, "setting": setting, "seed": seed, "failed": "it <b>broke</b>" if value is None else None}
        )
        if value is not None:
            shutil.copytree(cell, out / name)
            run = json.loads((out / name / "run.json").read_text())
            own = {**run, "knobs": {**run["knobs"], **setting}, "seed": seed}
            (out / name / "run.json").write_text(json.dumps(own))
            measured = json.loads((out / name / "metrics.json").read_text())
            measured["evaluations"][0]["metrics"][ACCURACY] = {
                "title": ACCURACY,
                "figures": {"largest_channel": value, "euclidean": value / 2},
                "n": {"ab": 4, "truth:ab": 4},
                "higher": {"largest_channel": higher, "euclidean": higher},
                "units": {"largest_channel": "%", "euclidean": "%"},
                "protocol": {},
                "warnings": [],
            }
            (out / name / "metrics.json").write_text(json.dumps(measured))
    record = {
        "format": 1,
        "recipe": "tiny",
        "sha256": "0123456789abcdef",
        "fixed": {"steps": json.loads((cell / "run.json").read_text())["knobs"]["steps"]},
        "swept": dict(swept),
        "seeds": seeds,
        "baseline": {name: values[0] for name, values in swept.items()},
        "metric": [ACCURACY, "largest_channel"],
        "command": "unitkit ablate tests/tiny.py",
        "cells": cells,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "ablation.json").write_text(json.dumps(record))
    return out
