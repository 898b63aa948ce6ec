"""
The frame of a report: one HTML file with everything inside, which a browser opens without asking anybody for anything.

Text of a run, above all what a model wrote, is untrusted: it is escaped, and a policy in the page's head forbids
scripts and requests in case something slips through.
"""

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path


POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1320px; padding: 12px; font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a;
  background: #fff; }
h1 { font-size: 1.6em; margin: .3em 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25em; margin: 1.6em 0 .5em; border-bottom: 1px solid #ddd; }
h3 { font-size: 1.05em; margin: 1.2em 0 .4em; }
a { color: #0058a3; }
nav a { margin-right: 1em; }
.note { color: #555; }
.warning { background: #fff3d6; border-left: 4px solid #e69f00; padding: .5em .8em; }
.numbers { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 172px), 1fr)); gap: 10px; }
.numbers div { border: 1px solid #ddd; border-radius: 6px; padding: .5em .7em; }
.numbers b { display: block; font-size: 1.2em; overflow-wrap: anywhere; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 370px), 1fr)); gap: 14px; }
figure { margin: 0; border: 1px solid #ddd; border-radius: 6px; padding: 8px; }
figure img { width: 100%; height: auto; display: block; }
figcaption { font-size: .88em; color: #444; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92em; }
th, td { border: 1px solid #ddd; padding: .25em .6em; text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
thead th { background: #f4f4f4; }
pre { background: #f6f6f6; padding: .6em; border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere;
  font-size: .88em; margin: .3em 0; }
.badge { display: inline-block; border-radius: 4px; padding: 0 .5em; margin-right: .4em; font-size: .85em;
  background: #e8eef5; }
.sample { border-left: 3px solid #56b4e9; padding-left: .7em; margin: .7em 0; }
details { margin: .6em 0; }
summary { cursor: pointer; }
footer { margin-top: 2em; color: #555; font-size: .88em; }
"""


def page(title: str, body: Iterable[str]) -> str:
    """
    Args:
        title (`str`):
            Title of the window.
        body (`Iterable[str]`):
            Parts of the page, as HTML.

    Returns:
        `str`: the document.
    """
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            f"<title>{text(title)}</title>",
            # Browsers ask the server for an icon unless the page has one.
            '<link rel="icon" href="data:,">',
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            *body,
            "</body>",
            "</html>",
            "",
        ]
    )


# Signs that no page may hold, as a random model writes them, by the pictures that Unicode has of them.
CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {0x7F: 0x2421}


def text(value: object) -> str:
    """Any value as text that is safe inside HTML."""
    return html.escape(str(value).translate(CONTROLS), quote=True)


def picture(path: Path, title: str, explanation: str) -> str:
    """A PNG inside the page, with its explanation below it."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<figure><img alt="{text(title)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text(explanation)}</figcaption></figure>"
    )


def panels(figures: Iterable[str]) -> str:
    """Pictures side by side, as many as fit."""
    return '<div class="panels">' + "".join(figures) + "</div>"


def numbers(entries: Iterable[tuple[str, str]]) -> str:
    """The few numbers that are read first: label and value."""
    return '<div class="numbers">' + "".join(f"<div>{text(k)}<b>{text(v)}</b></div>" for k, v in entries) + "</div>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table that scrolls by itself where the window is narrow."""
    cells = "".join(f"<th>{text(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{text(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table></div>'


def preformatted(content: object) -> str:
    """Text with its line breaks."""
    return f"<pre>{text(content)}</pre>"


def folded(summary: str, content: str) -> str:
    """Something that is opened by a click."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def section(heading: str, content: str, anchor: str, level: int = 2) -> str:
    """A part of the page with a heading that can be linked to."""
    return f'<h{level} id="{text(anchor)}">{text(heading)}</h{level}>\n{content}'


def paragraph(content: str, kind: str = "note") -> str:
    """A line of text."""
    return f'<p class="{kind}">{text(content)}</p>'
