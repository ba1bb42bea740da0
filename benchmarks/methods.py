"""Every method under one protocol: UNIT, the authors' later UNIT, CycleGAN, CUT and MUNIT on the same images.

    python benchmarks/methods.py runs/methods --data ../shared/data [--studies faces,portraits] [--workers 2]
    python benchmarks/methods.py runs/methods --table

The same data, batch, steps, width of the encoders and strides for all; each with the weights, learning rates and start
that were published for it, and where these fail at this size a tuned row beside it. Two seeds each.
"""

from __future__ import annotations

import sys

from plan import Cell, Column, Study, main

PUBLISHED = ("ema=0", "decay=0")


def methods(*given: str) -> list[Cell]:
    """A cell for each, with words that all of them take."""
    paper = ("one_encoder=no", "kernel=3", "init=gaussian", "lr=1e-4", "lr_d=1e-4", "mode=non-saturating")
    weights = ("lambda_gan=10", "lambda_kl=0.1", "lambda_rec=100")
    rows = [
        ("UNIT, the paper's terms", "unit_faces", ("blocks=4", "layers=5", "width_d=32", *paper, *weights, *PUBLISHED)),
        ("UNIT, tuned", "unit_faces", ("@smile", "crop=0")),
        ("UNIT v2", "unit_v2", ("blocks=2", "layers=4", "lr=1e-4", "ema=0")),
        (
            "CycleGAN",
            "cyclegan",
            ("norm=yes", "kernel=3", "init=gaussian", "layers=5", "lr=2e-4", "lambda_idt=5", "ema=0"),
        ),
        ("CycleGAN, tuned", "cyclegan", ("layers=5", "lr=5e-4", "lambda_idt=5")),
        ("CUT", "cut", ("norm=yes", "layers=5", "lr=2e-4", "lr_d=2e-4", "ema=0")),
        ("CUT, tuned", "cut", ("layers=5", "lr=5e-4", "lr_d=5e-4")),
        ("MUNIT", "munit", ("norm=yes", "one_encoder=no", "scales=3", "lr=1e-4", "lr_d=1e-4", "ema=0")),
        ("MUNIT, tuned", "munit", ("layers=5", "lr=5e-4", "lr_d=5e-4")),
    ]
    return [Cell(name, recipe, (*words, *given), seeds=2) for name, recipe, words in rows]


COMMON = ("downs=2", "width=16", "batch=4", "steps=5000", "size=64")
DISTANCE = Column("kernel, x1000", "kernel(ab, b, model=classifier)", "kernel", 1000)
faces = Study(
    "faces",
    methods(*COMMON),
    [
        Column("success, %", "attribute_success(ab, steps=2000)", "success", 100, 1),
        Column("judge, %", "attribute_success(ab, steps=2000)", "classifier", 100, 1),
        DISTANCE,
        Column("SSIM", "ssim(ab, a)", "ssim", 1, 3),
        Column("diversity", "diversity(ab)", "diversity", 1, 1),
    ],
    ("data={data}/faces_smile64",),
    "attribute_success(ab, steps=2000), kernel(ab, b, model=classifier), ssim(ab, a), diversity(ab)",
)
portraits = Study(
    "portraits",
    methods(*COMMON),
    [
        Column("must change, dB", "ground_truth(ab)", "changing.translation.psnr", 1, 1),
        Column("the rest, dB", "ground_truth(ab)", "rest.translation.psnr", 1, 1),
        Column("all, dB", "ground_truth(ab)", "all.translation.psnr", 1, 1),
        DISTANCE,
        Column("diversity", "diversity(ab)", "diversity", 1, 1),
    ],
    (),
    "kernel(ab, b, model=classifier), diversity(ab), ground_truth(ab)",
)

if __name__ == "__main__":
    sys.exit(main(__doc__, [faces, portraits]))
