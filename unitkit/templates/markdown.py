"""Text and tables as Markdown has them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..system.output import printable

# A backslash first: the others are written with one.
MARKS = (("\\", "\\\\"), ("&", "&amp;"), ("<", "&lt;"), *((mark, f"\\{mark}") for mark in "|*`[]~"))


def in_markdown(text: str) -> str:
    """Text as one line in which nothing is a mark of Markdown's or of HTML's."""
    for mark, instead in MARKS:
        text = text.replace(mark, instead)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # within a word it is no mark
    return printable(" ".join(text.split()))


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, figures: bool = True) -> str:
    """A table whose every cell is escaped. Columns of `figures`, all but the first, stand to the right."""
    lines = [head, ["---", *["---:" if figures else "---"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(in_markdown, line)) + " |" for line in lines)
