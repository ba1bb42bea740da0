"""The grid of an ablation: knobs with several values, read from text, and the cells that they make with the seeds."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..knobs import find
from ..recipe_file import RecipeFile, parse_knobs
from ..system.errors import UserError, nearest

MOST = 10_000  # trainings of a grid, and values in a range
LONGEST = 120  # of a folder's name; longer ones are cut and told apart by a hash


@dataclass(frozen=True)
class Cell:
    """One training of an ablation: a setting of the swept knobs, a seed, and its run folder below the ablation's."""

    setting: dict[str, Any]
    seed: int
    folder: str

    def to_json(self) -> dict[str, Any]:
        return {"folder": self.folder, "setting": self.setting, "seed": self.seed, "failed": None}


@dataclass(frozen=True)
class Grid:
    """Knobs that are the same everywhere, and knobs with several values, all typed by the recipe.

    Attributes:
        fixed: only what differs from the recipe's defaults: the preset's knobs and those given one value.
        swept: each knob's values, in the order given.
    """

    fixed: dict[str, Any]
    swept: dict[str, list[Any]]

    @property
    def settings(self) -> list[dict[str, Any]]:
        """Every combination of the swept knobs, the last knob changing fastest."""
        return [dict(zip(self.swept, values, strict=True)) for values in itertools.product(*self.swept.values())]

    def count(self, seeds: int) -> int:
        """The trainings that `cells` would list, counted before it does. Raises `UserError` where they are too many."""
        count = math.prod(map(len, self.swept.values())) * seeds
        if count > MOST:
            what = " x ".join([*(f"{len(values)} of {name}" for name, values in self.swept.items()), f"{seeds} seeds"])
            raise UserError(f"this grid has {count:,} trainings ({what}): expected at most {MOST:,}")
        return count

    def cells(self, seeds: int) -> list[Cell]:
        """Every setting with every seed; all settings of a seed come before the next seed."""
        return [
            Cell(setting, seed, f"{folder_name(setting)}/seed-{seed}")
            for seed in range(seeds)
            for setting in self.settings
        ]


def read_grid(file: RecipeFile, words: Sequence[str]) -> Grid:
    """The grid that the command line's words make: `@preset`, `knob=value`, `knob=v1,v2`, `knob=0..4`.

    Values have commas between; where a value holds a comma itself, semicolons (`data=x,y;z,w`, or `data=x,y;` for one).

    Raises:
        UserError: an unknown preset or knob, no value, a value twice, a range that is none, a value of another type.
    """
    preset, given = parse_knobs(words)
    plain = file.values(preset)
    defaults = file.values()
    # The recipe's own fields have no defaults here: the recipe knows them.
    fixed = {name: value for name, value in plain.items() if name not in defaults or value != defaults[name]}
    swept: dict[str, list[Any]] = {}
    for said, text in given.items():
        name = find(file.knobs, said, file.name).name
        values = [_typed(file, name, word, text) for word in split_values(name, text)]
        counts = Counter(values)
        if len(counts) < len(values):
            raise UserError(f"the knob '{name}' is given the value {counts.most_common(1)[0][0]} twice")
        if len(values) == 1:
            fixed[name] = values[0]
        else:
            swept[name] = values
            fixed.pop(name, None)
    return Grid(fixed, swept)


def split_values(name: str, text: str) -> list[str]:
    """The values in `text`, ranges written out. Raises `UserError` where there are none."""
    words = text.split(";") if ";" in text else text.split(",")
    words = [word.strip() for word in words]
    if ";" in text and words[-1] == "":
        words.pop()
    if not words or "" in words:
        raise UserError(
            f"the knob '{name}' has no value in '{name}={text}': expected such as {name}=1,2 or {name}=0..4"
        )
    found: list[str] = []
    for word in words:
        if match := re.fullmatch(r"(-?\d{1,18})\.\.(-?\d{1,18})", word, re.ASCII):
            low, high = int(match[1]), int(match[2])
            if high < low:
                raise UserError(f"the range {word} of '{name}' is empty: expected the lower end first, {high}..{low}")
            if high - low >= MOST:
                raise UserError(f"the range {word} of '{name}' has {high - low + 1} values; expected at most {MOST}")
            found += [str(number) for number in range(low, high + 1)]
        else:
            found.append(word)
    return found


def _typed(file: RecipeFile, name: str, word: str, text: str) -> Any:
    try:
        return file.values(None, {name: word})[name]
    except UserError as error:
        hint = f" (values that hold a comma have semicolons between: '{name}={text};' is one value)"
        raise UserError(f"{error}{hint if ',' in text and ';' not in text else ''}") from None


def one_setting(file: RecipeFile, grid: Grid, text: str) -> dict[str, Any]:
    """The setting of the grid that `text` names, "shared=0,layers=3"; knobs left out have their first value.

    Raises:
        UserError: a knob that is not swept, a value that is not in the grid.
    """
    setting = {name: values[0] for name, values in grid.swept.items()}
    for word in filter(None, (each.strip() for each in text.split(","))):
        said, _, value = word.partition("=")
        name = find(file.knobs, said, file.name).name
        if name not in grid.swept:
            raise UserError(f"the baseline names '{name}', which is not swept. {nearest(name, grid.swept)}")
        typed = _typed(file, name, value, value)
        if typed not in grid.swept[name]:
            among = ", ".join(map(str, grid.swept[name]))
            raise UserError(f"the baseline's {name}={value} is not in the grid, which has {among}")
        setting[name] = typed
    return setting


def label(setting: Mapping[str, Any]) -> str:
    """A setting as people read it: "shared=0, layers=3"."""
    return ", ".join(f"{name}={in_words(value)}" for name, value in setting.items()) or "default"


def in_words(value: Any) -> str:
    """A value as the command line takes it: a size of (48, 64) is "48x64"."""
    return "x".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def folder_name(setting: Mapping[str, Any]) -> str:
    """A folder's name for a setting: "shared=0,layers=3", safe and short on any disk."""
    name = label(setting).replace(", ", ",")
    safe = re.sub(r"[^\w=,.+-]", "_", name)
    if safe == name and len(name) <= LONGEST:
        return name
    return f"{safe[:LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
