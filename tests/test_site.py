"""The site: it builds strictly, fetches nothing, and its reference has every public name."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import MethodType, ModuleType

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

import unitkit

ROOT = Path(__file__).parents[1]
FETCHED = re.compile(
    r"""<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)=["']?(?:https?:)?//[^"' >]+|url\(["']?https?:[^)]+"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages, built as for the web; a warning, such as of a link to nowhere, is an error."""
    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


def test_no_page_fetches_anything(site: Path) -> None:
    pages = [page for suffix in ("html", "css") for page in site.rglob(f"*.{suffix}")]
    assert len(pages) > 30
    found = {page.name: FETCHED.findall(page.read_text("utf-8")) for page in pages}
    assert not {name: each for name, each in found.items() if each}
    assert (site / "search" / "search_index.js").is_file()  # which a page opened from a file can load


def test_the_reference_has_every_public_name(site: Path) -> None:
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    known = {line.split(" ")[0] for line in zlib.decompress(inventory).decode().splitlines()}
    assert len(known) > 200
    missing = [name for name, where in public() if where not in known]
    assert not missing, f"no page of docs/api has {', '.join(missing)}"


def public() -> Iterator[tuple[str, str]]:
    """The names of unitkit, and of its public packages, with where they are defined."""
    for name in unitkit.__all__:
        value = getattr(unitkit, name)
        inside = getattr(value, "__all__", ()) if isinstance(value, ModuleType) else None
        names = {name: value} if inside is None else {f"{name}.{each}": getattr(value, each) for each in inside}
        for spelt, found in names.items():
            made_here = str(getattr(found, "__module__", "")).startswith("unitkit.")  # a type alias is none
            if made_here and hasattr(found, "__qualname__") and not isinstance(found, MethodType):
                yield spelt, f"{found.__module__}.{found.__qualname__}"
