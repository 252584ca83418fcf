#!/usr/bin/env python3
"""The figures: pg_reco and its peers side by side in one run, as Markdown. `make bench ARGS='--quick embed ials'`."""

import argparse
import importlib
import os
import sys
import warnings
from pathlib import Path

# Before NumPy is loaded: implicit's own threads and BLAS's would get into each other's way.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import common

# Before tokenizers is loaded.
os.environ["RAYON_NUM_THREADS"] = str(common.THREADS)

FIGURES = ["embed", "ials", "recommend", "first_call", "memory", "cancel"]
RESULTS = Path(__file__).parent / "RESULTS.md"
HEAD = """# Results

Measured by `make bench`, which needs nothing but what it installs itself. `make bench ARGS='ials cancel'` runs some of the figures
(embed, ials, recommend, first_call, memory, cancel), `ARGS=--quick` runs small ones in a few minutes, `ARGS='--record ials'` also writes
the figure into this file. The sides take turns within one run, so that whatever else the machine does falls on all of them; times
are only good of an idle one. Complete Journey comes with the set-up; iALS is also measured on MovieLens 1M and Gowalla where
`RECO_DATASETS` names a folder with `ncf/` and `gowalla/` in their authors' formats, gzipped.
"""


def main():
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"{', '.join(FIGURES)}; all of them by default")
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it works, not how fast it is")
    parser.add_argument("--rounds", type=int, help="turns that each side takes; 3 by default")
    parser.add_argument("--record", action="store_true", help=f"write the figures into {RESULTS.name} as well")
    arguments = parser.parse_args()
    unknown = set(arguments.figures) - set(FIGURES)
    if unknown:
        parser.error(f"there is no figure {', '.join(sorted(unknown))}; there are {', '.join(FIGURES)}")
    if arguments.quick and arguments.record:
        parser.error("--quick figures are none to record")
    rounds = arguments.rounds or (2 if arguments.quick else 3)
    if rounds < 1:
        parser.error("--rounds is 1 or more")

    context = common.Context(common.from_environment("PG_RECO_DSN"), arguments.quick, rounds)
    missed = False
    with common.database(context.dsn):
        for name in arguments.figures or FIGURES:
            print(f"measuring: {name}", file=sys.stderr)
            try:
                title, text = measure(name, context)
            except common.Unavailable as reason:
                missed = True
                print(f"{name}: not measured: {reason}", file=sys.stderr)
                continue
            print(f"## {title}\n\n{text}\n", flush=True)
            if arguments.record:
                record(title, text)
    return 1 if missed else 0


def measure(name, context):
    try:
        figure = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise common.Unavailable(f"the package {error.name} is missing; make bench installs it") from None
    return figure.TITLE, figure.measure(context)


def record(title, text):
    """Replaces or appends the figure's section."""
    sections = {}
    if RESULTS.exists():
        for section in RESULTS.read_text().split("\n## ")[1:]:
            known, _, content = section.partition("\n")
            sections[known] = content.strip()
    sections[title] = text
    titles = [importlib.import_module(name).TITLE for name in FIGURES]
    kept = sorted(sections, key=lambda known: titles.index(known) if known in titles else len(titles))
    RESULTS.write_text(HEAD + "".join(f"\n## {known}\n\n{sections[known]}\n" for known in kept))


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)
    sys.exit(main())
