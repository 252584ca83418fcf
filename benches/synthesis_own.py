"""The extension's methods in the run's database, and their peers: each fitted, sampled and judged once a run, whatever parts ask."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas
import psycopg

from common import ROOT, Unavailable
from peers import clock, kept
from synthesis_data import LABEL, NAMES, adult, domain, load, rows_of
from synthesis_judge import judge

METHODS = ["cart", "tvae", "ctgan", "gaussian_copula", "smote_nc", "aim"]
# Nothing is trained before they are asked for rows.
UNTRAINED = ["smote_nc"]
SEED = 1
# What a differentially private synthesizer may give away; the domain is declared.
PRIVATE = {"epsilon": 1, "delta": 1e-9}
# {method: (what it is, packages of this environment)}
PEERS = {
    "cart": ("scikit-learn's trees, as synthpop", ["scikit-learn", "pandas"]),
    "tvae": ("SDV, 50 epochs", ["sdv", "torch"]),
    "ctgan": ("SDV, 50 epochs", ["sdv", "torch"]),
    "gaussian_copula": ("SDV", ["sdv"]),
    "smote_nc": ("imbalanced-learn", ["imbalanced-learn"]),
    "aim": ("dpmm 0.1.9", []),
}


@dataclasses.dataclass
class Made:
    """Rows that were made: seconds {"wall", "cpu"} of fitting (none where nothing is trained) and of making them, and the judge's figures."""

    fit: dict
    sample: dict
    judged: dict
    # Seconds of making 100,000; a peer's that takes minutes has none.
    many: dict | None = None
    note: str = ""


def options_of(method, rows):
    return PRIVATE | {"domain": domain(rows)} if method == "aim" else {}


class Own:
    """One connection: the process whose CPU seconds count, all of its threads included."""

    def __init__(self, context):
        self.context, self.connection = context, context.connect()
        self.pid = self.connection.info.backend_pid
        self.known = {}
        self.real, self.held_out = adult(context.quick)
        load(self.connection, "adult", self.real)

    def train(self, method, table, rows):
        """Seconds."""
        taken = {}
        self.connection.execute("SELECT reco.drop_model(name) FROM reco.model WHERE name = %s", [method])
        with clock(taken, self.pid):
            self.connection.execute(
                "SELECT reco.train_synthesizer(%s, %s, %s, %s, label => %s)",
                [method, f"TABLE {table}", method, json.dumps(options_of(method, rows)), LABEL],
            )
        return taken

    def call(self, method, count):
        if method in UNTRAINED:
            return f"reco.augment(NULL::adult, 'TABLE adult', '{method}', n => {count}, label => '{LABEL}', seed => {SEED})"
        return f"reco.synthesize(NULL::adult, '{method}', {count}, seed => {SEED})"

    def source(self, method, count):
        """A query of `count` new rows."""
        return f"SELECT * FROM {self.call(method, count)}"

    def streamed(self, method, count):
        """The same as one column, `made`: PostgreSQL writes what it has FROM a function aside before it goes on."""
        return f"SELECT {self.call(method, count)} AS made"

    def made(self, method):
        """Trained, sampled and judged; once."""
        if method not in self.known:
            try:
                fit = {"wall": 0.0, "cpu": 0.0} if method in UNTRAINED else self.train(method, "adult", self.real)
                sample = {}
                with clock(sample, self.pid):
                    rows = rows_of(self.connection, self.source(method, len(self.real)))
                self.known[method] = Made(fit, sample, judge(self.real, self.held_out, rows))
            except psycopg.Error as error:
                self.known[method] = Unavailable(f"`{method}`: {error.diag.message_primary or error}")
        if isinstance(self.known[method], Unavailable):
            raise self.known[method]
        return self.known[method]

    def conditioned(self, rows, value, count, seed):
        """`count` rows whose label is `value`, of trees trained on these rows."""
        load(self.connection, "adult_part", rows)
        self.train("cart", "adult_part", rows)
        query = f"SELECT * FROM reco.synthesize(NULL::adult_part, 'cart', %s, jsonb_build_object('{LABEL}', %s::text), seed => %s)"
        return rows_of(self.connection, query, [count, value, seed])

    def balancing(self, rows, method, seed):
        """Rows that even the label out, without training."""
        load(self.connection, "adult_part", rows)
        query = f"SELECT * FROM reco.augment(NULL::adult_part, 'TABLE adult_part', '{method}', label => '{LABEL}', balance => true, seed => %s)"
        return rows_of(self.connection, query, [seed])


_own = {}


def own(context):
    """The same for all parts of a run."""
    if id(context) not in _own:
        _own[id(context)] = Own(context)
    return _own[id(context)]


# --------------------------------------------------------------------------------------------------------------- peers


def python_of(method):
    python = ROOT / ".build" / "venv-bench-dpmm" / "bin" / "python" if method == "aim" else Path(sys.executable)
    if not python.exists():
        raise Unavailable("dpmm is not there; make bench-synthesis installs it")
    return python


def peer_made(context, method):
    """A peer's rows, made in a process of one thread and judged; kept from an earlier run where there is one."""
    name, packages = PEERS[method]
    python = python_of(method)
    packages = sorted({*packages, "sdmetrics", "scikit-learn"})
    found = kept(context, f"rows of Adult by {method}, {name}", packages, lambda: measured(context, python, method))
    return Made(found["fit"], found["sample"], found["judged"], found.get("many"), f"{found['date']}, load {found['load']:.1f}")


def measured(context, python, method):
    real, held_out = adult(context.quick)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "real.csv"), Path(folder, "made.csv")
        real.to_csv(source, index=False)
        script = Path(__file__).with_name("synthesis_peers.py")
        threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        command = [python, "-W", "ignore", script, method, source, target]
        ran = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True)
        if ran.returncode:
            raise Unavailable(f"the peer of {method} failed: {(ran.stderr.strip().splitlines() or ['no word of why'])[-1]}")
        rows = pandas.read_csv(target, keep_default_na=False)[NAMES]
        return json.loads(ran.stdout.splitlines()[-1]) | {"judged": judge(real, held_out, rows)}


def sides(context):
    """(method, own Made or None, peer's Made or None), and a line for each that is missing."""
    found, missing = [], []
    for method in METHODS:
        of_both = []
        for side in (lambda: own(context).made(method), lambda: peer_made(context, method)):
            try:
                of_both.append(side())
            except Unavailable as reason:
                of_both.append(None)
                missing.append(str(reason))
        found.append((method, *of_both))
    if not any(mine for _, mine, _ in found):
        raise Unavailable("; ".join(missing))
    return found, missing
