"""Loss terms, by what they are for: translation, the adversarial game and its penalties, contrast, adaptation."""

from .adaptation import classify, constancy, feature_matching, infomax, reversal, reverse
from .adversarial import MODES, Mode, gan_d, gan_d_pooled, gan_g, multiclass_gan_d, multiclass_gan_g
from .contrastive import Patches, patch_nce
from .reading import Reading
from .regularisation import r1
from .term import Classes, Features, Loss, Posterior, Term, non_finite_gradient, register, registry
from .translation import code_l1, kl, l1, l2, style_l1, total_variation, weight_distance

__all__ = [
    "MODES",
    "Classes",
    "Features",
    "Loss",
    "Mode",
    "Patches",
    "Posterior",
    "Reading",
    "Term",
    "classify",
    "code_l1",
    "constancy",
    "feature_matching",
    "gan_d",
    "gan_d_pooled",
    "gan_g",
    "infomax",
    "kl",
    "l1",
    "l2",
    "multiclass_gan_d",
    "multiclass_gan_g",
    "non_finite_gradient",
    "patch_nce",
    "r1",
    "register",
    "registry",
    "reversal",
    "reverse",
    "style_l1",
    "total_variation",
    "weight_distance",
]
