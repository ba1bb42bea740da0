"""What the poster shows, and a recipe for photographs: every training of docs/results/poster.md.

    python benchmarks/poster.py runs/poster --data ../shared/data [--studies photo,maps] [--workers 2]
    python benchmarks/poster.py runs/poster --table

Trains what is not trained yet, goes on with what was stopped, measures what is not measured, and prints a table for
each study. `photo` changes one thing of `@smile` at a time.
"""

from __future__ import annotations

import sys

from plan import Cell, Column, Study, main

JUDGE = "steps=2000"
PHOTO = (
    f"attribute_success(ab, {JUDGE}), attribute_success(ba, {JUDGE}), ssim(ab, a), ssim(ba, b), "
    "border(aa, a), border(bb, b), texture(ab, a), texture(ba, b), sharpness(ab, a), sharpness(ba, b), "
    "kernel(ab, b, model=classifier), kernel(ba, a, model=classifier), colour(ab, b), colour(ba, a), psnr(aa, a)"
)
photo = Study(
    "photo",
    [
        Cell("@smile", "unit_faces", seeds=3),
        Cell("reflect", "unit_faces", ("padding=reflect",)),
        Cell("nearest", "unit_faces", ("up=nearest",)),
        Cell("shuffle", "unit_faces", ("up=shuffle",)),
        Cell("r1", "unit_faces", ("lambda_r1=1",)),
        Cell("augment", "unit_faces", ("augment=0.3",)),
        Cell("hinge", "unit_faces", ("mode=hinge",)),
        Cell("wide judge", "unit_faces", ("width_d=64",)),
        Cell("likeness 1", "unit_faces", ("lambda_rec=1",)),
        Cell("likeness 4", "unit_faces", ("lambda_rec=4",)),
        Cell("no ema", "unit_faces", ("ema=0",)),
        Cell("cosine", "unit_faces", ("schedule=cosine",)),
        Cell("two encoders", "unit_faces", ("one_encoder=no", "shared=1")),
    ],
    [
        Column("smile, %", f"attribute_success(ab, {JUDGE})", "success", 100, 1),
        Column("neutral, %", f"attribute_success(ba, {JUDGE})", "success", 100, 1),
        Column("judge, %", f"attribute_success(ab, {JUDGE})", "classifier", 100, 1),
        Column("SSIM ab", "ssim(ab, a)", "ssim", 1, 3),
        Column("SSIM ba", "ssim(ba, b)", "ssim", 1, 3),
        Column("border", "border(aa, a)", "border"),
        Column("texture ab", "texture(ab, a)", "texture"),
        Column("texture ba", "texture(ba, b)", "texture"),
        Column("sharpness", "sharpness(ab, a)", "sharpness"),
        Column("kernel ab", "kernel(ab, b, model=classifier)", "kernel", 1000),
        Column("kernel ba", "kernel(ba, a, model=classifier)", "kernel", 1000),
        Column("PSNR aa, dB", "psnr(aa, a)", "psnr", 1, 1),
    ],
    ("@smile", "data={data}/faces_smile64"),
    PHOTO,
)

MAPS = "pixel_accuracy(ab, b), class_accuracy(ab, b, palette=maps), psnr(ab, b)"
maps = Study(
    "maps",
    [
        Cell("windows", "unit_maps"),
        Cell("4 layers", "unit_maps", ("layers=4",)),
        Cell("likeness 2", "unit_maps", ("lambda_rec=2",)),
        Cell("one encoder", "unit_maps", ("one_encoder=yes",)),
    ],
    [
        Column("mean recall, %", "class_accuracy(ab, b, palette=maps)", "mean_recall", 100, 1),
        Column("mean IoU, %", "class_accuracy(ab, b, palette=maps)", "mean_iou", 100, 1),
        Column("road, %", "class_accuracy(ab, b, palette=maps)", "recall.road", 100, 1),
        Column("water, %", "class_accuracy(ab, b, palette=maps)", "recall.water", 100, 1),
        Column("park, %", "class_accuracy(ab, b, palette=maps)", "recall.park", 100, 1),
        Column("within 16, %", "pixel_accuracy(ab, b)", "largest_channel", 100, 1),
        Column("Euclidean, %", "pixel_accuracy(ab, b)", "euclidean", 100, 1),
        Column("PSNR, dB", "psnr(ab, b)", "psnr", 1, 1),
    ],
    (
        *("data={data}/maps256", "load=256", "size=96", "palette=maps", "width=16", "width_d=32", "layers=5"),
        *("batch=2", "lr=5e-4", "lr_d=5e-4", "lambda_rec=5", "steps=8000"),
    ),
    MAPS,
)

if __name__ == "__main__":
    sys.exit(main(__doc__, [photo, maps]))
