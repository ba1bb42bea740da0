"""Every method under one protocol: UNIT, the authors' later UNIT, CycleGAN, CUT and MUNIT on the same images.

    python benchmarks/methods.py runs/methods --data ../shared/data [--studies faces,portraits,maps] [--workers 2]
    python benchmarks/methods.py runs/methods --pace 40
    python benchmarks/methods.py runs/methods --table

The same data, batch, steps, width of the encoders and strides for all. Each row has its recipe's `@paper`, the weights,
learning rates and start that were published, at that size; `tuned` ones have the recipe's defaults, which were chosen
for small networks, and `photo` is the preset with its windows of 64 pixels in 68. A tuned method that changes few
images has a second row with less weight on likeness. Two seeds each.
"""

from __future__ import annotations

import sys

from plan import Cell, Column, Study, main

SMALL = ("size=64", "width=16", "downs=2", "batch=4", "steps=5000")
PAPER = ("@paper", "crop=0")
CYCLE = "psnr(aba, a)"
TUNED = ("layers=5", "lr=5e-4", "lr_d=5e-4")
METHODS = [
    Cell("UNIT", "unit_faces", (*PAPER, "width_d=32"), seeds=2),
    Cell("UNIT, photo", "unit_faces", ("@photo",), seeds=2),
    Cell("UNIT, photo, not matching", "unit_faces", ("@photo", "matching=no", "lambda_rec=2"), seeds=2),
    Cell("UNIT v2", "unit_v2", ("@paper",), seeds=2),
    Cell("CycleGAN", "cyclegan", (*PAPER, "lambda_idt=5"), seeds=2),
    Cell("CycleGAN, tuned", "cyclegan", ("layers=5", "lr=5e-4"), seeds=2),
    Cell("CycleGAN, less likeness", "cyclegan", ("layers=5", "lr=5e-4", "lambda_cyc=2", "lambda_idt=1"), seeds=2),
    Cell("CUT", "cut", (*PAPER, "width_d=32", "blocks=6", "nce_layers=0,2,3,4,5"), seeds=2, without=(CYCLE,)),
    Cell("CUT, tuned", "cut", TUNED, seeds=2, without=(CYCLE,)),
    Cell("CUT, less likeness", "cut", (*TUNED, "lambda_nce=0.2", "lambda_idt=0.2"), seeds=2, without=(CYCLE,)),
    Cell("MUNIT", "munit", ("@paper", "width_d=32"), seeds=2),
    Cell("MUNIT, tuned", "munit", TUNED, seeds=2),
    Cell("MUNIT, less likeness", "munit", (*TUNED, "lambda_rec=2"), seeds=2),
]
COMMON = [
    Column("kernel, x1000", "kernel(ab, b, model=classifier)", "kernel", 1000),
    Column("SSIM", "ssim(ab, a)", "ssim", 1, 3),
    Column("diversity", "diversity(ab)", "diversity", 1, 1),
    Column("cycle, dB", CYCLE, "psnr", 1, 1),
]
faces = Study(
    "faces",
    METHODS,
    [
        Column("success, %", "attribute_success(ab)", "success", 100, 1),
        Column("judge, %", "attribute_success(ab)", "classifier", 100, 1),
        *COMMON,
    ],
    ("data={data}/faces_smile64", *SMALL),
)
portraits = Study(
    "portraits",
    METHODS,
    [
        Column("must change, dB", "ground_truth(ab)", "changing.translation.psnr", 1, 1),
        Column("the rest, dB", "ground_truth(ab)", "rest.translation.psnr", 1, 1),
        Column("all, dB", "ground_truth(ab)", "all.translation.psnr", 1, 1),
        *COMMON,
    ],
    SMALL,
)
CLASSES = "class_accuracy(ab, b, palette=maps)"
maps = Study(
    "maps",
    METHODS,
    [
        Column("mean recall, %", CLASSES, "mean_recall", 100, 1),
        Column("mean IoU, %", CLASSES, "mean_iou", 100, 1),
        Column("within 16, %", "pixel_accuracy(ab, b)", "largest_channel", 100, 1),
        Column("PSNR, dB", "psnr(ab, b)", "psnr", 1, 1),
        *COMMON,
    ],
    ("data={data}/maps256", "labels=satellite,map", "aligned=yes", *SMALL),
)

if __name__ == "__main__":
    sys.exit(main(__doc__, [faces, portraits, maps]))
