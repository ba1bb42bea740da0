"""What no user means but somebody types: knobs of recipes, numbers of the command line, in odd environments."""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import time
from pathlib import Path

import pytest
from commands import FORKED, TINY, one_line, unitkit

from unitkit.ablation.grid import read_grid
from unitkit.annotations import convert, describe, number
from unitkit.check import check
from unitkit.recipe import Player
from unitkit.recipe_file import read_recipe_file, shipped
from unitkit.system.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

NONE = ("1_0", "\uff11\uff12", "inf", "nan", "-inf", "1e999", "10**23", "0x10", " 1", "1 ", "", ".", "e5", "1e", "1\n")
RECIPES = list(shipped())
NUMBERS = [
    ("train", TINY, "--seed"),
    ("train", TINY, "--keep"),
    ("train", TINY, "--checkpoint-every"),
    ("train", TINY, "--sample-every"),
    ("train", TINY, "--watch-every"),
    ("translate", "run", "ab", "in", "out", "--samples"),
    ("translate", "run", "ab", "in", "out", "--seed"),
    ("translate", "run", "ab", "in", "out", "--workers"),
    ("evaluate", "run", "--size"),
    ("evaluate", "run", "--max-images"),
    ("evaluate", "run", "--seed"),
    ("ablate", TINY, "--seeds"),
    ("ablate", TINY, "--workers"),
    ("demo", "run", "--port"),
    ("demo", "run", "--held"),
]


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_number(text: str) -> None:
    for kind in (int, float):
        with pytest.raises(UserError, match="'k' is a"):
            convert("k", text, kind)


def test_a_whole_number_may_be_written_with_an_exponent() -> None:
    assert [number(text, int) for text in ("1e4", "+3", "5.", "1.50e1", "-0")] == [10_000, 3, 5, 15, 0]
    assert convert("size", "1e1x2", tuple[int, int]) == (10, 2)
    with pytest.raises(UserError, match=r"and '1e10' is not: the largest is 1000000000$"):
        convert("steps", "1e10", int)


@pytest.mark.parametrize("recipe", RECIPES)
def test_knobs_of_every_recipe_are_checked_at_once(recipe: str) -> None:
    """Some of the whole numbers of each; `benchmarks/commands_fuzz.py --knobs` walks all."""
    file, draw = read_recipe_file(shipped()[recipe]), random.Random(recipe)
    whole = [name for name, knob in file.knobs.items() if "a whole number" in describe(knob.annotation)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for knob in draw.sample(whole, 3):
        value, began = draw.choice(("0", "-1", "65536", "1e6", "1e9")), time.process_time()
        try:
            check(file.build(file.values(None, {knob: value})))
        except UserError as error:
            assert "\n" not in str(error)
        assert time.process_time() - began < 10, (knob, value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**20, "KiB more"


@pytest.mark.parametrize("words", NUMBERS, ids=lambda words: f"{words[0]}{words[-1]}")
@pytest.mark.parametrize("value", ["1_0", "\uff11", "1e30", "-1", "2.5", "9" * 50])
def test_every_number_of_the_command_line(words: tuple[object, ...], value: str) -> None:
    answer = unitkit(*words, value)
    assert answer.status == 2 and "is no whole number from" in answer.err and str(words[-1]) in answer.err, answer


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["width=0..9999", "shared=0..9999"], "100,000,000 trainings (10000 of width x 10000 of shared x 1 seeds)"),
        (["width=0..5000", "--seeds", "3"], "15,003 trainings"),
        (["width=0..99999999999999999999"], "'0..99999999999999999999' is not"),
        (["width=0..100000"], "has 100001 values"),
        ([f"width={','.join(['1'] * 9000)}"], "is given the value 1 twice"),
    ],
)
def test_a_grid_is_counted_before_it_is_made(words: list[str], says: str) -> None:
    began = time.process_time()
    one_line(unitkit("ablate", TINY, *words), says)
    assert time.process_time() - began < 3


def test_a_large_grid_is_one_that_can_be_counted() -> None:
    assert read_grid(read_recipe_file(TINY), ["width=1..100", "shared=1..100"]).count(1) == 10_000


def test_whether_a_player_ever_moves_is_seen_without_counting() -> None:
    def moves(since: float, until: float, every: int, steps: int) -> int | None:
        return Player("p", (), (), since=since, until=until, every=every).first(steps)

    for since, until in ((0.0, 1.0), (0.3, 0.4), (0.99, 1.0), (1 / 3, 0.5)):
        for every in (1, 2, 3, 16):
            for steps in (1, 2, 7, 10, 100):
                player = Player("p", (), (), since=since, until=until, every=every)
                counted = next((step for step in range(steps) if player.moves(step, steps)), None)
                assert moves(since, until, every, steps) == counted, (since, until, every, steps)
    assert moves(0.999, 1, 1, 10**9) == 999_000_000


