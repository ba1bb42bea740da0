"""Digits without adaptation: a classifier of the source (a) tested on the target (b), and one that saw its classes.

unitkit train digits_classifier                                          # drawn digits, anywhere
unitkit train digits_classifier source=mnist target=usps data=FOLDER     # FOLDER/mnist, FOLDER/usps
unitkit train digits_classifier @oracle target=usps data=FOLDER

Trained on the source, nothing of the target is used: `accuracy(b)` is the floor, which every method must beat. Trained
on the target with its classes (`@oracle`: the target is its own source) it is the ceiling, which no method without
them should pass.
"""

from dataclasses import replace
from typing import Literal

from adaptation import ADAM, DIGITS, adapted

from unitkit import Adam, Player, Recipe, classify, data, discriminators, models, sharing


def recipe(
    *,
    images: data.Digits = DIGITS,
    classes: Literal["source", "target"] = "source",  # of which domain the training sees images and classes
    width: int = 20,  # channels after the first convolution; LeNet's is 20
    dropout: float = 0.5,  # before the last layer, and half of it before the one before
    optimizer: Adam = replace(ADAM, betas=(0.9, 0.999)),
    affine: float = 1.0,  # how much training images are rotated, scaled, stretched, sheared and shifted
) -> Recipe:
    """A classifier of one domain, tested on the target."""
    digits = (images if classes == "source" else replace(images, source=images.target)).open()
    model = models.classifier(
        channels=digits.channels,
        discriminator=discriminators.lenet(width=width, classes=10, dropout=dropout),
        sharing=sharing.all(),
    )
    players = [Player("classifier", ["discriminators"], [classify("a")], optimizer)]
    return adapted(model, players, digits, steps=1500, affine=affine)


presets = {"oracle": {"classes": "target"}}
