"""What a survey of some data shows to be wrong with them, the worst first, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from ..sources import ImageFiles, Images
from ..truth import key
from ..values import NO_NUMBERS
from .duplicates import Pair, Where, exact_duplicates, near_duplicates
from .near import FLAT
from .survey import Split, Survey

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
AREA, ASPECT = 8.0, 2.0  # times the median from which an image's size or proportions stand out
UNEVEN = 10.0  # times the images of the smallest domain or class that the largest has
ALIGNED = 0.9  # share of all names that two domains have in common where they are meant to be pairs


@dataclass(frozen=True)
class Finding:
    """One kind of fault.

    Attributes:
        kind: a word for programs, "leak".
        count: how many images it concerns.
        text: what it is, with the number.
        way_out: what to do.
        images: the images it concerns, or what is said of each, in words.
        pairs: those that belong together, where they do.
    """

    severity: Severity
    kind: str
    count: int
    text: str
    way_out: str
    images: Sequence[str] = ()
    pairs: Sequence[Pair] = ()

    def to_json(self) -> dict[str, Any]:
        """Without what only a page shows."""
        names = ("severity", "kind", "count", "text", "way_out")
        return {name: getattr(self, name) for name in names} | {"images": list(self.images)}


def findings(survey: Survey, near: float) -> list[Finding]:
    """All of them, by severity. `near` is the largest distance of near duplicates; 0 looks for none."""
    found = [
        *_unreadable(survey),
        *_duplicates(survey, exact_duplicates(survey), EXACT),
        *_duplicates(survey, near_duplicates(survey, near) if near else [], NEARLY),
        *_per_domain(survey),
        *_constant(survey),
        *_files(survey),
        *_unpaired(survey),
        *_uneven(survey),
        *(_noted(note) for note in survey.data.notes),
    ]
    return sorted(found, key=lambda each: SEVERITIES.index(each.severity))


def _noted(note: str) -> Finding:
    """A note of whoever opened the data."""
    if note.startswith("values of"):
        return Finding("note", "values", 0, note, "say what black and white are where it should not be found")
    return Finding("note", "skipped", 0, note, "rename or move it if it should be read")


def _unreadable(survey: Survey) -> Iterator[Finding]:
    errors = [reason for split in survey.splits for reason in split.errors.values()]
    if errors:
        way_out = "mend or remove them, or train with --bad-images skip"
        if any(NO_NUMBERS in reason for reason in errors):
            way_out += "; --nan 0, and nan=0 in a training, say what stands for values that are no numbers"
        yield Finding("error", "unreadable", len(errors), f"images that cannot be read: {len(errors)}", way_out, errors)


EXACT: dict[Where, tuple[Severity, str, str, str]] = {
    "splits": ("error", "leak", "test images that equal a training image: {}", "remove them from one of the two"),
    "domains": (
        "warning",
        "two-domains",
        "images that equal one of another domain: {}",
        "decide which domain each belongs to",
    ),
    "split": (
        "note",
        "duplicates",
        "images that equal another one of their split: {}",
        "remove them to count each once",
    ),
}
NEARLY: dict[Where, tuple[Severity, str, str, str]] = {
    "splits": (
        "warning",
        "near-leak",
        "test images that nearly equal a training image: {}",
        "look at them in the report, and keep what belongs together in one split",
    ),
    "domains": (
        "warning",
        "near-two-domains",
        "images that nearly equal one of another domain: {}",
        "look at them in the report, and decide which domain each belongs to",
    ),
    "split": (
        "note",
        "near-duplicates",
        "images that nearly equal another one of their split: {}",
        "look at them in the report, and remove what adds nothing",
    ),
}


def _duplicates(
    survey: Survey, pairs: Sequence[Pair], words: dict[Where, tuple[Severity, str, str, str]]
) -> Iterator[Finding]:
    for where, (severity, kind, text, way_out) in words.items():
        there = [pair for pair in pairs if pair.where == where]
        if not there:
            continue
        count = len({pair.two for pair in there})
        same = sum(pair.same_file for pair in there)
        more = f" ({same} the same file, {len(there) - same} stored anew)" if words is EXACT and same else ""
        images = [f"'{survey.name(pair.one)}' and '{survey.name(pair.two)}' ({pair.how})" for pair in there]
        yield Finding(severity, kind, count, text.format(count) + more, way_out, images, there)


def _per_domain(survey: Survey) -> Iterator[Finding]:
    """What stands out in its domain: sizes, proportions, channels."""
    for label, splits in _domains(survey).items():
        read = [(split, i) for split in splits for i in split.read]
        if not read:
            continue
        sizes = np.array([split.sizes[i] for split, i in read], np.float64)
        channels = np.array([split.channels[i] for split, i in read])
        area, aspect = sizes.prod(1), sizes[:, 1] / sizes[:, 0]
        for kind, values, limit, what in (
            ("size", area, AREA, f"images of '{label}' over {AREA:g} times as large or as small as the median"),
            ("aspect", aspect, ASPECT, f"images of '{label}' over {ASPECT:g} times as wide or as narrow as the median"),
        ):
            middle = float(np.median(values))
            odd = np.flatnonzero(np.maximum(values / middle, middle / values) > limit)
            if len(odd):
                yield Finding(
                    "warning",
                    kind,
                    len(odd),
                    f"{what}: {len(odd)}",
                    "crop or remove them: every image is scaled to cover the training's size and cut at the centre",
                    [_sized(*read[k], sizes[k]) for k in odd],
                )
        if len(np.unique(channels)) > 1:
            usual = int(np.bincount(channels).argmax())
            odd = np.flatnonzero(channels != usual)
            yield Finding(
                "warning",
                "channels",
                len(odd),
                f"images of '{label}' that have not the {usual} channels of most: {len(odd)}",
                "all are brought to the most channels of the domain; say channels=1 or channels=3 for one kind",
                [f"'{read[k][0].images.name(int(read[k][1]))}' ({read[k][0].modes[int(read[k][1])]})" for k in odd],
            )


def _sized(split: Split, i: int, size: np.ndarray) -> str:
    return f"'{split.images.name(int(i))}' ({size[1]:.0f}x{size[0]:.0f})"


def _constant(survey: Survey) -> Iterator[Finding]:
    flat = [(split, int(i)) for split in survey.splits for i in split.read if split.deviation[i] < FLAT]
    if flat:
        names = [f"'{split.images.name(i)}'" for split, i in flat]
        yield Finding(
            "warning",
            "constant",
            len(flat),
            f"images of almost one value throughout: {len(flat)}",
            "remove them unless they belong to the domain",
            names,
        )


def _files(survey: Survey) -> Iterator[Finding]:
    misnamed = [f"'{split.images.name(i)}' ({form})" for split in survey.splits for i, form in split.misnamed.items()]
    if misnamed:
        text = f"images of another format than their suffix says: {len(misnamed)}"
        yield Finding(
            "warning", "suffix", len(misnamed), text, "rename them, as other programs may refuse them", misnamed
        )
    short = [f"'{split.images.name(i)}'" for split in survey.splits for i in split.short]
    if short:
        text = f"images without their last bytes, read as viewers show them, grey there: {len(short)}"
        yield Finding("warning", "short", len(short), text, "fetch them again", short)


def _unpaired(survey: Survey) -> Iterator[Finding]:
    """Names that one of two domains lacks where nearly all are the same."""
    for one, two in combinations(survey.splits, 2):
        if one.name != two.name or not alike(one.images, two.images):
            continue
        names, others = ({key(split.images, i): i for i in range(len(split.images))} for split in (one, two))
        alone = [f"'{one.images.name(names[each])}'" for each in sorted(names.keys() - others.keys())]
        alone += [f"'{two.images.name(others[each])}'" for each in sorted(others.keys() - names.keys())]
        if alone:
            yield Finding(
                "warning",
                "unpaired",
                len(alone),
                f"images of '{one.label}' and '{two.label}' ({one.name}) without a counterpart of their name, which "
                f"{len(names.keys() & others.keys())} pairs have: {len(alone)}",
                "add or remove the counterparts if the data are meant to be pairs",
                alone,
            )


def alike(one: Images, two: Images) -> bool:
    """Whether the files of two sets have nearly the same names, as those of aligned data do."""
    if not (isinstance(one, ImageFiles) and isinstance(two, ImageFiles)):
        return False
    names, others = set(one.keys), set(two.keys)
    return len(names & others) >= ALIGNED * len(names | others)


def _uneven(survey: Survey) -> Iterator[Finding]:
    domains = {label: len(splits[0].images) for label, splits in _domains(survey).items()}
    yield from _imbalance("domains", domains, "label")
    for split in survey.splits:
        counts = {str(name): count for name, count in split.class_counts().items()}
        yield from _imbalance(f"classes of '{split.label}' ({split.name})", counts, "class")


def _imbalance(what: str, counts: dict[str, int], noun: str) -> Iterator[Finding]:
    if not counts:
        return
    least, most = min(counts, key=lambda name: counts[name]), max(counts, key=lambda name: counts[name])
    if counts[most] >= UNEVEN * counts[least]:
        yield Finding(
            "warning",
            "imbalance",
            counts[least],
            f"uneven {what}: '{most}' has {counts[most]} images, '{least}' {counts[least]}",
            f"a training sees each {noun} of a few images many times over: add images, or take fewer of the others",
        )


def _domains(survey: Survey) -> dict[str, list[Split]]:
    found: dict[str, list[Split]] = {}
    for split in survey.splits:
        found.setdefault(split.label, []).append(split)
    return found
