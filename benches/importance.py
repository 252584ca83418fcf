#!/usr/bin/env python3
"""Importance scores beside Python's: how well they find what misleads, and how long they take. `make bench-importance`."""

import argparse
import os
import sys
import warnings

# Before NumPy is loaded: its CPU time is compared with that of one thread's work.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import run

# {name: module}, in the order in which they are measured and stand in the results.
FIGURES = {"noise": "importance_noise", "interactions": "importance_interactions", "speed": "importance_speed"}


def main():
    parser = argparse.ArgumentParser(prog="make bench-importance ARGS=…", description=__doc__)
    run.add_choices(parser, FIGURES)
    return run.measure_chosen(parser, parser.parse_args(), FIGURES)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
