"""Loss terms, by what they are for: translation, the adversarial game, domain adaptation."""

from .adaptation import certainty, classify, constancy, match, reversal, reverse
from .adversarial import FORMS, Form, fool, fool_ways, judge, judge_ways
from .term import LOSSES, Classes, Features, Loss, Posterior, Ramp, Term, non_finite_gradient, register, registry
from .translation import kl, l1, l2, pull, total_variation

__all__ = [
    "FORMS",
    "LOSSES",
    "Classes",
    "Features",
    "Form",
    "Loss",
    "Posterior",
    "Ramp",
    "Term",
    "certainty",
    "classify",
    "constancy",
    "fool",
    "fool_ways",
    "judge",
    "judge_ways",
    "kl",
    "l1",
    "l2",
    "match",
    "non_finite_gradient",
    "pull",
    "register",
    "registry",
    "reversal",
    "reverse",
    "total_variation",
]
