"""What the poster shows, and a recipe for photographs: the trainings behind docs/results/photographs.md.

    python benchmarks/poster.py runs/poster --data ../shared/data [--studies photo,maps] [--workers 2]
    python benchmarks/poster.py runs/poster --table

Trains what is not trained yet, goes on with what was stopped, measures what is not measured, and prints a table for
each study. `photo` changes one thing of `@photo` at a time on grey faces, `colour` on cats and dogs.
"""

from __future__ import annotations

import sys

from plan import Cell, Column, Study, main

OLDER = "up=transposed"  # as in the preset when these rows were trained
# What `@photo` was before its discriminators saw the other domain's images: one thing at a time.
BEFORE = {
    "": {},
    "reflect": {"padding": "reflect"},
    "nearest": {"up": "nearest"},
    "shuffle": {"up": "shuffle"},
    "r1": {"lambda_r1": "1"},
    "augment": {"augment": "0.3"},
    "hinge": {"mode": "hinge"},
    "wide judge": {"width_d": "64"},
    "likeness 1": {"lambda_rec": "1"},
    "likeness 4": {"lambda_rec": "4"},
    "no ema": {"ema": "0"},
    "decay from the start": {"decay": "1"},
    "two encoders": {"one_encoder": "no", "shared": "1"},
}
SUCCESS = [
    Column("success ab, %", "attribute_success(ab)", "success", 100, 1),
    Column("success ba, %", "attribute_success(ba)", "success", 100, 1),
    Column("judge ab, %", "attribute_success(ab)", "classifier", 100, 1),
    Column("judge ba, %", "attribute_success(ba)", "classifier", 100, 1),
]
DISTANCE = [
    Column("kernel ab", "kernel(ab, b, model=classifier)", "kernel", 1000),
    Column("kernel ba", "kernel(ba, a, model=classifier)", "kernel", 1000),
]
SIMILARITY = [Column("SSIM ab", "ssim(ab, a)", "ssim", 1, 3), Column("SSIM ba", "ssim(ba, b)", "ssim", 1, 3)]
ARTIFACTS = [
    Column("border", "border(aa, a)", "border"),
    Column("texture ab", "texture(ab, a)", "texture"),
    Column("texture ba", "texture(ba, b)", "texture"),
]
COLOUR = [Column("colour ab", "colour(ab, b)", "colour"), Column("colour ba", "colour(ba, a)", "colour")]
RECONSTRUCTION = Column("PSNR aa, dB", "psnr(aa, a)", "psnr", 1, 1)
PHOTO_COLUMNS = [
    *SUCCESS,
    *SIMILARITY,
    *ARTIFACTS,
    Column("sharpness", "sharpness(ab, a)", "ratio"),
    *DISTANCE,
    RECONSTRUCTION,
]
photo = Study(
    "photo",
    [
        Cell("@photo", "unit_faces", seeds=3),
        Cell("transposed", "unit_faces", (OLDER,), seeds=3),
        Cell("transposed, likeness 1", "unit_faces", (OLDER, "lambda_rec=1")),
        Cell("transposed, likeness 2", "unit_faces", (OLDER, "lambda_rec=2")),
        Cell("transposed, reflect, augment", "unit_faces", (OLDER, "lambda_rec=2", "padding=reflect", "augment=0.3")),
        Cell("nearest, likeness 2, r1 0.5", "unit_faces", ("lambda_rec=2", "up=nearest", "lambda_r1=0.5")),
        *(
            Cell(
                f"not matching, {name}".removesuffix(", "),
                "unit_faces",
                tuple(
                    f"{knob}={value}"
                    for knob, value in {"matching": "no", "lambda_rec": "2", "up": "transposed", **changed}.items()
                ),
            )
            for name, changed in BEFORE.items()
        ),
    ],
    PHOTO_COLUMNS,
    ("@photo", "data={data}/faces_smile64"),
    ("border(bb, b)", "sharpness(ba, b)", "colour(ab, b)", "colour(ba, a)"),
)
colour = Study(
    "colour",
    [
        Cell("@photo", "unit_faces"),
        Cell("transposed", "unit_faces", (OLDER,)),
        Cell("nearest", "unit_faces", ("up=nearest", "padding=reflect")),
        Cell("r1 0.5", "unit_faces", ("lambda_r1=0.5",)),
        Cell("likeness 10", "unit_faces", ("lambda_rec=10",)),
    ],
    [*PHOTO_COLUMNS, Column("texture aa", "texture(aa, a)", "texture"), *COLOUR],
    ("@photo", "data={data}/cats_dogs200", "steps=2500"),
    ("psnr(bb, b)",),
)

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
)

