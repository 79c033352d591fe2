"""HTML documents that stand alone, all in one style."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template

PAGE = Path(__file__).with_name("page.html")
"""The document around what a page says, and its style."""


def page(title: str, body: str, script: str = "") -> str:
    """A document of HTML ``body``, with what ``script`` says after it; the title is text."""
    document = Template(PAGE.read_text(encoding="utf-8"))
    return document.substitute(title=escape(title), body=body, script=script)
