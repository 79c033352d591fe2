"""The start page of the report: what was run, and for each claim its numbers and its verdict."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from figures.pages import page
from figures.rendering import arguments
from figures.table_claims import Measure, by_claim, shown, votes
from texnet.artifacts import read_json, write_text
from texnet.evidence import VERDICTS
from texnet.process import program
from texnet.tables import read_table

TOPICS = {
    "Instance normalisation": "C1 C2 C3 C4 C5 C6 C7 C8 C9 C22 C23 C26 C27",
    "Textures and diversity": "C10 C11 C12 C13 C14 C15 C16 C17 C18 C24 C25 C28",
    "Speed and memory": "C19 C20 C21",
}
"""Claims by what they are about, in the order of the page."""
FIGURES = {"Instance normalisation": (2, 3, 4), "Textures and diversity": (5, 6, 7)}
METHOD = Path(__file__).with_name("method.html")
"""How it is measured, and how a verdict is drawn."""
# In a report the page is a frame, from which its neighbours cannot be reached.
SCRIPT = """<script>
if (window !== window.top) document.querySelectorAll("a").forEach((a) => a.replaceWith(a.text));
</script>
"""
Claims = Mapping[str, tuple[str, list[Measure]]]


def text(said: str) -> str:
    """HTML of a text with names in double backquotes."""
    return re.sub("``(.+?)``", r"<code>\1</code>", escape(said, quote=False))


def linked(said: str) -> str:
    """HTML of where a claim stands in the paper, with links to the figures of this run."""
    link = r'<a href="fig\1.png">Fig. \1</a>'
    return re.sub(r"Fig\. (\d)", link, escape(said, quote=False))


def mark(verdict: str) -> str:
    """A verdict in its colour."""
    return f'<span class="{verdict.replace(" ", "-")}">{verdict}</span>'


def counted(verdicts: Iterable[str]) -> str:
    """How many claims have which verdict."""
    found = Counter(verdicts)
    return ", ".join(f"{found[name]} {mark(name)}" for name in VERDICTS if found[name])


def measure(m: Measure) -> str:
    """A line on one measure."""
    value = escape(shown(m).replace(" ", "\u00a0"))
    said = f": {value}, expected {escape(m['expected'])}" if value else ""
    return f"<li>{escape(m['measure'], quote=False)}{said}: {mark(m['verdict'])}</li>\n"


def topic(title: str, names: Sequence[str], claims: Claims) -> str:
    """A section on some claims: where each stands, its verdict and what that rests on."""
    figures = [f'<a href="fig{n}.png">{n}</a>' for n in FIGURES.get(title, ())]
    where = f" (figures {', '.join(figures)})" if figures else ""
    parts = [f"<h3>{title}{where}</h3>\n<p>{counted(claims[c][0] for c in names)}.</p>\n"]
    for name in names:
        whole, mine = claims[name]
        said = f"{escape(mine[0]['claim'], quote=False)} ({linked(mine[0]['where'])})"
        lines = "".join(measure(m) for m in mine if votes(m))
        parts.append(
            f"<p><strong>{name}</strong> {said}: <strong>{mark(whole)}</strong></p>\n"
            f"<ul>\n{lines}</ul>\n"
        )
    return "".join(parts)


def body(setting: Mapping[str, list[str]], claims: Claims) -> str:
    """The page, but for its title."""
    listed = {name for names in TOPICS.values() for name in names.split()}
    topics = {title: [c for c in names.split() if c in claims] for title, names in TOPICS.items()}
    topics["Other claims"] = [name for name in claims if name not in listed]
    return (
        "<h2>What was run</h2>\n"
        + "".join(f"<p>{text(said)}</p>\n" for said in setting["paragraphs"])
        + "<ul>\n" + "".join(f"<li>{text(said)}</li>\n" for said in setting["runs"]) + "</ul>\n"
        + METHOD.read_text(encoding="utf-8")
        + f"<h2>What was found</h2>\n<p>Of {len(claims)} claims: "
        + f"{counted(whole for whole, _ in claims.values())}. All in one picture: "
        + '<a href="fig1.png">figure 1</a>.</p>\n'
        + "".join(topic(title, names, claims) for title, names in topics.items() if names)
    )  # fmt: skip


def main() -> None:
    args = arguments(__doc__, "settings")
    setting, claims = read_json(args.settings), by_claim(read_table(args.table))
    write_text(args.out, page("Claims by topic", body(setting, claims), SCRIPT))


if __name__ == "__main__":
    program(main)
