"""The main job in small: a short training on rendered portraits must beat a copy of the input."""

from pathlib import Path

import pytest

from unitkit import Trainer, load_recipe

RECIPE = Path(__file__).parent.parent / "recipes" / "unit_faces.py"


@pytest.mark.timeout(280)
def test_short_training_beats_the_copy_where_glasses_must_change(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPE, size=32, steps=500)
    trainer = Trainer(recipe, tmp_path / "run", seed=0)
    assert trainer.fit()
    figures = trainer.evaluate()["figures"]
    for path in ("ab", "ba"):
        found = figures[f"counterpart({path})"]
        assert found["changing.translation.psnr"] > found["changing.input.psnr"] + 0.5, (path, found)
        assert found["rest.translation.psnr"] > 18, (path, found)
