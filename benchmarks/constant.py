"""Accuracy by pixel and by class of predictions that look at no input: what a translation of aligned data must beat.

    python benchmarks/constant.py ../shared/data/maps256 --labels satellite,map --size 64

Prints, for domain b: the constant colour that is best on the training images, their mean colour, their mean image, and
the untranslated image of domain a.
"""

from __future__ import annotations

import argparse

import numpy as np

from unitkit import metrics, open_data
from unitkit.data.sources import ImageArray, Images

FIGURES = ("largest_channel", "euclidean", "mean_recall", "mean_iou")
STEP = 4  # of the search for the best colour, of 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--labels", default="satellite,map")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--palette", default="maps", help="as of class_accuracy")
    given = parser.parse_args()
    data = open_data(given.data, size=given.size, labels=given.labels, aligned=True)
    assert data.truth
    held_out = data.domains["a"].test
    truth = np.stack([data.truth("ab", i) for i in range(len(held_out))])
    train = _all(data.domains["b"].train)
    mean = np.rint(train.mean(axis=0)).astype(np.uint8)
    for name, prediction in (
        ("best constant colour", best_constant(train)[:, None, None]),
        ("mean colour", np.rint(train.mean(axis=(0, 2, 3))).astype(np.uint8)[:, None, None]),
        ("mean image", mean),
        ("untranslated", _all(held_out)),
    ):
        sets = {"ab": np.broadcast_to(prediction, truth.shape), "b": truth}
        measured = [metrics.pixel_accuracy("ab", "b"), metrics.class_accuracy("ab", "b", palette=given.palette)]
        found = metrics.evaluate_images(measured, {key: ImageArray(each, key) for key, each in sets.items()})
        figures = {figure: value for metric in measured for figure, value in found[metric.name]["figures"].items()}
        print(name, *(f"{figure} {figures[figure]:.4f}" for figure in FIGURES), sep="  ")


def best_constant(images: np.ndarray, tolerance: int = 16) -> np.ndarray:
    """The colour (C,) that is right for most pixels of uint8 images (N, C, H, W), on a grid of steps of 4.

    Candidates are the 200 commonest cells of the grid, and a 29th of the pixels stands for all.
    """
    pixels = images.transpose(0, 2, 3, 1).reshape(-1, images.shape[1])[::29].astype(np.int16)
    cells, counts = np.unique(pixels // STEP, axis=0, return_counts=True)
    candidates = cells[np.argsort(-counts)[:200]] * STEP + STEP // 2
    right = [(np.abs(pixels - each).max(axis=1) <= tolerance).mean() for each in candidates]
    best: np.ndarray = candidates[int(np.argmax(right))].astype(np.uint8)
    return best


def _all(images: Images) -> np.ndarray:
    return np.stack([images.load(i) for i in range(len(images))])


if __name__ == "__main__":
    main()
