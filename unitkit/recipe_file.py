"""Recipe files and their knobs: the keyword parameters of `recipe(*, ...)`, given as text or as Python values."""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import chdir, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from .annotations import convert, describe
from .recipe import Recipe
from .system.errors import UserError, nearest

PLAIN = json.JSONEncoder(default=str)


@dataclass(frozen=True)
class RecipeFile:
    """A recipe file that was read and run: its function, its knobs with their defaults, its presets.

    Attributes:
        name: the file's name without its suffix.
        source: the file's text.
        doc: the docstring of the file.
        origin: where the file lies, or lay of which this is a copy.
        home: the folder in which `build` calls the recipe, so that relative paths mean what they did; None is here.
    """

    name: str
    path: Path
    source: str
    doc: str
    function: Any
    presets: dict[str, dict[str, Any]]
    origin: Path
    home: Path | None = None

    @property
    def knobs(self) -> dict[str, inspect.Parameter]:
        return dict(inspect.signature(self.function).parameters)

    def values(self, preset: str | None = None, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Every knob's value: defaults, then the preset, then `given`, where text is converted by the annotation.

        Raises:
            UserError: an unknown preset or knob, with the nearest name; a value that its annotation refuses.
        """
        if preset is not None and preset not in self.presets:
            raise UserError(f"{self.name} has no preset '@{preset}'. {nearest(preset, self.presets)}")
        values = {name: parameter.default for name, parameter in self.knobs.items()}
        hints = self._hints()
        for name, value in {**(self.presets[preset] if preset else {}), **(given or {})}.items():
            if name not in values:
                raise UserError(f"{self.name} has no knob '{name}'. {nearest(name, values)}")
            values[name] = convert(name, value, hints[name])
        return values

    def kept(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values as a run keeps them: JSON, of which `values` makes exactly these again.

        A default of another kind is left out, since the recipe that is kept beside will give it again. Raises
        `UserError` for another value of such a kind: a run with it could never be resumed.
        """
        hints, kept = self._hints(), {}
        for name, parameter in self.knobs.items():
            value = values[name]
            try:
                plain = json.loads(PLAIN.encode(value))
                again = convert(name, plain, hints[name])
            except Exception:  # no JSON, or not in the end: what a value's own __str__ raises may be anything
                pass
            else:
                if type(again) is type(value) and repr(again) == repr(value):
                    kept[name] = plain
                    continue
            if value is not parameter.default:
                raise UserError(
                    f"the knob '{name}' is {describe(hints[name])}, and a run cannot keep {_kind(value)} such as "
                    f"{value!r} to be resumed with it: annotate it as a number, text, a path or a tuple of these"
                )
        return kept

    def _hints(self) -> dict[str, Any]:
        """The annotation of each knob; of one without, the type of its default, text where that is no plain value."""
        try:
            hints = get_type_hints(self.function)
        except Exception as error:  # annotations are evaluated here, and may say anything
            raise UserError(f"{self.path}: an annotation of recipe() is wrong: {error}") from error
        kinds = {name: type(parameter.default) for name, parameter in self.knobs.items()}
        return {
            name: hints.get(name, kind if kind in (bool, int, float, Path) else str) for name, kind in kinds.items()
        }

    def build(self, values: Mapping[str, Any]) -> Recipe:
        """Call the recipe function. What it raises, other than `UserError`, becomes one that names the line."""
        try:
            with chdir(self.home) if self.home else nullcontext():
                recipe = self.function(**values)
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            raise UserError(f"{self.path} failed{_where(error, self.path)}: {type(error).__name__}: {error}") from error
        if not isinstance(recipe, Recipe):
            raise UserError(f"recipe() in {self.path} returned {_kind(recipe)}; it must return a unitkit.Recipe")
        return recipe


def load_recipe(path: str | Path, preset: str | None = None, **knobs: Any) -> Recipe:
    """The recipe of a file: `load_recipe("recipes/unit_faces.py", width=32)`. Raises as `RecipeFile` does."""
    file = read_recipe_file(path)
    return file.build(file.values(preset, knobs))


def read_recipe_file(path: str | Path, origin: object = None) -> RecipeFile:
    """Run a recipe file and find its `recipe` function and `presets`.

    Args:
        origin: where the file lay of which this is a copy: its `__file__`, beside which it may have its data.

    Raises:
        UserError: a file that is missing (with the nearest name beside it), does not run, or has no
            `recipe(*, ...)` whose parameters are all keyword-only with defaults.
    """
    path = Path(path)
    if not path.is_file():
        siblings = {p.name for p in path.parent.glob("*.py")} if path.parent.is_dir() else set()
        hint = nearest(path.name, siblings) if siblings else f"There are no recipes in {path.parent}."
        raise UserError(f"there is no recipe file {path}. {hint}")
    if path.suffix != ".py":
        raise UserError(f"a recipe is a Python file, NAME.py, and {path} is not")
    try:
        source = path.read_text("utf-8")
        # The name must not be that of an installed module: a recipe may import `timm` and be called timm.py.
        spec = importlib.util.spec_from_file_location(f"unitkit_recipe_{path.stem}", path)
        assert spec and spec.loader, "a .py file has a loader"
        module = importlib.util.module_from_spec(spec)
        module.__file__ = str(origin or path)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(
            f"the recipe file {path} does not run{_where(error, path)}: {type(error).__name__}: {error}"
        ) from error
    function = getattr(module, "recipe", None)
    if not callable(function):
        raise UserError(f"{path} defines no function `recipe(*, ...) -> Recipe`")
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is parameter.empty:
            raise UserError(f"in {path}, the knob '{name}' of recipe() must be keyword-only and have a default")
    presets = getattr(module, "presets", {})
    if not isinstance(presets, dict) or not all(isinstance(preset, dict) for preset in presets.values()):
        raise UserError(f"in {path}, `presets` must be a dict of dicts: a preset's name to its knobs' values")
    origin = Path(str(origin or path.absolute()))
    return RecipeFile(path.stem, path, source, inspect.getdoc(module) or "", function, presets, origin)


def parse_knobs(words: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """The words behind a recipe on the command line: at most one `@preset`, and `knob=value` each once."""
    preset: str | None = None
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if word.startswith("@"):
            if preset is not None:
                raise UserError(f"one preset at a time: '@{preset}' and '{word}'")
            preset = word[1:]
        elif not equals or not name.isidentifier():
            raise UserError(f"'{word}' is neither knob=value nor @preset")
        elif name in given:
            raise UserError(f"the knob '{name}' is given twice: '{given[name]}' and '{value}'")
        else:
            given[name] = value
    return preset, given


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _where(error: BaseException, path: Path) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path.absolute()]
    if isinstance(error, SyntaxError) and error.lineno:
        lines = [error.lineno]
    return f" at line {lines[-1]}" if lines else ""


def import_parts(path: Path) -> None:
    """Run a Python file, so that the parts that it registers can be named. It may be a recipe file.

    Raises:
        UserError: a file that is missing, is no Python file, or does not run.
    """
    if not path.is_file():
        siblings = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise UserError(f"there is no file {path} with parts. {nearest(path.name, siblings)}")
    spec = importlib.util.spec_from_file_location(f"unitkit_parts_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"parts are registered by a Python file, NAME.py, and {path} is not one")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where annotations of its parts are looked up
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"the file {path} does not run: {type(error).__name__}: {error}") from error
