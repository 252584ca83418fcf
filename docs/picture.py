"""Draws docs/images/demo.svg, the picture of the README: statements of the demonstration and the rows that they give.

    make demo
    pgrx-config/setup.sh run .build/venv/bin/python docs/picture.py

It runs two statements of docs/demo/demo.sql again, in the database that `make demo` has filled.
"""

import os
import re
import sys
from html import escape
from pathlib import Path

import psycopg

HERE = Path(__file__).parent
sys.path.append(str(HERE / "demo"))

import demo  # noqa: E402
from table import table  # noqa: E402

# What each shows, and words that only its statement in demo.sql has.
SHOWN = [
    ("Search by meaning", "something for a cold"),
    ("Recommend for a household", "recommend('demo_ials', 2176, k => 8) JOIN"),
]
SIZE, WIDTH, HEIGHT, MARGIN = 13, 7.8, 18, 20
COLORS = {"title": "#8b949e", "statement": "#79c0ff", "row": "#e6edf3"}


def lines(connection):
    """(kind, text) of each line of the picture."""
    statements = [text for kind, text in demo.parts((HERE / "demo" / "demo.sql").read_text()) if kind == "statement"]
    for title, words in SHOWN:
        (statement,) = (text for text in statements if words in text)
        cursor = connection.execute(statement)
        yield "title", f"-- {title}"
        yield from (("statement", line) for line in f"{statement};".splitlines())
        rows = table([column.name for column in cursor.description], cursor.fetchall())
        yield from (("row", line) for line in rows.splitlines())
        yield "row", ""


def svg(shown):
    """Lines in a font of fixed width, whichever the reader has: what blanks part is placed by itself, and told how long it is."""
    width = 2 * MARGIN + WIDTH * max(len(text) for _, text in shown)
    height = 2 * MARGIN + HEIGHT * (len(shown) - 1) + SIZE
    drawn = []
    for number, (kind, text) in enumerate(shown):
        y = MARGIN + HEIGHT * number + SIZE
        for part in re.finditer(r"[^\s|]+( [^\s|]+)*|\|+", text):
            x, length = MARGIN + WIDTH * part.start(), WIDTH * len(part[0])
            drawn.append(f'<text x="{x:.1f}" y="{y}" fill="{COLORS[kind]}" textLength="{length:.1f}">{escape(part[0], quote=False)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}" '
        f'font-family="ui-monospace, Menlo, Consolas, \'DejaVu Sans Mono\', monospace" font-size="{SIZE}">\n'
        f'<rect width="100%" height="100%" rx="8" fill="#0d1117"/>\n' + "\n".join(drawn) + "\n</svg>\n"
    )


def main():
    with psycopg.connect(os.environ["PG_RECO_DSN"]) as connection:
        shown = list(lines(connection))[:-1]
    (HERE / "images" / "demo.svg").write_text(svg(shown))


if __name__ == "__main__":
    main()
