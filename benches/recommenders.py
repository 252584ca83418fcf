#!/usr/bin/env python3
"""The recommenders beside their peers: what their lists are worth and how long they take, as Markdown. `make bench-recommend`."""

import argparse
import os
import sys
import warnings

# Before NumPy is loaded: implicit's own threads and BLAS's would get into each other's way.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import run

# {name: module}, in the order in which they are measured and stand in the results.
FIGURES = {"gowalla": "gowalla", "ml-1m": "movielens", "cold": "cold_start", "speed": "speed"}


def main():
    parser = argparse.ArgumentParser(prog="make bench-recommend ARGS=…", description=__doc__)
    run.add_choices(parser, FIGURES)
    return run.measure_chosen(parser, parser.parse_args(), FIGURES)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
