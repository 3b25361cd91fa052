"""Docstrings as a person reads them in a terminal."""

import inspect
import re
import textwrap
from typing import Any

_ENTRY = re.compile(r"[\w`*, ]+: ")
_CODE = ("Raises:", "Returns:", "Example:")  # of use to those who call the function


def description(function: Any, width: int) -> str:
    """The docstring of a function without its code, each paragraph wrapped to a width."""
    doc = re.sub(r"`+", "", inspect.getdoc(function) or "")
    blocks = [block for block in doc.split("\n\n") if not block.startswith(_CODE)]
    return "\n\n".join(_wrapped(block, width) for block in blocks)


def _wrapped(block: str, width: int) -> str:
    """Lines of one indentation are a paragraph; deeper lines go on with ``name: text``."""
    paragraphs: list[tuple[str, str]] = []  # indentation and text
    for line in block.splitlines():
        text = line.strip()
        indent = line[: len(line) - len(line.lstrip())]
        if paragraphs and _continues(paragraphs[-1], indent):
            before, said = paragraphs.pop()
            paragraphs.append((before, f"{said} {text}"))
        else:
            paragraphs.append((indent, text))
    return "\n".join(
        textwrap.fill(
            text,
            width,
            initial_indent=indent,
            subsequent_indent=indent + "  " * bool(indent),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for indent, text in paragraphs
    )


def _continues(paragraph: tuple[str, str], indent: str) -> bool:
    before, said = paragraph
    if said.endswith(":"):  # a heading
        return False
    return len(indent) > len(before) if before and _ENTRY.match(said) else indent == before
