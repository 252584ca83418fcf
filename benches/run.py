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
# Measured where it is named: `make bench-serving` names it, and installs its peer.
NAMED = ["serving", "search", "prediction"]
RESULTS = Path(__file__).parent / "RESULTS.md"
HEAD = """# Results

Measured by `make bench`, which needs nothing but what it installs itself. `make bench ARGS='ials cancel'` runs some of the figures
(embed, ials, recommend, first_call, memory, cancel), `ARGS=--quick` runs small ones in a few minutes, `ARGS='--record ials'` also writes
the figure into this file. The sides take turns within one run, so that whatever else the machine does falls on all of them; times
are only good of an idle one. Complete Journey comes with the set-up; iALS is also measured on MovieLens 1M and Gowalla where
`RECO_DATASETS` names a folder with `ncf/` and `gowalla/` in their authors' formats, gzipped.

The figures whose titles speak of recommenders or of a cold start are measured by `make bench-recommend`;
`make bench-recommend ARGS='--only gowalla,ml-1m,cold,speed --record'` chooses and writes down. Peers that take long are measured once
and kept in `.build/bench-peers.json`, by version and machine, `--fresh` measures them anew; PyTorch is one only with `TORCH=1`.

The figures whose titles speak of importance are measured by `make bench-importance`; `ARGS='--only noise,interactions,speed --record'` chooses and
writes down. Adult is read from `RECO_DATASETS`, too.

The figures whose titles speak of synthetic rows are measured by `make bench-synthesis`, SDV's networks with `TORCH=1` only;
`ARGS='--only quality,speed,balance,privacy,interactions,cancel --record'` chooses and writes down. Adult is read from `RECO_DATASETS` here as well.

Search is measured by `make bench-search`; graded results of a shop are read from `RECO_DATASETS`, if they are there.

Predictors are measured by `make bench-prediction`; Adult is read from `RECO_DATASETS`, if it is there.

Calls a second as clients are added are measured by `make bench-serving`, `ARGS=--record` writes them down. Debian's package wrk sends the requests to the
Python server; without it that side is left out.

The kernels' figures are measured by `cargo bench`, which needs neither a server nor Python; see [README.md](README.md).
"""


def main():
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"{', '.join(FIGURES)}: all of these by default; {', '.join(NAMED)}")
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it works, not how fast it is")
    parser.add_argument("--rounds", type=int, help="turns that each side takes; 3 by default")
    parser.add_argument("--record", action="store_true", help=f"write the figures into {RESULTS.name} as well")
    arguments = parser.parse_args()
    unknown = set(arguments.figures) - {*FIGURES, *NAMED}
    if unknown:
        parser.error(f"there is no figure {', '.join(sorted(unknown))}; there are {', '.join(FIGURES + NAMED)}")
    if arguments.quick and arguments.record:
        parser.error("--quick figures are none to record")
    rounds = arguments.rounds or (2 if arguments.quick else 3)
    if rounds < 1:
        parser.error("--rounds is 1 or more")

    context = common.Context(common.from_environment("PG_RECO_DSN"), arguments.quick, rounds)
    return measure_all(context, {name: name for name in arguments.figures or FIGURES}, arguments.record)


def add_choices(parser, figures):
    """The arguments of a run that measures some of `figures`, {name: module}, beside peers that take long."""

    def names(value):
        unknown = set(value.split(",")) - set(figures)
        if unknown:
            raise argparse.ArgumentTypeError(f"there is no figure {', '.join(sorted(unknown))}; there are {', '.join(figures)}")
        return value.split(",")

    parser.add_argument("--only", type=names, default=list(figures), metavar="FIGURES", help=f"some of {','.join(figures)}")
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it works, not what it is worth")
    parser.add_argument("--fresh", action="store_true", help="measure the peers anew whose figures were kept in .build/")
    parser.add_argument("--rounds", type=int, help="turns that each side takes where they take turns; 3 by default")
    parser.add_argument("--record", action="store_true", help=f"write the figures into {RESULTS.name} as well")


def measure_chosen(parser, arguments, figures):
    """What `add_choices` has read is measured; gives the exit status."""
    if arguments.quick and arguments.record:
        parser.error("--quick figures are none to record")
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    if rounds < 1:
        parser.error("--rounds is 1 or more")
    context = common.Context(common.from_environment("PG_RECO_DSN"), arguments.quick, rounds, arguments.fresh)
    return measure_all(context, {name: figures[name] for name in arguments.only}, arguments.record)


def measure_all(context, figures, recorded):
    """Prints the figures, {name: module}, and writes them down if they are to be recorded; gives the exit status."""
    missed = False
    with common.database(context.dsn):
        for name, module in figures.items():
            print(f"measuring: {name}", file=sys.stderr)
            try:
                title, text = measure(module, context)
            except common.Unavailable as reason:
                missed = True
                print(f"{name}: not measured: {reason}", file=sys.stderr)
                continue
            print(f"## {title}\n\n{text}\n", flush=True)
            if recorded:
                record(title, text)
    return 1 if missed else 0


def measure(module, context):
    try:
        figure = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise common.Unavailable(f"the package {error.name} is missing; make bench installs it") from None
    return figure.TITLE, figure.measure(context)


def record(title, text):
    """Replaces the figure's section where it stands, or appends it."""
    sections = {}
    if RESULTS.exists():
        for section in RESULTS.read_text().split("\n## ")[1:]:
            known, _, content = section.partition("\n")
            sections[known] = content.strip()
    sections[title] = text
    RESULTS.write_text(HEAD + "".join(f"\n## {known}\n\n{content}\n" for known, content in sections.items()))


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)
    sys.exit(main())
