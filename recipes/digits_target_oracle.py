"""Digits, target oracle: a classifier trained on the target's own classes. The ceiling of adaptation.

unitkit train recipes/digits_target_oracle.py                                          # drawn digits, anywhere
unitkit train recipes/digits_target_oracle.py target=usps data=FOLDER     # FOLDER/usps

The one recipe that sees the classes of the target: it names the target as its own source. `accuracy(b)` is what no
method without them should pass.
"""

from typing import Literal

from unitkit import Adam, Affine, Player, Recipe, Watch, accuracy, classify, digits, discriminators, models, sharing
from unitkit.data.digits import Look


def recipe(
    *,
    data: str | None = None,
    target: Look = "printed",
    protocol: Literal["full", "sampled"] = "full",
    padding: bool = True,
    size: int = 32,
    width: int = 20,
    dropout: float = 0.5,
    batch: int = 64,
    steps: int = 1500,
    lr: float = 1e-3,
    decay: float = 0.5,
    weight_decay: float = 0.0,
    affine: float = 1.0,
) -> Recipe:
    """A classifier trained on the target with its classes.

    Args:
        data: folder with the files of mnist, usps or svhn; none takes them from the cache, or downloads them there.
        target: the domain: mnist, usps, svhn, rendered or printed.
        protocol: full, or sampled: 2000 images of mnist and 1800 of usps to train on.
        padding: give images of usps the empty padding that mnist's have, so that digits are of one size in both.
        size: side of the images; these networks take 32.
        width: channels after the first convolution; LeNet's is 20.
        dropout: before the last layer, and half of it before the one before.
        batch: images of each domain in a step.
        steps: training steps.
        lr: learning rate.
        decay: the share of the steps, at the end, in which learning rates fall to 0.
        weight_decay: of Adam.
        affine: how much training images are turned, scaled, stretched, sheared and shifted; 0 leaves them as they are.
    """
    images = digits(size=size, source=target, target=target, folder=data, protocol=protocol, padding=padding)
    model = models.spec(
        "classifier",
        channels=images.channels,
        discriminator=discriminators.spec("lenet", width=width, classes=10, dropout=dropout),
        sharing=sharing.spec("all"),
    )
    adam = Adam(lr=lr, betas=(0.9, 0.999), weight_decay=weight_decay, decay=decay)
    return Recipe(
        model=model,
        players=[Player("classifier", ["discriminators"], [classify("a")], adam)],
        data=images,
        steps=steps,
        batch=batch,
        flip=False,
        affine=affine * Affine(rotate=15, scale=0.25, stretch=0.2, shear=0.3, shift=0.06),
        evaluate=[accuracy("b"), accuracy("a")],
        watch=Watch([accuracy("a"), accuracy("b")], every=max(1, steps // 5), images=0),
    )
