"""Fills the reference pages with the signatures that the catalog has.

    fill_reference.py            writes every ```signature block of docs/reference/ anew, and the index of functions
    fill_reference.py --check    changes nothing, lists what is not up to date and ends with 1

A block begins with one name of the schema reco; all functions of that name are written into it, overloads that differ in the
types of arguments alone as one. PG_RECO_DSN names a database with the extension, as `make psql` opens it:

    pgrx-config/setup.sh run .build/venv/bin/python docs/fill_reference.py
"""

import os
import re
import sys
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path

import psycopg

PAGES = Path(__file__).parent / "reference"
INDEX = PAGES / "README.md"
BLOCK = re.compile(r"^```signature\n(.*?)^```", re.MULTILINE | re.DOTALL)
LISTED = re.compile(r"(?<=<!-- functions -->\n).*?(?=<!-- end of functions -->)", re.DOTALL)
LINE = 100

# Not for users: a type's input and output, and the functions that views of the reference read.
NOT_CALLED = {"role_in", "role_out", "stat_models", "stat_progress", "stat_workers", "cache_folders"}

FUNCTIONS = """
    SELECT p.oid, p.proname, p.prokind, p.proisstrict, p.proargnames, p.proargmodes::text[],
           ARRAY(SELECT format_type(t, NULL)
                   FROM unnest(coalesce(p.proallargtypes, p.proargtypes)) WITH ORDINALITY AS a (t, n)
                  ORDER BY n),
           ARRAY(SELECT pg_get_function_arg_default(p.oid, n) FROM generate_series(1, p.pronargs) AS n ORDER BY n),
           p.proretset, format_type(p.prorettype, NULL)
      FROM pg_proc AS p
      JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
      JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'pg_reco'
     WHERE p.pronamespace = 'reco'::regnamespace
     ORDER BY p.oid
"""


@dataclass(frozen=True)
class Signature:
    kind: str
    name: str
    arguments: tuple
    """(name, type, default or None) each"""
    result: str

    def shape(self):
        """What overloads that are shown as one have in common."""
        return self.kind, self.name, tuple((name, default) for name, _, default in self.arguments), self.result

    def types(self):
        return tuple(kind for _, kind, _ in self.arguments)


def shown_type(name):
    """As a user writes it: numbers of any kind come as real[]."""
    return {"double precision": "float8", "timestamp with time zone": "timestamptz", "reco.numbers": "real[]"}.get(
        name, name.replace("double precision", "float8")
    )


def shown_default(expression):
    """Without the cast that PostgreSQL adds: '{}'::jsonb is '{}'."""
    return expression and re.sub(r"::[a-z_. ]+(\[\])?$", "", expression)


def signature(row):
    _, name, kind, strict, names, modes, types, defaults, is_set, result = row
    modes = modes or ["i"] * len(types)
    names = names or [""] * len(types)
    taken = [(n, shown_type(t)) for n, t, mode in zip(names, types, modes) if mode in "iv"]
    table = [f"{n} {shown_type(t)}" for n, t, mode in zip(names, types, modes) if mode == "t"]
    arguments = tuple((n, t, shown_default(default)) for (n, t), default in zip(taken, defaults, strict=True))
    if table:
        result = f"({', '.join(table)})"
    else:
        result = "setof " * is_set + shown_type(result)
    kind = {"a": "aggregate ", "w": "window ", "p": "procedure "}.get(kind, "")
    returned = "" if kind == "procedure " else f" → {result}" + ", strict" * (strict and kind == "")
    return Signature(kind, name, arguments, returned)


def merged(signatures):
    """Overloads that differ in types alone, as one with `text | bigint` where every combination exists."""
    shapes = {}
    for one in signatures:
        shapes.setdefault(one.shape(), {})[one.types()] = one
    for same in shapes.values():
        alternatives = [list(dict.fromkeys(column)) for column in zip(*same)]
        if len(same) == prod(map(len, alternatives)) and set(same) == set(product(*alternatives)):
            one = next(iter(same.values()))
            arguments = tuple(
                (name, " | ".join(types), default) for (name, _, default), types in zip(one.arguments, alternatives, strict=True)
            )
            yield Signature(one.kind, one.name, arguments, one.result)
        else:
            yield from same.values()


def text(one):
    parts = [f"{name} {kind}".strip() + (f" DEFAULT {default}" if default else "") for name, kind, default in one.arguments]
    short = f"{one.kind}reco.{one.name}({', '.join(parts)}){one.result}"
    if len(short) <= LINE:
        return short
    return f"{one.kind}reco.{one.name}(\n" + ",\n".join(f"    {part}" for part in parts) + f"\n){one.result}"


def catalog(connection):
    """The text of the block of each name that a user may call."""
    by_name = {}
    for row in connection.execute(FUNCTIONS).fetchall():
        if row[1] not in NOT_CALLED:
            by_name.setdefault(row[1], []).append(signature(row))
    return {name: "\n\n".join(text(one) for one in merged(found)) + "\n" for name, found in by_name.items()}


def names(page):
    """The names whose blocks stand on a page, in order."""
    return [re.search(r"reco\.(\w+)", block)[1] for block in BLOCK.findall(page)]


def filled(page, known):
    def block(match):
        name = re.search(r"reco\.(\w+)", match[1])[1]
        return f"```signature\n{known.get(name, f'reco.{name} does not exist' + chr(10))}```"

    return BLOCK.sub(block, page)


def index(pages):
    """A line for each page: its title and the functions on it."""
    lines = []
    for path, page in pages.items():
        if found := names(page):
            title = re.match(r"# (.*)", page)[1]
            links = ", ".join(f"[`{name}`]({path.name}#{name})" for name in found)
            lines.append(f"| [{title}]({path.name}) | {links} |\n")
    return "| page | functions |\n|---|---|\n" + "".join(lines)


def up_to_date(known):
    """Each page of the reference as it should be."""
    pages = {path: filled(path.read_text(), known) for path in sorted(PAGES.glob("*.md"))}
    pages[INDEX] = LISTED.sub(lambda _: index(pages), pages[INDEX])
    return pages


def main(arguments):
    if arguments not in ([], ["--check"]):
        sys.exit(__doc__)
    with psycopg.connect(os.environ["PG_RECO_DSN"]) as connection:
        known = catalog(connection)
    pages = up_to_date(known)
    stale = [path for path, page in pages.items() if path.read_text() != page]
    missing = sorted(known.keys() - {name for page in pages.values() for name in names(page)})
    if not arguments:
        for path in stale:
            path.write_text(pages[path])
    for path in stale:
        print(f"{path.name}: {'not up to date' if arguments else 'written'}")
    for name in missing:
        print(f"reco.{name} is on no page")
    sys.exit(bool(missing or arguments and stale))


if __name__ == "__main__":
    main(sys.argv[1:])