SCENE_COLUMNS = [
    *SUCCESS,
    Column("structure ab", "structure(ab, a)", "structure", 1, 3),
    Column("structure ba", "structure(ba, b)", "structure", 1, 3),
    *ARTIFACTS,
    *DISTANCE,
    *COLOUR,
    RECONSTRUCTION,
]
streets = Study(
    "streets",
    [
        Cell("scaled", "unit_streets", ("@day_night",)),
        Cell("windows", "unit_streets", ("@day_night", "load=480x640", "crop=0")),
        Cell("not matching", "unit_streets", ("@day_night", "matching=no")),
    ],
    SCENE_COLUMNS,
    ("data={data}/day_night",),
)
animals = Study(
    "animals",
    [
        Cell("128", "unit_animals", ("@cats_dogs",)),
        Cell("norm", "unit_animals", ("@cats_dogs", "norm=yes")),
        Cell("not augmented", "unit_animals", ("@cats_dogs", "augment=0")),
        Cell("not matching", "unit_animals", ("@cats_dogs", "matching=no")),
    ],
    [*SCENE_COLUMNS, *SIMILARITY],
    ("data={data}/cats_dogs200",),
)

NORM = "norm=yes"  # with which the tables were made; without it grey digits fare alike, and dark ones are not torn


def digits(source: str, target: str, prepared: bool = False) -> Study:
    """Adaptation between digits: every method, each term of UNIT in turn, its networks.

    Digits are taken as they are, neither with margins nor with warps, but where they are `prepared`.
    """
    terms = [
        Cell("UNIT, the paper's terms", "digits_unit", ("@plain", NORM)),
        Cell("no infomax", "digits_unit", ("lambda_infomax=0", NORM)),
        Cell("no classes of translations", "digits_unit", ("lambda_class_ab=0", NORM)),
        Cell("no features", "digits_unit", ("lambda_fm=0", NORM)),
        Cell("no cycles", "digits_unit", ("lambda_cyc=0", NORM)),
        Cell("no placement", "digits_unit", ("placed=no", NORM)),
        Cell("a tenth of the game", "digits_unit", ("lambda_gan_d=0.1", NORM)),
        Cell("noise 0.1", "digits_unit", ("noise=0.1", NORM)),
        Cell("no dropout", "digits_unit", ("dropout=0", NORM)),
        Cell("two encoders", "digits_unit", ("one_encoder=no", NORM)),
        Cell("networks of 2017", "digits_unit_2017", ("width=24", "width_d=16", "steps=4000", "lr=1e-3")),
    ]
    asked = ("data={data}", f"source={source}", f"target={target}")
    return Study(
        f"{source}-{target}" + ("-prepared" if prepared else ""),
        [
            Cell("source only", "digits_classifier", seeds=3),
            Cell("DANN", "digits_dann", seeds=3),
            Cell("DANN, infomax as UNIT", "digits_dann", ("lambda_infomax=2",)),
            Cell("DTN", "digits_dtn"),
            Cell("CoGAN", "digits_cogan", seeds=3),
            Cell("CoGAN, weights as UNIT", "digits_cogan", ("lambda_infomax=2", "lambda_gan_d=1")),
            Cell("UNIT", "digits_unit", (NORM,), seeds=3),
            *([] if prepared else terms),
        ],
        [
            Column("target, %", "accuracy(b)", "accuracy", 100, 2),
            Column("source, %", "accuracy(a)", "accuracy", 100, 2),
        ],
        asked if prepared else (*asked, "padding=no", "affine=0"),
    )


if __name__ == "__main__":
    pairs = [("mnist", "usps"), ("usps", "mnist"), ("rendered", "mnist")]
    every = [digits(*pair) for pair in pairs] + [digits(*pair, prepared=True) for pair in pairs]
    sys.exit(main(__doc__, [photo, colour, maps, streets, animals, *every]))
