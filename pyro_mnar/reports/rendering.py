"""What a report is made of, and how it becomes one HTML page or a Markdown text."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd

from pyro_mnar.figures import close

STYLE = (
    "body{font-family:system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;line-height:1.5;color:#222}"
    "table{border-collapse:collapse;font-size:.9rem;margin:1rem 0;display:block;overflow-x:auto}"
    "th,td{border-bottom:1px solid #ddd;padding:.25rem .6rem;text-align:right}"
    "th:first-child,td:first-child{text-align:left}"
    "img{max-width:100%}pre{background:#f6f6f6;padding:.8rem;overflow-x:auto;font-size:.85rem}"
)


@dataclass(frozen=True)
class Listing:
    """Text as printed, in lines of its own."""

    text: str


@dataclass(frozen=True)
class Picture:
    """A drawing.

    Attributes:
        png: The file's bytes.
        caption: What it shows.
    """

    png: bytes
    caption: str

    @classmethod
    def of(cls, axes: Any, caption: str) -> Picture:
        """What stands on the figure of some matplotlib Axes."""
        buffer = io.BytesIO()
        # Without the version and date that matplotlib writes, the same report is the same file.
        axes.figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
        close(axes)
        return cls(buffer.getvalue(), caption)


Block: TypeAlias = "str | Listing | pd.DataFrame | Picture"


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it.

    Attributes:
        title: The heading.
        blocks: Paragraphs, listings, tables and pictures.
    """

    title: str
    blocks: tuple[Block, ...]

    def reworded(self, words: Callable[[str], str]) -> Section:
        """The same with other words.

        Args:
            words: What becomes of a text.
        """
        return Section(self.title, tuple(_reworded(block, words) for block in self.blocks))


def _reworded(block: Block, words: Callable[[str], str]) -> Block:
    if isinstance(block, Picture):
        return Picture(block.png, words(block.caption))
    if isinstance(block, Listing):
        return Listing(words(block.text))
    if isinstance(block, str):
        return words(block)
    return block.map(lambda cell: words(cell) if isinstance(cell, str) else cell)


def to_html(title: str, sections: tuple[Section, ...]) -> str:
    """One page that needs no other file and no network: pictures are inside."""
    body = [f"<h1>{html.escape(title)}</h1>"]
    for section in sections:
        body.append(f"<h2>{html.escape(section.title)}</h2>")
        body += [_html_of(block) for block in section.blocks]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body></html>\n"


def to_markdown(title: str, sections: tuple[Section, ...], place: Callable[[Picture], str] | None = None) -> str:
    """The same as text.

    Args:
        title: Of the report.
        sections: Its parts.
        place: Where a picture is found, as a link; by default inside the text.
    """
    lines = [f"# {title}"]
    for section in sections:
        lines.append(f"## {section.title}")
        lines += [_markdown_of(block, place or _inside) for block in section.blocks]
    return "\n\n".join(lines) + "\n"


def _html_of(block: Block) -> str:
    if isinstance(block, str):
        return f"<p>{html.escape(block)}</p>"
    if isinstance(block, Listing):
        return f"<pre>{html.escape(block.text)}</pre>"
    if isinstance(block, Picture):
        caption = html.escape(block.caption)
        return f'<figure><img alt="{caption}" src="{_inside(block)}"><figcaption>{caption}</figcaption></figure>'
    return block.to_html(border=0, float_format=_short, na_rep="", escape=True)


def _markdown_of(block: Block, place: Callable[[Picture], str]) -> str:
    if isinstance(block, str):
        return _escaped(block)
    if isinstance(block, Listing):
        return "\n".join(f"    {line}" for line in block.text.splitlines())
    if isinstance(block, Picture):
        return f"![{_escaped(block.caption)}]({place(block)})"
    frame = block.reset_index() if block.index.name or not isinstance(block.index, pd.RangeIndex) else block
    rows = [[_cell(value) for value in row] for row in frame.astype(object).itertuples(index=False)]
    header = [_cell("" if name == "index" else name) for name in frame.columns]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _inside(picture: Picture) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.png).decode("ascii")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else _short(value)
    return _escaped(str(value))


def _escaped(text: str) -> str:
    for sign in "\\`*_<>|#":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _short(number: float) -> str:
    return f"{number:.4g}"
