"""What becomes of an image beside its content: at its borders, in its texture, its colours, its edges."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from .metric import Context, Metric, Result, named, reference_for, register
from .paired import Sums, Totals, compared, similarities

RING = 16  # the frame is as wide as this part of the shorter side
PATCH = 16
HANN = np.hanning(PATCH + 1)[:-1]
WINDOW = np.outer(HANN, HANN)  # so that patches' borders do not leak
HUES = 36
ROUNDING = 1 / 12  # the variance of what rounding to whole numbers changes


@register
def border(path: str, to: str) -> Metric:
    """How much more an image is off along its frame than inside, where padding is all that a network sees beyond.

    The frame is a sixteenth of the shorter side wide. Of a reconstruction, `("aa", "a")`, there is no other reason for
    a difference; of a translation, `("ab", "a")`, also what it changes inside counts.

    Returns figures `border`, the mean absolute difference along the frame over that inside (1 is no border);
        `darkening`, by how much more the frame has lost of its brightness than the inside, of 255.
    """

    def sums(image: np.ndarray, reference: np.ndarray) -> Sums:
        error = image.astype(np.float64) - reference
        frame = framed(image.shape[2], image.shape[3])
        found: Sums = {}
        for name, mask in ("frame", frame), ("inside", ~frame):
            there = error[:, :, mask]
            found |= {f"{name}.sum": float(there.sum()), f"{name}.off": float(np.abs(there).sum())}
            found[f"{name}.values"] = float(there.size)
        return found

    def figures(total: Mapping[str, float]) -> dict[str, float]:
        frame, inside = (total[f"{name}.off"] / total[f"{name}.values"] for name in ("frame", "inside"))
        brighter, within = (total[f"{name}.sum"] / total[f"{name}.values"] for name in ("frame", "inside"))
        return {"border": frame / max(inside, 1e-9), "darkening": within - brighter}

    name, title = named("border", path, to)
    reads = (path, reference_for(path, to))
    return Metric(
        name,
        reads,
        lambda context: Totals(reads, sums, figures, {"frame": f"1/{RING} of the shorter side"}),
        higher=False,
        title=title,
        units={"darkening": "of 255"},
        neither=("darkening",),
        smallest=8,
    )


@register
def texture(path: str, to: str) -> Metric:
    """The dots and grids that strides leave, against a reference: how far energy at their periods stands out.

    `("aa", "a")` and `("ab", "a")` compare with the input, `("ab", "b")` with the truth. In each patch, 16x16, the
    energy at periods of 2 and 4 pixels is compared with that at the frequencies around, so that blur and noise, which
    change both, count for little, and a flat wall counts as much as fur. What is fainter than one level of 255 counts
    for nothing.

    Returns the figure `texture`, by how many doublings, in the mean of all patches, these peaks are higher than the
        reference's: 0 is no pattern that the reference has not.
    """

    def sums(image: np.ndarray, reference: np.ndarray) -> Sums:
        return {"images": float(len(image)), "higher": sum(map(peaks, image)) - sum(map(peaks, reference))}

    def figures(total: Mapping[str, float]) -> dict[str, float]:
        return {"texture": total["higher"] / total["images"]}

    return replace(compared("texture", path, to, False, sums, figures, "doublings"), smallest=PATCH)


@register
def sharpness(path: str, to: str) -> Metric:
    """The energy of an image's second differences over that of a reference, of all images together.

    Returns figures `sharpness`, by how many doublings the energy is more or less than the reference's (0 is as sharp),
        and `ratio`: below 1 the image is blurred.
    """

    def sums(image: np.ndarray, reference: np.ndarray) -> Sums:
        return {name: laplacian(each) for name, each in (("image", image), ("reference", reference))}

    return _of_energies("sharpness", path, to, sums, smallest=3)


def _of_energies(word: str, path: str, to: str, sums: Callable[..., Sums], smallest: int) -> Metric:
    """A metric of the energies of images and of their references, which should be equal."""

    def figures(total: Mapping[str, float]) -> dict[str, float]:
        ratio = total["image"] / total["reference"]
        return {word: abs(math.log2(ratio)), "ratio": ratio}

    metric = compared(word, path, to, False, sums, figures, "doublings")
    return replace(metric, smallest=smallest, single=False, neither=("ratio",))


@register
def structure(path: str, to: str) -> Metric:
    """SSIM of the edges of an image and of a reference: what a change of light or season should leave as it is.

    Returns the figure `structure`, at most 1, the mean over images of the SSIM (as of `ssim`) of Sobel magnitudes in
        grey, of 255.
    """

    def sums(image: np.ndarray, reference: np.ndarray) -> Sums:
        return {"images": float(len(image)), "ssim": similarities(edges(image), edges(reference))}

    def figures(total: Mapping[str, float]) -> dict[str, float]:
        return {"structure": total["ssim"] / total["images"]}

    return replace(compared("structure", path, to, True, sums, figures), smallest=13)


@register
def colour(path: str, to: str) -> Metric:
    """How far the hues of one set are from those of another, `("ab", "b")`: a drift to one tone, or a swap.

    Returns figures `colour`, half the sum of absolute differences of two histograms of 36 hues, weighted by chroma, in
        [0, 1], and `chroma`, the mean chroma of the first set over that of the second. Of two grey sets, 0 and 1; where
        one alone is grey, 1 and 0.
    """
    name, title = named("colour", path, to)

    def begin(context: Context) -> Hues:
        return Hues((path, to))

    return Metric(name, (path, to), begin, higher=False, together=False, title=title, neither=("chroma",))


class Hues:
    """Histograms of hues, weighted by chroma, of two sets."""

    def __init__(self, reads: tuple[str, str]) -> None:
        self.reads = reads
        self.found = {reading: np.zeros(HUES) for reading in reads}
        self.pixels = dict.fromkeys(reads, 0)

    def update(self, images: Mapping[str, np.ndarray]) -> None:
        for reading in self.found.keys() & images.keys():
            self.found[reading] += hues(images[reading])
            self.pixels[reading] += images[reading][:, 0].size

    def result(self, n: Mapping[str, int]) -> Result:
        one, two = (self.found[reading] for reading in self.reads)
        if not one.sum() or not two.sum():
            grey = not one.sum() and not two.sum()
            return Result({"colour": float(not grey), "chroma": float(grey)})
        shares = [each / max(each.sum(), 1e-9) for each in (one, two)]
        chroma = [self.found[reading].sum() / self.pixels[reading] for reading in self.reads]
        apart = float(np.abs(shares[0] - shares[1]).sum() / 2)
        return Result({"colour": apart, "chroma": float(chroma[0] / max(chroma[1], 1e-9))})


def framed(height: int, width: int) -> np.ndarray:
    """Which pixels (height, width) are of the frame."""
    ring = max(1, min(height, width) // RING)
    frame = np.ones((height, width), bool)
    frame[ring:-ring, ring:-ring] = False
    return frame


def peaks(image: np.ndarray) -> float:
    """By how many doublings the energy of an image (C, H, W) in grids with periods of 2 or 4 pixels, along one axis or
    both, is higher than at the frequencies around: the mean of its patches, each half over the next."""
    tops, lefts = (sorted({*range(0, side - PATCH, PATCH // 2), side - PATCH}) for side in image.shape[1:])
    found = []
    for top in tops:
        strip = image[:, top : top + PATCH].astype(np.float64)
        patches = np.stack([strip[:, :, left : left + PATCH] for left in lefts])
        patches = (patches - patches.mean(axis=(2, 3), keepdims=True)) * WINDOW
        # Every other frequency, which is all that is asked for, is that of a patch folded onto itself.
        folded = patches.reshape(*patches.shape[:2], 2, PATCH // 2, 2, PATCH // 2).sum(axis=(2, 4))
        spectrum = (np.abs(np.fft.fft2(folded)) ** 2).sum(axis=1)
        doublings = np.log2(spectrum + (WINDOW**2).sum() * len(image))  # with that of one level, so that none is 0
        around = np.mean([np.roll(doublings, by, axis) for by in (1, -1) for axis in (1, 2)], axis=0)
        grids = (doublings - around)[:, ::2, ::2].reshape(len(lefts), -1)[:, 1:]
        found.append(grids.mean())
    return float(np.mean(found))


def laplacian(images: np.ndarray) -> float:
    """The sum of squared second differences, rows and columns together, of images (N, C, H, W), and of what rounding
    adds, so that it is never 0."""
    x = images.astype(np.float64)
    inner = x[:, :, 1:-1, 1:-1]
    found = x[:, :, :-2, 1:-1] + x[:, :, 2:, 1:-1] + x[:, :, 1:-1, :-2] + x[:, :, 1:-1, 2:] - 4 * inner
    return float((found**2).sum() + 20 * ROUNDING * found.size)  # 4 * 4 + 4: the squared weights of the differences


def edges(images: np.ndarray) -> np.ndarray:
    """The lengths of Sobel's gradients of images (N, C, H, W) in grey, (N, 1, H - 2, W - 2): a step of 255 is 255."""
    x = images.astype(np.float64).mean(axis=1, keepdims=True)
    down = (x[:, :, :, :-2] + 2 * x[:, :, :, 1:-1] + x[:, :, :, 2:]) / 4
    right = (x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]) / 4
    found: np.ndarray = np.hypot(down[:, :, 2:] - down[:, :, :-2], right[:, :, :, 2:] - right[:, :, :, :-2])
    return found


def hues(images: np.ndarray) -> np.ndarray:
    """The chroma of all pixels of images (N, C, H, W) by hue, (36,): zeros of images that are no RGB."""
    if images.shape[1] != 3:
        return np.zeros(HUES)
    red, green, blue = images.astype(np.float64).transpose(1, 0, 2, 3)
    # Hue and chroma as an angle and a length in the plane across the grey axis.
    x, y = red - (green + blue) / 2, (green - blue) * np.sqrt(3) / 2
    place = ((np.arctan2(y, x) / (2 * np.pi) % 1) * HUES).astype(int) % HUES
    return np.bincount(place.ravel(), weights=np.hypot(x, y).ravel(), minlength=HUES)
