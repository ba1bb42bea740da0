"""The tutorials: every block of every page in order, as it stands there but for its size, and the notebook's cells.

What is changed is what `small` and `sized` change: steps, sizes and widths become tiny, seeds two at most. A
block with a title is a file.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from commands import run, start, unitkit, until
from ranks import torchrun

from unitkit import load_recipe
from unitkit.registry import REGISTRIES

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
NOTEBOOK = TUTORIALS / "first_translation.ipynb"
PAGES = sorted(page.stem for page in TUTORIALS.glob("*.md") if page.stem != "index")
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
TINY = {"steps": 4, "size": 16, "width": 4, "width_d": 4, "n": 24, "every": 2}
COMPUTES = ("train", "ablate")


def small(text: str) -> str:
    """`steps=2000` made tiny; several values, `width=8,16`, are what an ablation is about and stay."""
    return re.sub(
        rf"\b({'|'.join(TINY)})( ?= ?)\d+\b(?![,.]\d)", lambda found: f"{found[1]}{found[2]}{TINY[found[1]]}", text
    )


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    """Language, title or "", and text of each block."""
    text = (TUTORIALS / f"{page}.md").read_text("utf-8")
    found = BLOCK.findall(text)
    assert text.count("\n```") == 2 * len(found), f"{page}: a block that would not be run"
    yield from found


def commands(text: str) -> Iterator[list[str]]:
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


@contextmanager
def parts_of_a_new_process() -> Iterator[None]:
    """A command begins without the parts that the page's Python, or the command before it, has registered."""
    now = {kind: dict(registry.parts) for kind, registry in REGISTRIES.items()}
    for registry in REGISTRIES.values():
        own = (name for name, part in registry.parts.items() if part.__module__.startswith("unitkit."))
        registry.parts = {name: registry.parts[name] for name in own}
    yield
    for kind, registry in REGISTRIES.items():
        registry.parts = now[kind]


@parts_of_a_new_process()
def run_command(words: list[str]) -> None:
    """One line of a shell."""
    if words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert re.fullmatch(r"unitkit\[(\w+)\]", words[2]) and words[2][8:-1] in extras, words
    elif words[0] == "torchrun":
        assert words[1:6] == ["--standalone", "--nproc-per-node", "2", "-m", "unitkit"], words
        ranks = [
            start(Path(f"rank{number}").absolute(), *sized(words[6:]), environment=variables)
            for number, variables in enumerate(torchrun())
        ]
        answers = [rank.wait() for rank in ranks]
        assert [answer.status for answer in answers] == [0, 0], answers
    elif words[:2] == ["unitkit", "demo"]:
        page = start(Path("demo").absolute(), *words[1:], "--port", 0, "--no-open")
        until(lambda: Path("demo.out").exists() and "http://" in Path("demo.out").read_text())
        with urlopen(Path("demo.out").read_text().split()[0]) as answer:
            assert b"unitkit demo" in answer.read()
        os.kill(page.process.pid, signal.SIGINT)
        assert page.wait().status == 130
    else:
        assert words[0] == "unitkit", words
        ablates = words[1] == "ablate"  # whose workers are forked, from a process that has imported all
        answer = run(Path("ablate").absolute(), *sized(words[1:])) if ablates else unitkit(*sized(words[1:]))
        assert answer.status == 0, (words, answer.err)


def sized(words: list[str]) -> list[str]:
    """A command's words, made small."""
    words = [small(word) for word in words]
    if words[0] not in COMPUTES or "--resume" in words:
        return words
    if "--seeds" in words:
        after = words.index("--seeds") + 1
        words[after] = str(min(int(words[after]), 2))
    given = {word.split("=")[0] for word in words}
    return [*words, *(f"{knob}={TINY[knob]}" for knob in ("steps", "size", "width") if knob not in given)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_parts: None) -> Iterator[Path]:
    """An empty folder, where the reader is; what is imported from there is forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_run_from_its_first_block_to_its_last(place: Path, page: str) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for language, title, text in blocks(page):
        if title:
            (place / title).write_text(text, "utf-8")
        elif language == "sh":
            for words in commands(text):
                run_command(words)
        elif language == "python":
            exec(compile(small(text), f"{page}.md", "exec"), names)
        else:
            assert language == "text", f"{page}: nothing runs a block of {language}"


def test_the_notebook_is_run_from_its_first_cell_to_its_last(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In this process, where `display` is the notebook's: there is no Jupyter here."""
    shown: list[Any] = []
    names: dict[str, Any] = {"__name__": "__main__", "display": shown.append}
    cells = [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells), "strip the notebook's outputs"
    for number, cell in enumerate(cells):
        exec(compile(small("".join(cell["source"])), f"cell {number}", "exec"), names)
    assert len(shown) == 2 + 1 + 3 + 2  # images, a grid, translations, the latent space
    assert "ground_truth(ab)" in capsys.readouterr().out


def test_commands_of_the_failure_guide_are_of_recipes_and_knobs_that_there_are(place: Path) -> None:
    commands_seen = 0
    for language, _, text in blocks("../failures"):
        if language == "python":
            exec(compile(small(text), "failures.md", "exec"), {})
            continue
        for words in commands(text):
            assert words[:2] == ["unitkit", "train"], words
            load_recipe(words[2], **dict(word.split("=", 1) for word in words[3:]))
            commands_seen += 1
    assert commands_seen >= 6
