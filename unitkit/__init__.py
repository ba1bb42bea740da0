"""unitkit: unsupervised image-to-image translation with UNIT, from parts that compose.

import unitkit
model = unitkit.load("runs/unit_faces/latest")
model.translate("me.jpg", "ab").save("translated.png")
"""

from __future__ import annotations

import importlib
from typing import Any

# Resolved when first used: importing torch takes seconds, and `unitkit --help` needs none of it.
_HOMES = {
    "unitkit.errors": ("TrainingError", "UserError"),
    "unitkit.knobs": ("load_recipe",),
    "unitkit.recipe": ("Adam", "Player", "Recipe"),
    "unitkit.data": ("Data", "open_data"),
    "unitkit.losses": ("Posterior", "Term", "fool", "judge", "kl", "l1", "l2", "pull"),
    "unitkit.objective": ("cycle", "gan", "vae"),
    "unitkit.metrics": ("closeness", "counterpart"),
    "unitkit.towers": ("Tower",),
    "unitkit.trainer": ("Trainer",),
    "unitkit.translate": ("Translator", "load"),
}
_MODULES = ("data", "discriminators", "encoders", "generators", "losses", "metrics", "models", "sharing", "testing")
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = [*_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"unitkit.{name}")
    raise AttributeError(f"module 'unitkit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
