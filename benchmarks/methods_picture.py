"""The same held-out portraits through every method: the picture of docs/results/methods.md.

    python benchmarks/methods_picture.py runs/methods docs/results/methods.webp

Rows are the input, what it should become, and the translation `ab` of each method of methods.py whose training of seed
0 is there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from methods import portraits
from plan import jobs

import unitkit
from unitkit.data.tensors import to_tensor, to_uint8
from unitkit.runs.samples import sheet_of

COLUMNS = 8


@torch.no_grad()
def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of the trainings")
    parser.add_argument("file", type=Path)
    given = parser.parse_args()

    data = unitkit.open_data("portraits", size=64, domains=2)
    assert data.truth, "drawn data know it"
    inputs = np.stack([data.domains["a"].test.load(i) for i in range(COLUMNS)])
    rows = {"input": list(inputs), "truth": [data.truth("ab", i) for i in range(COLUMNS)]}
    for job in jobs(portraits, given.out, "", seeds=1):
        if job.trained:
            model = unitkit.load(job.folder, device="cpu").model
            rows[job.cell.name] = list(to_uint8(model(to_tensor(inputs), "ab")))
    if len(rows) == 2:
        parser.error(f"no training of {given.out / portraits.name} is done")
    sheet_of(rows, data.size, COLUMNS, at_least=64).save(given.file, quality=90)


if __name__ == "__main__":
    main()
