"""A thousand damaged files of runs and ablations: each is read as it can be, or refused in a line."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import fuzz
import pytest

PARTS, EACH = 4, 250


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fuzz.SECONDS = 60  # a busy machine fails no test
    home = tmp_path_factory.mktemp("fuzz")
    fuzz.make(home)
    return home


@pytest.mark.parametrize("part", range(PARTS))
def test_no_damaged_file_ends_in_a_traceback(home: Path, part: int) -> None:
    trials = [fuzz.trial(home, seed) for seed in range(part * EACH, (part + 1) * EACH)]
    assert not [each for each in trials if each.failed]
    refused = Counter(each.file for each in trials if each.refused)
    assert sum(refused.values()) > EACH / 3, "the mutator does no harm"
    assert {name.partition(".")[0] for name in refused} == {*fuzz.READ_BY}, "a file is not reached"


@pytest.mark.parametrize("call", fuzz.CALLS)
def test_what_is_whole_is_read(home: Path, tmp_path: Path, call: str) -> None:
    assert fuzz.tried(fuzz.CALLS[call], shutil.copytree(home / "run", tmp_path / "run")) == ("", False)


@pytest.mark.parametrize("call", fuzz.ABLATION_CALLS)
def test_an_ablation_that_is_whole_is_read(home: Path, call: str) -> None:
    assert fuzz.tried(fuzz.ABLATION_CALLS[call], home / "ablation") == ("", False)