COMMANDS: dict[str, tuple[object, ...]] = {
    "train": ("train", TINY, "steps=1", "--out", "ours"),
    "resume": ("train", "--resume", "--out", "{}"),
    "translate": ("translate", "{}", "ab", "{}", "out.png"),
    "push": ("push", "{}", "{}", "--dry-run", "{}"),
    "export": ("export", "{}", "{}.pt", "--path", "{}"),
    "demo": ("demo", "{}", "--no-open", "--port", "0", "--host", "{}"),
    "evaluate": ("evaluate", "{}", "--metrics", "l1(aa, a)"),
    "ablate": ("ablate", "{}", "steps=1"),
    "compare": ("compare", "{}", "{}", "--out", "{}.html"),
    "list": ("list", "recipe"),
    "show": ("show", "{}"),
    "new": ("new", "{}.py", "--from", "cut"),
    "doctor": ("doctor", "--device", "{}"),
    "weights": ("weights", "{}"),
}
ODD = {
    "long": "x" * 5000,
    "long path": "a/" * 2500,
    "home": "~nobody-here/x",
    "control": "\x1b[2J\u202e\x07two\nlines",
    "folder": ".",
}


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_every_command_with_every_odd_word(
    words: tuple[object, ...], value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("unitkit.commands.machine.doctor.outcome", lambda *_, **__: [])
    monkeypatch.setattr("unitkit.memory.fitting.Fitting.largest_batch", lambda *_: 1)  # which takes its time
    written = [str(word).replace("{}", value) for word in words]
    if written == [str(word) for word in words]:
        pytest.skip("takes no such word")
    answer = unitkit(*written)
    assert answer.status in (0, 1, 2) and "Traceback" not in answer.err, answer
    assert answer.status == 0 or answer.err.count("\n") == 1, answer.err
    assert not {"\x1b", "\u202e", "\x07"} & set(answer.out + answer.err)


ENVIRONMENTS = {
    "COLUMNS=0": {"COLUMNS": "0"},
    "COLUMNS=\u00b2": {"COLUMNS": "\u00b2", "LINES": "0"},
    "COLUMNS=9...": {"COLUMNS": "9" * 12},
    "WORLD_SIZE": {"WORLD_SIZE": "2"},
    "LOCAL_RANK": {"LOCAL_WORLD_SIZE": "two", "TORCHELASTIC_MAX_RESTARTS": "-1"},
    "HOME": {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": "~nobody-here"},
    "folder gone": {},
}


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=ENVIRONMENTS)
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_every_command_in_every_odd_environment(
    words: tuple[object, ...], environment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("unitkit.commands.machine.doctor.outcome", lambda *_, **__: [])
    monkeypatch.setattr("unitkit.memory.fitting.Fitting.largest_batch", lambda *_: 1)  # which takes its time
    for name in ("COLUMNS", "LINES"):
        monkeypatch.setenv(name, os.environ.get(name, "80"))  # which the command may take away
    for name, value in ENVIRONMENTS[environment].items():
        monkeypatch.setenv(name, value)
    if environment == "folder gone":
        (tmp_path / "gone").mkdir()
        os.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
    given = {"show": TINY, "new": "mine", "doctor": "cpu", "weights": "psnr"}.get(str(words[0]), "nowhere")
    answer = unitkit(*(str(word).replace("{}", str(given)) for word in words))
    assert answer.status in (0, 1, 2) and "Traceback" not in answer.err, answer
    assert answer.status == 0 or answer.err.count("\n") == 1, answer.err
    works = environment not in ("LOCAL_RANK", "folder gone") and words[0] in ("list", "show", "doctor")
    assert not works or answer.status == 0, answer


def fuzzed(found: Path) -> None:
    """Write down how random lines end, of processes that are forked from this one."""
    import commands_fuzz

    counts, bad = commands_fuzz.fuzz(commands_fuzz.lines(seed=3, count=40))
    faults = [[str(line), outcome.faults(), outcome.printed[-500:]] for line, outcome in bad]
    found.write_text(json.dumps({"counts": counts, "faults": faults}))


def test_random_command_lines(tmp_path: Path) -> None:
    """In a fresh process: where another test has predicted memory, torch's autograd has threads of its own, and no
    fork."""
    process = FORKED.Process(target=fuzzed, args=(tmp_path / "found.json",))
    process.start()
    process.join()
    assert process.exitcode == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert not found["faults"]
    assert sum(n for name, n in found["counts"].items() if name.startswith("status")) == 40
    assert len(found["counts"]) >= 2
