"""What `unitkit list` reads from the source is what importing the package registers."""

from __future__ import annotations

import ast
import inspect

import pytest

from unitkit import data, discriminators, encoders, generators, losses, metrics, models, sharing
from unitkit.catalog import HOMES, entries
from unitkit.registry import REGISTRIES

MODULES = (data, discriminators, encoders, generators, losses, metrics, models, sharing)
KINDS = list(REGISTRIES)  # while collecting: without what other tests register
NAMES = {kind: list(REGISTRIES[kind]) for kind in KINDS}


def test_kinds_are_those_that_importing_registers() -> None:
    assert set(HOMES) == set(KINDS)
    assert {home.removesuffix(".py") for home in HOMES.values()} == {m.__name__.partition(".")[2] for m in MODULES}


@pytest.mark.parametrize("kind", KINDS)
def test_names_arguments_defaults_and_summaries(kind: str) -> None:
    assert [entry.name for entry in entries(kind)] == NAMES[kind]
    for entry in entries(kind):
        part = REGISTRIES[kind][entry.name]
        signature = inspect.signature(part)
        expected = [p for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
        assert entry.kind == kind and len(entry.arguments) == len(expected), entry.name
        for text, parameter in zip(entry.arguments, expected, strict=True):
            declaration = ast.parse(text).body[0]
            assert isinstance(declaration, ast.AnnAssign), f"{entry.name}: '{text}' is not name: type = default"
            assert ast.unparse(declaration.target) == parameter.name
            # Annotations are text in every module (from __future__ import annotations), up to its quotes and spaces.
            assert ast.unparse(declaration.annotation) == ast.unparse(ast.parse(parameter.annotation))
            if parameter.default is parameter.empty:
                assert declaration.value is None
            else:
                assert declaration.value is not None
                assert ast.literal_eval(declaration.value) == parameter.default
        assert entry.summary == (inspect.getdoc(part) or "").partition("\n\n")[0].replace("\n", " ") != ""
