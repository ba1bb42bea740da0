"""The snippets of docs/extend.md, as they stand there: a recipe of one's own that trains, and parts that keep their
contract."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from commands import unitkit

from unitkit import load_recipe, testing
from unitkit.recipe_file import import_parts

EXTEND = Path(__file__).parents[1] / "docs" / "extend.md"


@pytest.fixture
def mine(tmp_path: Path, own_parts: None) -> Path:
    """All snippets in one file."""
    path = tmp_path / "mine.py"
    path.write_text("\n\n".join(re.findall(r"```python\n(.*?)```", EXTEND.read_text("utf-8"), re.DOTALL)), "utf-8")
    return path


@pytest.mark.parametrize(
    ("kind", "name"),
    [("encoder", "flat"), ("discriminator", "spectral"), ("optimizer", "signsgd"), ("loss", "charbonnier")],
)
def test_the_parts_keep_their_contract(mine: Path, kind: str, name: str) -> None:
    import_parts(mine)
    testing.check(kind, name)


def test_the_recipe_trains_with_its_hooks_and_goes_on_where_it_stopped(mine: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = ("size=16", "width=4")
    answer = unitkit("train", mine, *small, "steps=11", "--out", run)
    assert answer.status == 0, answer.err
    assert "loss/generator/charbonnier(aba, a)" in (run / "lines.txt").read_text()
    hook = load_recipe(mine, steps=11).hooks[0]
    assert type(hook).__name__ == "GradientNorm" and hook.every == 10
    assert unitkit("train", "--resume", "--out", run, "steps=12").status == 0
    assert unitkit("translate", run, "ab", run / "samples", tmp_path / "out", "--parts", run / "recipe.py").status == 0
