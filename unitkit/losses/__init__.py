"""Loss terms, by what they are for: translation, the adversarial game, domain adaptation."""

from .adaptation import classify, constancy, feature_matching, infomax, reversal, reverse
from .adversarial import MODES, Mode, gan_d, gan_g, multiclass_gan_d, multiclass_gan_g
from .term import LOSSES, Classes, Features, Loss, Posterior, Ramp, Term, non_finite_gradient, register, registry
from .translation import kl, l1, l2, total_variation, weight_distance

__all__ = [
    "LOSSES",
    "MODES",
    "Classes",
    "Features",
    "Loss",
    "Mode",
    "Posterior",
    "Ramp",
    "Term",
    "classify",
    "constancy",
    "feature_matching",
    "gan_d",
    "gan_g",
    "infomax",
    "kl",
    "l1",
    "l2",
    "multiclass_gan_d",
    "multiclass_gan_g",
    "non_finite_gradient",
    "register",
    "registry",
    "reversal",
    "reverse",
    "total_variation",
    "weight_distance",
]
