"""Calls a second as clients are added: `embed` of one short text, `recommend` of a trained and of a live history, by pgbench."""

import os
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg.conninfo

from common import DATABASE, THREADS, Unavailable, machine, scalar, table
from data import CATALOGUE_MODEL, CATALOGUE_SOURCE, catalogue

TITLE = "Calls a second as clients are added"
MODEL = "all-minilm-l6-v2"
CLIENTS = [1, 4, 16, 64]
# Texts of a product's length, none of which a client sends twice.
TEXT = "red running shoe for men, size {}, with a light sole"


def measure(context):
    with context.connect() as connection:
        catalogue(context, connection)
        connection.execute("VACUUM ANALYZE purchase")
        households = scalar(connection, "SELECT max(household_id) FROM purchase")
        rate = texts_a_second(context, connection)
    household = f"\\set household random(1, {households})\n"
    recommend = f"SELECT * FROM reco.recommend('{CATALOGUE_MODEL}', :household::bigint, k => 10, history => '{{}}');\n"
    scripts = {
        "`embed`, one short text": f"\\set n random(1, 1000000000)\nSELECT reco.embed(format('{TEXT.format('%s')}', :n::bigint), '{MODEL}');\n",
        "`recommend`, trained history": household + recommend.format("trained"),
        "`recommend`, live history": household + recommend.format("live"),
        "the live history's own query": household + f"SELECT * FROM ({CATALOGUE_SOURCE}) s WHERE user_id = :household;\n",
    }
    rates = {name: [[] for _ in CLIENTS] for name in scripts}
    for number in range(context.rounds):
        order = list(scripts.items()) if number % 2 == 0 else list(reversed(scripts.items()))
        for name, script in order:
            for place, clients in enumerate(CLIENTS):
                rates[name][place].append(pgbench(context, script, clients))
    lines = [[name, *map(summary, found)] for name, found in rates.items()]
    return "\n\n".join(
        [
            f"pgbench over the Unix socket, prepared statements, {context.size(10, 4)} s for each number of clients, in turn, rounds: {context.rounds}"
            "; medians of calls a second and, in brackets, of the 99th percentile of their milliseconds. Each client has its own connection, "
            f"which loads {MODEL} before its first call. `embed_query` makes {rate:,.0f} vectors a second of the same texts in one connection. pgbench "
            "takes its part of the same processors.",
            table(["", *(f"{clients} client{'s' if clients > 1 else ''}" for clients in CLIENTS)], lines),
            machine(context, "psycopg"),
        ]
    )


def summary(found):
    rates, latest = zip(*found)
    return f"{statistics.median(rates):,.0f} ({statistics.median(latest):,.1f})"


def texts_a_second(context, connection):
    count = context.size(10_000, 2_000)
    source = f"SELECT i AS id, format('{TEXT.format('%s')}', i) AS text FROM generate_series(1, {count}) i"
    query = "SELECT count(embedding) FROM reco.embed_query(%s, %s)"
    scalar(connection, query, source, MODEL)
    start = time.perf_counter()
    scalar(connection, query, source, MODEL)
    return count / (time.perf_counter() - start)


def pgbench(context, script, clients):
    """Calls a second, and the 99th percentile of their milliseconds."""
    program = Path(os.environ.get("PG_BINDIR", "/usr/lib/postgresql/15/bin")) / "pgbench"
    if not program.exists():
        raise Unavailable(f"there is no {program}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "call.sql"
        file.write_text(script)
        seconds = context.size(10, 4)
        # Connections load the model before their first call, which is counted.
        command = [program, "--no-vacuum", "--protocol=prepared", f"--client={clients}", f"--jobs={min(clients, THREADS)}"]
        command += [f"--time={seconds}", f"--file={file}", "--log", f"--log-prefix={folder}/log", *connection_options(context)]
        environment = {**os.environ, "PGOPTIONS": f"-c reco.threads={THREADS} -c reco.execution_provider=cpu -c reco.preload_models={MODEL}"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise Unavailable("; ".join(done.stderr.strip().splitlines()[-3:]))
        took = [int(line.split()[2]) / 1000 for log in Path(folder).glob("log*") for line in log.read_text().splitlines()]
    rate = re.search(r"tps = ([\d.]+) \(without initial", done.stdout)
    if not rate:
        raise Unavailable(f"{clients} clients made no call in {seconds} s: {done.stdout.strip()}")
    return float(rate.group(1)), sorted(took)[int(len(took) * 0.99)]


def connection_options(context):
    parts = psycopg.conninfo.conninfo_to_dict(context.dsn)
    return [f"--host={parts['host']}", f"--port={parts['port']}", f"--username={parts['user']}", DATABASE]
