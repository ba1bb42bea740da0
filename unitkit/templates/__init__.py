"""Pages of HTML and of Markdown, made from the templates here, which escape every value that comes into them."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..system.files import replacing
from ..system.output import printable
from .markdown import in_markdown


def write_page(path: Path, template: str, **values: Any) -> None:
    """Write the page that a template makes of these values, such as "run.html.jinja".

    Raises `UserError` where the disk refuses.
    """
    text = render(template, **values)
    with replacing(path) as file:
        file.write_text(text, "utf-8")


def render(template: str, **values: Any) -> str:
    """The page that a template makes of these values, Markdown where its name ends so."""
    return _templates(markdown=template.endswith(".md.jinja")).get_template(template).render(values)


@cache
def _templates(*, markdown: bool) -> Environment:
    found = Environment(
        loader=PackageLoader(__package__, ""),
        autoescape=not markdown,
        undefined=StrictUndefined,
        finalize=_marked_down if markdown else _shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals.update(source=_source, digest=digest)
    return found


@cache
def _source(name: str) -> Markup:
    """A script or a style of the package, as it is."""
    return Markup(Path(__file__).with_name(name).read_text("utf-8"))


@cache
def digest(name: str) -> str:
    """By which a page's policy knows a script of the package from any other, which it does not run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(_source(name).encode()).digest()).decode()}"


def _marked_down(value: Any) -> Any:
    """A value as text that no Markdown is in; `Markup` is Markdown already."""
    return value if isinstance(value, Markup) else in_markdown(str(value))


def _shown(value: Any) -> Any:
    """A value as text in which nothing commands the page's direction, and no half of a letter is left."""
    return value if isinstance(value, Markup) else printable(str(value), lines=True)
