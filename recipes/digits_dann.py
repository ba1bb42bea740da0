"""DANN on digits: features that classify the source (a) and do not tell it from the target (b).

unitkit train digits_dann                                          # drawn digits, anywhere
unitkit train digits_dann source=mnist target=usps data=FOLDER     # FOLDER/mnist, FOLDER/usps

Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016: one network with two heads. The head that
tells domains apart sits behind a gradient reversal whose strength grows by the paper's schedule.
"""

from dataclasses import replace

from adaptation import ADAM, DIGITS, adapted

from unitkit import Adam, Player, Ramp, Recipe, classify, data, discriminators, infomax, models, reversal, sharing


def recipe(
    *,
    images: data.Digits = DIGITS,
    width: int = 20,  # channels after the first convolution; LeNet's is 20
    dropout: float = 0.5,  # before the last layer, and half of it before the one before
    optimizer: Adam = replace(ADAM, betas=(0.9, 0.999)),
    lambda_domain: float = 0.1,  # weight of telling the domains apart; at the paper's 1, Adam forgets the classes
    ramp: float = 10.0,  # how steeply the strength of the reversal grows from 0 to 1 over the training
    lambda_infomax: float = 0.0,  # weight of the target's images being of one class each, and of every class
    affine: float = 1.0,  # how much training images are rotated, scaled, stretched, sheared and shifted
) -> Recipe:
    """Domain-adversarial training of one network."""
    digits = images.open()
    model = models.classifier(
        channels=digits.channels,
        discriminator=discriminators.lenet(width=width, classes=10, dropout=dropout),
        sharing=sharing.all(),
    )
    terms = [
        classify("a"),
        lambda_domain * reversal("a", "b", strength=Ramp(ramp)),
        lambda_infomax * Ramp(ramp) * infomax("b", balance=0.5),
    ]
    players = [Player("classifier", ["discriminators"], terms, optimizer)]
    return adapted(model, players, digits, steps=1500, affine=affine)
