"""Commands that are printed to be copied: whole on a terminal of any width, one line in a log, and right when typed."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
from commands import TINY, Moment, run, unitkit

from unitkit.system.output import printable, typed

ODD = "a run's folder, of $HOME and (more)"


def commands(text: str, columns: int | None = None) -> list[list[str]]:
    """The commands in what was printed, as a shell would read them; none of their lines is too long."""
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r", "").split("\n")
    found: list[list[str]] = []
    for start in (i for i, line in enumerate(lines) if line.startswith("  unitkit ")):
        end = start
        while lines[end].endswith("\\"):
            end += 1
        if columns is None:
            assert end == start
        else:  # only a word that is longer than a line itself goes beyond it
            long = [line.removesuffix("\\") for line in lines[start : end + 1] if len(line) > columns]
            assert all(len(shlex.split(line)) == 1 for line in long), lines[start : end + 1]
        found.append(as_a_shell_reads("\n".join(lines[start : end + 1])))
    return found


def as_a_shell_reads(command: str) -> list[str]:
    script = f"unitkit() {{ printf '%s\\0' unitkit \"$@\"; }}\n{command}\n"
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.split("\0")[:-1]


@pytest.mark.parametrize("columns", [1, 20, 40, 80, 200, None])
def test_a_command_is_broken_between_its_words(columns: int | None) -> None:
    words = ["unitkit", "train", "--out", ODD, "it's", "", "x" * 50, "a=1", "-", "$(rm)", "#"]
    text = typed(*words, width=columns)
    assert commands(text, columns) == [words]
    assert (columns in (None, 200)) == ("\\\n" not in text)
    assert as_a_shell_reads(typed("unitkit", "two\nlines", width=columns)) == ["unitkit", "two\nlines"]


@pytest.mark.parametrize("columns", [40, 80, None])
def test_what_a_training_suggests_can_be_typed(tmp_path: Path, columns: int | None) -> None:
    out = tmp_path / ODD
    answer = run(tmp_path / "log", "train", TINY, "@quick", "--out", out, terminal=columns or 0)
    assert answer.status == 0, answer.err
    translate, evaluate, train = commands(answer.out, columns)
    assert translate == ["unitkit", "translate", str(out), "ab", "INPUT", "OUTPUT"]
    assert evaluate[:3] == ["unitkit", "evaluate", str(out)] and train[-1] == "steps=4"
    source, target = out / "samples" / "step-00000002.png", tmp_path / "translated.png"
    if columns:
        return
    for words in [*translate[1:4], source, target], evaluate[1:], train[1:]:
        answer = unitkit(*words)
        assert answer.status == 0, answer.err
    assert target.is_file() and "attribute_success" in (out / "metrics.json").read_text()


def test_a_folder_that_begins_as_an_option_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = unitkit("train", TINY, "@quick", "--out=-run")
    assert answer.status == 0, answer.err
    translate, evaluate, train = commands(answer.out)
    source = "./-run/samples/step-00000002.png"
    for words in [*translate[1:4], source, "y.png"], evaluate[1:3], train[1:]:
        answer = unitkit(*words)
        assert answer.status == 0, answer


@pytest.mark.parametrize("columns", [40, 80, None])
def test_what_goes_on_after_a_stop_can_be_typed(tmp_path: Path, columns: int | None) -> None:
    out, moments = tmp_path / ODD, [Moment("unitkit.trainer:Trainer.step", 2, (signal.SIGTERM,))]
    answer = run(tmp_path / "log", "train", TINY, "--out", out, terminal=columns or 0, moments=moments)
    assert answer.status == 128 + signal.SIGTERM
    (words,) = commands(answer.out, columns)
    assert words == ["unitkit", "train", "--resume", "--out", str(out)]
    assert unitkit(*words[1:], "steps=2").status == 0


@pytest.mark.parametrize("columns", [40, 80, None])
def test_what_goes_on_with_an_ablation_can_be_typed(tmp_path: Path, columns: int | None) -> None:
    out, words = tmp_path / ODD, ("ablate", TINY, "@quick", "width=2,4", "--metric", "psnr(aa, a)")
    moments = [Moment("unitkit.ablation.folder:Ablation.mark", 1, (signal.SIGTERM,))]
    answer = run(tmp_path / "log", *words, "--out", out, terminal=columns or 0, moments=moments)
    assert answer.status == 128 + signal.SIGTERM, answer
    (again,) = commands(answer.out, columns)
    assert again == ["unitkit", *map(str, words), "--out", str(out), "--device", "cpu"]


@pytest.mark.parametrize("name", ["plain.py", "a b.py", "it's.py", "$HOME.py", "-x.py", "\x1b[31mred.py", "é\u202e.py"])
def test_a_new_recipe_is_trained_with_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever it is called; nothing in it reaches a terminal or a log as a command."""
    monkeypatch.chdir(tmp_path)
    answer = unitkit("new", f"./{name}", "--from", "unit_faces")
    assert answer.status == 0 and printable(answer.out.rstrip("\n")) == answer.out.rstrip("\n"), answer
    (words,) = commands(f"  {answer.out.partition('train with: ')[2]}")
    assert words[:2] == ["unitkit", "train"] and Path(words[2]) == Path(name) and (tmp_path / words[2]).is_file()
