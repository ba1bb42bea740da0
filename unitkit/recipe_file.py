"""Recipe files: Python files with a function `recipe(*, ...) -> Recipe`, and the values of its knobs.

A recipe may import others that lie beside it, `from unit_faces import released`. A run keeps all of these files.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .annotations import convert, describe
from .knobs import Knob, arguments, find, knobs_of, own_fields
from .system.errors import UserError, closest, nearest
from .system.files import folders_with

if TYPE_CHECKING:
    from .recipe import Recipe

PLAIN = json.JSONEncoder(default=str)
RECIPE = re.compile(r"^(?:def recipe\(|recipe\b.*=|from .*\bimport\b.*\brecipe\b)", re.MULTILINE)
IMPORTED = "recipes"  # the folder of a run in which the files lie that its recipe imports
SHIPPED = Path(__file__).with_name("recipes")  # in the wheel; in a clone they lie beside the package
CLONED = Path(__file__).parents[1] / "recipes"
# Of what a recipe raises: a line already, the machine's, or Ctrl-C. All else is told by its place in the recipe.
PASSED_ON = (UserError, MemoryError, KeyboardInterrupt)
RUNNING = threading.RLock()  # what is imported is of the whole process: one recipe at a time


@dataclass(frozen=True)
class RecipeFile:
    """A recipe file that was read and run: its function, its knobs with their defaults, its presets.

    Attributes:
        name: the file's name without its suffix.
        source: the file's text.
        doc: the docstring of the file.
        origin: where the file lies, or lay of which this is a copy.
        imported: the text of each recipe file that it imports, by name.
        home: the folder in which `build` calls the recipe, so that relative paths mean what they did; None is here.
    """

    name: str
    path: Path
    source: str
    doc: str
    function: Callable[..., Recipe]
    presets: dict[str, dict[str, Any]]
    origin: Path
    imported: dict[str, str] = field(default_factory=dict)
    home: Path | None = None

    @property
    def files(self) -> dict[str, str]:
        """The texts that a run keeps, by their names in it: with these it needs no other recipe file."""
        return {"recipe.py": self.source, **{f"{IMPORTED}/{name}": text for name, text in self.imported.items()}}

    @cached_property
    def knobs(self) -> dict[str, Knob]:
        """All knobs by name; those that are fields of the `Recipe` last."""
        return knobs_of(self.function)

    def values(self, preset: str | None = None, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Every knob's value: defaults, then the preset, then `given`, where text is converted by the annotation.

        Fields of the recipe are among them where they are given. Raises:
            UserError: an unknown preset or knob, with the nearest name; a value that its annotation refuses.
        """
        if preset is not None and preset not in self.presets:
            raise UserError(f"{self.name} has no preset '@{preset}'. {nearest(preset, self.presets)}")
        values = {name: knob.default for name, knob in self.knobs.items() if knob.parameter}
        for name, value in {**(self.presets[preset] if preset else {}), **(given or {})}.items():
            knob = find(self.knobs, name, self.name)
            values[knob.name] = convert(name, value, knob.annotation)
        return values

    def kept(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values as a run keeps them: JSON, of which `values` makes exactly these again.

        A default of another kind is left out, since the recipe that is kept beside will give it again. Raises
        `UserError` for another value of such a kind: a run with it could never be resumed.
        """
        kept = {}
        for name, value in values.items():
            knob = self.knobs[name]
            try:
                plain = json.loads(PLAIN.encode(value))
                again = convert(name, plain, knob.annotation)
            except Exception:  # no JSON, or not in the end: what a value's own __str__ raises may be anything
                pass
            else:
                if type(again) is type(value) and repr(again) == repr(value):
                    kept[name] = plain
                    continue
            if value is not knob.default:
                raise UserError(
                    f"the knob '{name}' is {describe(knob.annotation)}, and a run cannot keep {_kind(value)} such as "
                    f"{value!r} to be resumed with it: annotate it as a number, text, a path or a tuple of these"
                )
        return kept

    def build(self, values: Mapping[str, Any]) -> Recipe:
        """Call the recipe function. What it raises, other than `UserError`, becomes one that names the line."""
        given = arguments(self.function, self.knobs, values)
        try:
            with chdir(self.home) if self.home else nullcontext():
                recipe = self.function(**given)
        except PASSED_ON:
            raise
        except BaseException as error:
            raise UserError(f"{self.path} failed{_where(error, self.path)}: {type(error).__name__}: {error}") from error
        from .recipe import Recipe  # and with it torch, which a list of recipes does not need

        if not isinstance(recipe, Recipe):
            raise UserError(f"recipe() in {self.path} returned {_kind(recipe)}; it must return a unitkit.Recipe")
        return replace(recipe, **own_fields(self.knobs, values))


def load_recipe(path: str | Path, preset: str | None = None, **knobs: Any) -> Recipe:
    """The recipe of a file: `load_recipe("recipes/unit_faces.py", width=32)`. Raises as `RecipeFile` does."""
    file = read_recipe_file(path)
    return file.build(file.values(preset, knobs))


def shipped() -> dict[str, Path]:
    """The recipes that come with the package, by their bare names."""
    folder = SHIPPED if SHIPPED.is_dir() else CLONED
    files = {path.stem: path for path in sorted(folder.glob("*.py"))}
    return {name: path for name, path in files.items() if _holds_recipe(path)}


def _holds_recipe(path: Path) -> bool:
    """Whether a file reads like a recipe; it is not run."""
    try:
        return RECIPE.search(path.read_text("utf-8")) is not None
    except (OSError, ValueError):
        return False


def find_recipe(name: str | Path) -> Path:
    """The file of a path, or of the bare name of a recipe that comes with the package.

    Raises:
        UserError: none of these, with the nearest.
    """
    path = Path(name)
    if path.is_file():
        if path.suffix != ".py":
            raise UserError(f"a recipe is a Python file, NAME.py, and {path} is not")
        return path
    if str(name) in (known := shipped()):
        return known[str(name)]
    if (path / "recipe.py").is_file():
        raise UserError(f"{path} is a run: give its recipe, {path / 'recipe.py'}")
    siblings = {each.name for each in path.parent.glob("*.py") if _holds_recipe(each)}
    near = {*known, *(siblings if path.parent == Path() else ())} if path.suffix != ".py" else siblings
    hint = nearest(path.name, near) if near else f"There are no recipes in {path.parent}."
    runs = folders_with("recipe.py", path.parent) if path.suffix != ".py" else {}
    if closest(path.name, near) is None and (run := closest(path.name, runs)):
        hint = f"Did you mean '{runs[run] / 'recipe.py'}'?"
    raise UserError(f"there is no recipe file {path}. {hint}")


def read_recipe_file(path: str | Path, origin: object = None) -> RecipeFile:
    """Run a recipe file and find its `recipe` function and `presets`.

    Args:
        path: of the file, or the bare name of a recipe that comes with the package.
        origin: where the file lay of which this is a copy: its `__file__`, beside which it may have its data.

    Raises:
        UserError: a file that is missing (with the nearest name beside it), does not run, or has no
            `recipe(*, ...)` whose parameters are all keyword-only with defaults.
    """
    path = find_recipe(path)
    module, source, imported = _run(path, origin)
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
    return RecipeFile(path.stem, path, source, inspect.getdoc(module) or "", function, presets, origin, imported)


def _run(path: Path, origin: object) -> tuple[ModuleType, str, dict[str, str]]:
    """Run a recipe file: the module, its text, and those of the recipe files that it imported."""
    try:
        source = path.read_text("utf-8")
        # The name must not be that of an installed module: a recipe may import `timm` and be called timm.py.
        module = _module(f"unitkit_recipe_{path.stem}", path)
        module.__file__ = str(origin or path)
        with RUNNING, _beside(path) as imported:
            assert module.__spec__ and module.__spec__.loader, "a .py file has a loader"
            module.__spec__.loader.exec_module(module)
    except PASSED_ON:
        raise
    except BaseException as error:
        raise UserError(
            f"the recipe file {path} does not run{_where(error, path)}: {type(error).__name__}: {error}"
        ) from error
    return module, source, imported


def import_parts(path: Path) -> None:
    """Run a Python file, so that the parts that it registers can be named. It may be a recipe file.

    Raises `UserError` for one that is missing, is no Python file, or does not run.
    """
    if not path.is_file():
        siblings = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise UserError(f"there is no file {path} with parts. {nearest(path.name, siblings)}")
    if path.suffix != ".py":
        raise UserError(f"parts are registered by a Python file, NAME.py, and {path} is not one")
    module = _module(f"unitkit_parts_{path.stem}", path)
    try:
        with RUNNING, _beside(path):
            assert module.__spec__ and module.__spec__.loader, "a .py file has a loader"
            module.__spec__.loader.exec_module(module)
    except PASSED_ON:
        raise
    except BaseException as error:
        raise UserError(f"the file {path} does not run: {type(error).__name__}: {error}") from error


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where annotations are looked up
    return module


@contextmanager
def _beside(path: Path) -> Iterator[dict[str, str]]:
    """Within the block the files beside a recipe, or those that a run keeps of what it imports, can be imported.

    Yields their texts by name when the block is left; then they are forgotten, as another recipe may have its own.
    """
    folders = [path.absolute().parent, path.absolute().parent / IMPORTED]
    texts: dict[str, str] = {}
    before, modules = list(sys.path), set(sys.modules)
    sys.path[:0] = [str(folder) for folder in folders]
    try:
        yield texts
    finally:
        sys.path[:] = before
        for name in sorted(set(sys.modules) - modules):
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).parent in folders and Path(file) != path.absolute():
                texts[Path(file).name] = Path(file).read_text("utf-8")
                del sys.modules[name]


def parse_knobs(words: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """The words behind a recipe on the command line: at most one `@preset`, and `knob=value` each once."""
    preset: str | None = None
    given: dict[str, str] = {}
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if word.startswith("@"):
            if preset is not None:
                raise UserError(f"one preset at a time: '@{preset}' and '{word}'")
            preset = word[1:]
        elif not equals or not all(part.isidentifier() for part in name.split(".")):
            after = words[number + 1] if number + 1 < len(words) else "="
            hint = f": did you mean {word}={after}?" if word.isidentifier() and not set("=@") & set(after) else ""
            raise UserError(f"'{word}' is neither knob=value nor @preset{hint}")
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
