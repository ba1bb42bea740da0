"""What folders and arrays are called that hold a split: train/ and test/, trainA and testA, Training-cats, x_val."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...system.errors import UserError, nearest

Kind = Literal["train", "test", "val"]
HELD_OUT: dict[Kind, str] = {"test": "test", "val": "validation"}

# As they are usually spelt, in lower case and without the word "set", "split", "data" or "images" behind.
SPELT: dict[str, Kind] = {
    **dict.fromkeys(("train", "training", "trainval", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "eval", "evaluation", "dev"), "val"),
    **dict.fromkeys(("heldout", "holdout"), "val"),
}
WORDS = "|".join(sorted((*SPELT, "held[-_ .]?out", "hold[-_ .]?out"), key=len, reverse=True))
WHOLE = re.compile(rf"({WORDS})([-_ .]?(set|split|data|images?|imgs?))?", re.IGNORECASE)
SEPARATOR = "-_ ."
# trainA, train_a, train-cats, train1; of "trains" and "valley" only a single letter behind the word is a label.
FIRST = re.compile(rf"({WORDS})(?:[{SEPARATOR}]+(.+)|([^\W_]))", re.IGNORECASE)
CAMEL = re.compile(rf"((?i:{WORDS}))([A-Z0-9].*)")
PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+")  # the words of horseTrain, of x_train and of imagesTr
SHORT: dict[str, Kind] = {"tr": "train", "ts": "test", "te": "test", "va": "val"}
GLUED = ("training", "testing", "train", "test", "validation")


@dataclass(frozen=True)
class Split:
    """A name that stands for a split: its kind, and the label of the domain that the name holds too, if any."""

    kind: Kind
    label: str


def split_of(name: str) -> Split | None:
    """What split a folder's name stands for; None for the name of something else.

    "Training" is the training split; "testA", "test_A" and "Test-a" are the test split of A.
    """
    name = unicodedata.normalize("NFKC", name)  # letters of full width, say
    if whole := WHOLE.fullmatch(name):
        return Split(_kind(whole[1]), "")
    if first := FIRST.fullmatch(name):
        return Split(_kind(first[1]), first[2] or first[3])
    # TRAINERS is a word in capitals, not the label ERS.
    if (camel := CAMEL.fullmatch(name)) and not (name.isupper() and len(camel[2]) > 1 and camel[2][0].isalpha()):
        return Split(_kind(camel[1]), camel[2])
    return None


def folded(label: str) -> str:
    """A label as it is compared: Cat, cat and CAT are one."""
    return unicodedata.normalize("NFC", label).casefold()


def counterparts(labels: Sequence[str], others: Sequence[str], train: Path, test: Path) -> dict[str, str]:
    """For each label of `train` that of `test`, one of `others`, equal but for its case.

    Raises `UserError` where a label has none, or may mean several.
    """
    found: dict[str, str] = {}
    for label in labels:
        near = [label] if label in others else [other for other in others if folded(other) == folded(label)]
        if not near:
            raise UserError(f"'{train / label}' has no counterpart in '{test}' for testing. {nearest(label, others)}")
        taken = [one for one, other in found.items() if other in near]
        if taken or len(near) > 1:
            raise UserError(
                f"'{train}' holds {_quoted([*taken, label])} and '{test}' {_quoted(near)}: where names differ in case "
                f"alone, give both folders the same ones"
            )
        found[label] = near[0]
    return found


def refuse_splits(labels: Iterable[str], where: str) -> None:
    """Raise `UserError` where two labels are the splits of one domain: Train and Test, horseTrain and horseTest,
    imagesTr and imagesTs, cats and cats_test."""
    kinds: dict[str, dict[Kind | None, str]] = {}
    for label in labels:
        for rest, kind in _readings(label):
            kinds.setdefault(rest, {}).setdefault(kind, label)
    for rest, found in kinds.items():
        # "station" beside "train station" is another place; "cats" beside "cats_test" is its test split.
        if found.keys() == {None, "train"} or (None in found and not rest):
            continue
        names = list(dict.fromkeys(found.values()))
        if len(names) > 1:
            raise UserError(
                f"the domains of {where} would be {_quoted(names)}, which are named as splits of one domain: name each "
                f"domain by its label, such as folders train/LABEL and test/LABEL, arrays LABEL and LABEL_test"
            )


def _readings(label: str) -> Iterator[tuple[str, Kind | None]]:
    """What a label may mean: what is left of it without a word for a split, and that split; and itself alone."""
    text = unicodedata.normalize("NFKC", label)
    words = PARTS.findall(text)
    plain = [word.casefold() for word in words]
    yield " ".join(plain), None
    for place, word in enumerate(plain):
        around = plain[:place], plain[place + 1 :]
        kind = SPELT.get(word) or (SHORT.get(word) if len(plain) > 1 else None)  # tr alone may be Turkish
        if kind:
            numbers = [each for side in around for each in side if not each.isdigit()]  # 01_train, 02_test
            yield " ".join(numbers), kind
        if word[:1] in ("x", "y") and word[1:] in SHORT:  # Xtr
            yield " ".join([*around[0], word[0], *around[1]]), SHORT[word[1:]]
        for spelt in GLUED:  # Xtrain, horsetest
            if word != spelt and (word.startswith(spelt) or word.endswith(spelt)):
                left = word.removeprefix(spelt) if word.startswith(spelt) else word.removesuffix(spelt)
                yield " ".join([*around[0], left, *around[1]]), SPELT[spelt]


def _kind(word: str) -> Kind:
    return SPELT[re.sub(r"[-_ .]", "", word).lower()]


def _quoted(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"'{names[0]}'"
    return ", ".join(f"'{name}'" for name in names[:-1]) + f" and '{names[-1]}'"
