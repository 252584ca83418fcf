"""How long importance scores take beside Python's, whole statements with reading the rows, and in how much memory."""

import json
import re
import subprocess
import tempfile
from pathlib import Path

import numpy

import importance_peers
from common import ROOT, Side, Unavailable, alternate, machine, ratio, seconds, table
from labelled import adult
from peers import clock, kept

TITLE = "Importance: speed"
K = 5
ROWS, COLUMNS, VALIDATION = 1_000_000, 64, 1000
NETWORK_METHODS = ["loss", "el2n", "grad_norm", "aum", "forgetting", "tracin"]
# As many networks and epochs as the peer trains.
NETWORK_OPTIONS = {"runs": 5, "epochs": 20}


def measure(context):
    sections = []
    with context.connect() as connection:
        data = adult(0)
        labels, _ = data.flipped(0)
        clean = data.clean[:VALIDATION]
        data.load(connection, "noisy", data.train, labels)
        data.load(connection, "clean", clean, data.labels[clean])
        sections += beside_python(context, connection, data, labels, clean)
        if not context.quick:
            sections.append(large(context))
    return "\n\n".join([*sections, machine(context, "numpy", "scikit-learn")])


def beside_python(context, connection, data, labels, clean):
    """One process of one thread in NumPy: CPU seconds are what compares."""
    x = data.encoded()
    train, validation = x[data.train], x[clean]
    pid = connection.info.backend_pid

    def shapley():
        return statement(connection, "knn_shapley", "TABLE clean", {"k": K})

    sides = {
        "knn_shapley": Side(shapley, pid),
        "knn_shapley, NumPy": Side(lambda: importance_peers.knn_shapley(train, labels, validation, data.labels[clean], K)),
        "networks": Side(lambda: statement(connection, NETWORK_METHODS, None, NETWORK_OPTIONS), pid),
        "networks, NumPy": Side(lambda: importance_peers.dynamics(train, labels, 0)),
        "reading": Side(lambda: statement(connection, "knn_shapley", "SELECT * FROM clean LIMIT 1", {"k": K}), pid),
    }
    timings = alternate(sides, context.rounds)
    lines = []

    def line(name, wall, cpu, against=None):
        lines.append([name, seconds(wall), seconds(cpu), ratio(cpu, against.cpu_median) if against else "", ratio(wall, against.wall_median) if against else ""])

    def peer(name, title, own):
        line(title, timings[name].wall_median, timings[name].cpu_median, timings[own])

    line(f"`knn_shapley`, 10,000 rows by {VALIDATION:,}: pg_reco", timings["knn_shapley"].wall_median, timings["knn_shapley"].cpu_median)
    peer("knn_shapley, NumPy", "NumPy", "knn_shapley")
    dvl = kept(context, "pyDVL's KNN-Shapley on Adult", ["numpy"], lambda: pydvl(x, labels, data, clean))
    line("pyDVL 0.10.0", dvl["wall"], dvl["cpu"], timings["knn_shapley"])
    line("six scores of networks in one pass: pg_reco", timings["networks"].wall_median, timings["networks"].cpu_median)
    peer("networks, NumPy", "NumPy, the four of them that it gives", "networks")
    line("the statement with one validation row: reading, encoding, answering", timings["reading"].wall_median, timings["reading"].cpu_median)
    # pg_reco keeps features in single precision.
    rounded = [rows.astype(numpy.float32).astype(float) for rows in (train, validation)]
    exact = importance_peers.knn_shapley(rounded[0], labels, rounded[1], data.labels[clean], K)
    difference = numpy.abs(timings["knn_shapley"].results[-1] - exact).max()
    return [
        f"Adult, 10,000 rows of which a fifth are labelled wrong. A statement reads its rows, encodes them, and gives a row for each; NumPy works on a matrix "
        "that is there already, in one thread. CPU seconds of all threads; ratios above 1 are in favour of pg_reco.",
        table(["", "seconds", "CPU seconds", "peer's CPU / own", "peer's seconds / own"], lines),
        f"Greatest difference of a Shapley value from NumPy's in `f64` on the same features, rounded to `f32`: {difference:.1e}.",
    ]


def statement(connection, methods, validation, options):
    """[rows] scores of one method; of several nothing."""
    several = isinstance(methods, list)
    query = "SELECT id::int, score FROM reco.importance('TABLE noisy', %s{}, validation => %s, options => %s)"
    with connection.cursor(binary=True) as cursor:
        cursor.execute(query.format("::text[]" if several else ""), [methods, validation, json.dumps(options)])
        rows = cursor.fetchall()
    if several:
        return None
    scores = numpy.zeros(len(rows))
    for id, score in rows:
        scores[id] = score
    return scores


def pydvl(x, labels, data, clean):
    """In an environment of its own; {wall, cpu}."""
    python = ROOT / ".build" / "venv-bench-pydvl" / "bin" / "python"
    if not python.exists():
        raise Unavailable("pyDVL is not there; make bench-importance installs it")
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.npz"
        numpy.savez(rows, x=x[data.train], y=labels, clean=x[clean], clean_labels=data.labels[clean])
        script = Path(__file__).with_name("pydvl_peer.py")
        return json.loads(subprocess.run([python, script, rows, str(K)], check=True, capture_output=True, text=True).stdout)


def large(context):
    """A million rows: seconds and the most memory of a connection of its own, over what it had at first."""
    columns = ", ".join(f"(hashint8(i * {COLUMNS} + {c}) / 2147483648.0)::real" for c in range(COLUMNS))
    with context.connect() as connection:
        connection.execute(
            f"""CREATE TABLE wide AS SELECT i AS id, ARRAY[{columns}] AS x, hashint8(i * {COLUMNS}) > 0 AS label
                  FROM generate_series(1::bigint, {ROWS + VALIDATION}) i"""
        )
        connection.execute("VACUUM ANALYZE wide")
    lines = []
    source, every = f"SELECT * FROM wide WHERE id <= {ROWS}", f"SELECT * FROM wide WHERE id > {ROWS}"
    for name, validation in ((f"{VALIDATION:,} validation rows", every), ("one validation row", every + " LIMIT 1")):
        with context.connect() as connection:
            pid, taken = connection.info.backend_pid, {}
            before = memory(pid, "VmRSS")
            with clock(taken, pid):
                connection.execute("SELECT count(*) FROM reco.importance(%s, 'knn_shapley', validation => %s)", [source, validation])
            lines.append([name, seconds(taken["wall"]), seconds(taken["cpu"]), f"{(memory(pid, 'VmHWM') - before) / 1024:.0f} MiB"])
    return (
        f"`knn_shapley` of {ROWS:,} rows with an array of {COLUMNS} numbers each ({ROWS * COLUMNS * 4 / 2**20:.0f} MiB):\n\n"
        + table(["", "seconds", "CPU seconds", "memory over an idle connection"], lines)
    )


def memory(pid, which):
    """KiB."""
    return int(re.search(rf"^{which}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1])
