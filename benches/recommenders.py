#!/usr/bin/env python3
"""The recommenders beside their peers: what their lists are worth and how long they take, as Markdown. `make bench-recommend`."""

import argparse
import os
import sys
import warnings

# Before NumPy is loaded: implicit's own threads and BLAS's would get into each other's way.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import common
import run

# {name: module}, in the order in which they are measured and stand in the results.
FIGURES = {"gowalla": "gowalla", "ml-1m": "movielens", "cold": "cold_start", "speed": "speed"}


def main():
    parser = argparse.ArgumentParser(prog="make bench-recommend ARGS=…", description=__doc__)
    parser.add_argument("--only", type=names, default=list(FIGURES), metavar="FIGURES", help=f"some of {','.join(FIGURES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it works, not what it is worth")
    parser.add_argument("--fresh", action="store_true", help="measure the peers anew whose figures were kept in .build/")
    parser.add_argument("--rounds", type=int, help="turns that each side takes where they take turns; 3 by default")
    parser.add_argument("--record", action="store_true", help=f"write the figures into {run.RESULTS.name} as well")
    arguments = parser.parse_args()
    if arguments.quick and arguments.record:
        parser.error("--quick figures are none to record")
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    if rounds < 1:
        parser.error("--rounds is 1 or more")
    context = common.Context(common.from_environment("PG_RECO_DSN"), arguments.quick, rounds, arguments.fresh)

    return run.measure_all(context, {name: FIGURES[name] for name in arguments.only}, arguments.record)


def names(value):
    chosen = value.split(",")
    unknown = set(chosen) - set(FIGURES)
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no figure {', '.join(sorted(unknown))}; there are {', '.join(FIGURES)}")
    return chosen


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
