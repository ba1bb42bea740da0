"""The main job in small: a short training on rendered portraits must beat a copy of the input."""

from pathlib import Path

import pytest

from unitkit import Trainer, load_recipe
from unitkit.runs.options import RunOptions

RECIPE = Path(__file__).parent.parent / "recipes" / "unit_faces.py"


@pytest.mark.timeout(280)
def test_short_training_beats_the_copy_where_glasses_must_change(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPE, size=32, steps=250, batch=4)
    trainer = Trainer(recipe, RunOptions(tmp_path / "run", seed=0))
    assert trainer.fit()
    results = trainer.evaluate()["metrics"]
    # What the bounds leave out: a copy; a training without the GAN (-0.47 dB beside the copy in `ab`, 1.41 in `ba`);
    # the best Gaussian blur of the input, which fills in glasses a little (14.4 dB in `ab`, 16.1 in `ba`). Seeds 0, 1
    # and 2 reach 0.33, 0.40 and 0.12 dB beside the copy in `ab`, and 2.08, 2.47 and 2.27 in `ba`.
    for path, margin in ("ab", 0.0), ("ba", 1.9):
        found = results[f"ground_truth({path})"]["figures"]
        assert found["changing.translation.psnr"] > found["changing.input.psnr"] + margin, (path, found)
        assert found["rest.translation.psnr"] > 20, (path, found)
