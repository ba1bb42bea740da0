"""UNIT on streets: by day (a) and by night (b). The objective of unit_faces, with discriminators on three scales.

unitkit train unit_streets @day_night data=FOLDER      # FOLDER/{train,test}/{day,night}/
unitkit train unit_streets @paper data=FOLDER          # 480x640, the released networks: a GPU
unitkit evaluate RUN --metrics 'kernel(ab, b, model=classifier), structure(ab, a)'

Success is what a classifier of day and night says; the distance of both sets in its features, and the edges that a
change of light should leave, are measured by the last line. Without data it trains on rendered portraits, to be tried.
"""

from common import RELEASED
from unit_faces import recipe

__all__ = ["presets", "recipe"]

presets = {
    # Photographs of 480x640, trained on at half their size and translated at any.
    "day_night": {
        "size": (240, 320),
        "discriminator": "multiscale",
        "padding": "reflect",
        "downs": 2,
        "up": "smooth",
        "width_d": 32,
        "lambda_rec": 5.0,
        "lambda_gan": 1.0,
        "matching": True,
        "batch": 1,
        "lr": 5e-4,
        "lr_d": 5e-4,
        "crop": 16,
        "steps": 3000,
    },
    "paper": {**RELEASED, "size": (480, 640), "dropout": 0.5, "discriminator": "multiscale"},
}
