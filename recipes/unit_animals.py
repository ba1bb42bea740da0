"""UNIT on animals: cats (a) and dogs (b). The objective of unit_faces, with networks for larger photographs.

unitkit train unit_animals @cats_dogs data=FOLDER      # FOLDER/{train,test}/{cat,dog}/
unitkit train unit_animals @paper data=FOLDER          # 200x200, the released networks: a GPU
unitkit evaluate RUN --metrics 'kernel(ab, b, model=classifier)'

Here shape must change, and not light alone: the weight of likeness is low, and success is what a classifier of the
animals says. Without data it trains on rendered portraits, to be tried.
"""

from common import RELEASED
from unit_faces import recipe

__all__ = ["presets", "recipe"]

presets = {
    # Photographs of 200x200, at 128. Not with the released networks' norm after strided convolutions: black drops come.
    "cats_dogs": {
        "size": 128,
        "padding": "reflect",
        "downs": 2,
        "up": "smooth",
        "layers": 5,
        "width_d": 32,
        "augment": 0.3,
        "lambda_rec": 2.0,
        "lambda_gan": 1.0,
        "matching": True,
        "batch": 2,
        "lr": 5e-4,
        "lr_d": 5e-4,
        "crop": 8,
        "steps": 3000,
    },
    "paper": {**RELEASED, "size": 200, "norm": True, "layers": 6},
}
