#!/usr/bin/env python3
"""Synthetic rows beside Python's: what they are worth, what they give away, how long they take. `make bench-synthesis`."""

import argparse
import os
import sys
import warnings

# Before NumPy is loaded: the peers have one thread.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import run

# {name: module}, in the order in which they are measured and stand in the results.
FIGURES = {
    "quality": "synthesis_quality",
    "speed": "synthesis_speed",
    "balance": "synthesis_balance",
    "privacy": "synthesis_privacy",
    "interactions": "synthesis_interactions",
    "cancel": "synthesis_cancel",
}


def main():
    parser = argparse.ArgumentParser(prog="make bench-synthesis ARGS=…", description=__doc__)
    run.add_choices(parser, FIGURES)
    return run.measure_chosen(parser, parser.parse_args(), FIGURES)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
