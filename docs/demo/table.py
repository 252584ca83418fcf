"""Rows as text in columns."""

import unicodedata
from decimal import Decimal

# A longer cell is cut.
WIDEST = 64


def table(columns, rows):
    """`columns` and `rows`, at least one, as aligned text: numbers to the right, wide characters (Chinese) as two."""
    cells = [[cell(value) for value in row] for row in rows]
    widths = [max(map(width, column)) for column in zip(columns, *cells)]
    to_right = [all(value is None or isinstance(value, (int, float, Decimal)) for value in column) for column in zip(*rows)]

    def line(values):
        return " | ".join(padded(*value) for value in zip(values, widths, to_right)).rstrip()

    return "\n".join([line(columns), "-+-".join("-" * w for w in widths), *map(line, cells)])


def cell(value):
    """A value as a reader wants it: four digits of a number with a point, nothing for NULL."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() or abs(value) >= 10_000 else f"{value:.4g}"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    while width(text) > WIDEST:
        text = text[:-2] + "…"
    return text


def padded(text, to_width, to_right):
    blanks = " " * (to_width - width(text))
    return blanks + text if to_right else text + blanks


def width(text):
    """Columns of a terminal that `text` takes."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
