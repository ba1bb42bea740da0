"""unitkit: unsupervised image-to-image translation with UNIT, from parts that compose.

After `unitkit train recipes/unit_faces.py --out runs/faces`:

    import unitkit
    translator = unitkit.load("runs/faces")
    translator.translate("me.jpg", "ab").save("translated.png")
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":  # where files are not locked, nor processes forked and told to stop, as here
    _refusal = "unitkit runs on Linux and macOS; on Windows use WSL 2 (https://learn.microsoft.com/windows/wsl)"
    _command = os.path.basename("".join(sys.argv[:1])).startswith(("unitkit", "-m"))
    raise SystemExit(_refusal) if _command else ImportError(_refusal)

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Affine",
    "Cosine",
    "Data",
    "Hook",
    "Linear",
    "Player",
    "Posterior",
    "RMSprop",
    "Ramp",
    "Recipe",
    "RunOptions",
    "Spec",
    "Steps",
    "Term",
    "Timm",
    "Tower",
    "Trainer",
    "TrainingError",
    "Translator",
    "UserError",
    "Warmup",
    "Watch",
    "accuracy",
    "agreement",
    "attribute_success",
    "border",
    "class_accuracy",
    "classify",
    "code_l1",
    "colour",
    "constancy",
    "cycle",
    "data",
    "digits",
    "discriminators",
    "diversity",
    "encoders",
    "export",
    "feature_matching",
    "fid",
    "frechet",
    "gan",
    "gan_d",
    "gan_d_pooled",
    "gan_g",
    "generators",
    "ground_truth",
    "infomax",
    "kernel",
    "kid",
    "kl",
    "l1",
    "l2",
    "load",
    "load_recipe",
    "losses",
    "lpips",
    "metrics",
    "models",
    "multiclass_gan_d",
    "multiclass_gan_g",
    "open_data",
    "patch_nce",
    "pixel_accuracy",
    "psnr",
    "r1",
    "reversal",
    "sharing",
    "sharpness",
    "ssim",
    "structure",
    "style_l1",
    "testing",
    "texture",
    "total_variation",
    "translate_video",
    "vae",
    "weight_distance",
]

if TYPE_CHECKING:  # what follows it resolves the same names; type checkers and editors read this
    from . import data, discriminators, encoders, generators, losses, metrics, models, sharing, testing
    from .data import Affine, Data, digits, open_data
    from .exporting.export import export
    from .losses import (
        Posterior,
        Term,
        classify,
        code_l1,
        constancy,
        feature_matching,
        gan_d,
        gan_d_pooled,
        gan_g,
        infomax,
        kl,
        l1,
        l2,
        multiclass_gan_d,
        multiclass_gan_g,
        patch_nce,
        r1,
        reversal,
        style_l1,
        total_variation,
        weight_distance,
    )
    from .losses.bundles import cycle, gan, vae
    from .metrics import (
        accuracy,
        agreement,
        attribute_success,
        border,
        class_accuracy,
        colour,
        diversity,
        fid,
        frechet,
        ground_truth,
        kernel,
        kid,
        lpips,
        pixel_accuracy,
        psnr,
        sharpness,
        ssim,
        structure,
        texture,
    )
    from .networks.tower import Tower
    from .optimizers import SGD, Adam, AdamW, RMSprop, Timm
    from .recipe import Hook, Player, Recipe, Watch
    from .recipe_file import load_recipe
    from .registry import Spec
    from .runs.options import RunOptions
    from .schedules import Cosine, Linear, Ramp, Steps, Warmup
    from .system.errors import TrainingError, UserError
    from .trainer import Trainer
    from .translate import Translator, load
    from .video.translating import translate_video

    __version__: str

# Resolved when first used: importing torch takes seconds, and `unitkit --help` needs none of it.
_HOMES = {
    "unitkit.system.errors": ("TrainingError", "UserError"),
    "unitkit.recipe_file": ("load_recipe",),
    "unitkit.registry": ("Spec",),
    "unitkit.recipe": ("Hook", "Player", "Recipe", "Watch"),
    "unitkit.optimizers": ("SGD", "Adam", "AdamW", "RMSprop", "Timm"),
    "unitkit.schedules": ("Cosine", "Linear", "Ramp", "Steps", "Warmup"),
    "unitkit.runs.options": ("RunOptions",),
    "unitkit.data": ("Data", "Affine", "digits", "open_data"),
    "unitkit.losses": (
        "Posterior",
        "Term",
        "infomax",
        "classify",
        "code_l1",
        "constancy",
        "gan_g",
        "multiclass_gan_g",
        "gan_d",
        "gan_d_pooled",
        "multiclass_gan_d",
        "kl",
        "l1",
        "l2",
        "feature_matching",
        "patch_nce",
        "r1",
        "weight_distance",
        "reversal",
        "style_l1",
        "total_variation",
    ),
    "unitkit.losses.bundles": ("cycle", "gan", "vae"),
    "unitkit.metrics": (
        "accuracy",
        "agreement",
        "attribute_success",
        "border",
        "class_accuracy",
        "colour",
        "ground_truth",
        "diversity",
        "fid",
        "frechet",
        "kernel",
        "kid",
        "lpips",
        "pixel_accuracy",
        "psnr",
        "sharpness",
        "ssim",
        "structure",
        "texture",
    ),
    "unitkit.networks.tower": ("Tower",),
    "unitkit.trainer": ("Trainer",),
    "unitkit.exporting.export": ("export",),
    "unitkit.translate": ("Translator", "load"),
    "unitkit.video.translating": ("translate_video",),
}
_MODULES = ("data", "discriminators", "encoders", "generators", "losses", "metrics", "models", "sharing", "testing")
_HOME = {name: module for module, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # a type checker would take any name for one of the package

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            return _version()
        if name in _HOME:
            return getattr(importlib.import_module(_HOME[name]), name)
        if name in _MODULES:
            return importlib.import_module(f"unitkit.{name}")
        raise AttributeError(f"module 'unitkit' has no attribute '{name}'")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # a fifth of what `unitkit --help` takes

    try:
        return version("unitkit")
    except PackageNotFoundError:  # run from a clone that is not installed
        return "0"


def __dir__() -> list[str]:
    return sorted(__all__)
