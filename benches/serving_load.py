"""The loads of serving: pgbench for PostgreSQL, wrk for a Python server, and that server as a process of its own."""

import contextlib
import json
import math
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy
import psycopg.conninfo

from common import DATABASE, ROOT, THREADS, Unavailable, scalar

MODEL = "all-minilm-l6-v2"
# A text of a product's length with a number, so that hardly any is sent twice.
TEXT = "red running shoe for men, size {}, with a light sole"
NUMBERS = 1_000_000_000
PYTHON = ROOT / ".build" / "venv-bench-serving" / "bin" / "python"
# What a machine makes at least, the model loaded in each.
CONNECTIONS_A_SECOND = 50
# Past this an answer counts as none.
TIMEOUT = 60


@dataclass
class Load:
    """Calls a second, and milliseconds of a call: the median and the 99th percentile."""

    rate: float
    median: float
    p99: float


def seconds_of(context):
    """How long a load lasts."""
    return context.size(10, 2)


# -------------------------------------------------------------------------------------------------------- PostgreSQL


def pgbench(context, script, clients):
    program = shutil.which("pgbench")
    if not program:
        raise Unavailable("there is no pgbench in the PATH; PostgreSQL's own folder of programs has it")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "call.sql"
        file.write_text(script)
        # Connections load the model before their first call. pgbench connects within the time that it is given; its rate does not count that part.
        duration = seconds_of(context) + math.ceil(clients / CONNECTIONS_A_SECOND)
        command = [program, "--no-vacuum", "--protocol=prepared", f"--client={clients}", f"--jobs={min(clients, THREADS)}"]
        command += [f"--time={duration}", f"--file={file}", "--log", f"--log-prefix={folder}/log", *connection_options(context)]
        environment = {**os.environ, "PGOPTIONS": f"-c reco.threads={THREADS} -c reco.execution_provider=cpu -c reco.preload_models={MODEL}"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise Unavailable("; ".join(done.stderr.strip().splitlines()[-3:]))
        # The third field of a line is the microseconds of a call.
        took = [int(line.split(" ", 3)[2]) for log in Path(folder).glob("log*") for line in log.read_text().splitlines()]
    rate = re.search(r"tps = ([\d.]+) \(without initial", done.stdout)
    if not rate or not took:
        raise Unavailable(f"{clients} clients made no call in {duration} s: {done.stdout.strip()}")
    median, p99 = numpy.quantile(took, [0.5, 0.99]) / 1000
    return Load(float(rate.group(1)), float(median), float(p99))


def connection_options(context):
    parts = psycopg.conninfo.conninfo_to_dict(context.dsn)
    return [f"--host={parts['host']}", f"--port={parts['port']}", f"--username={parts['user']}", DATABASE]


def texts_a_second(context, connection):
    """What `embed_query` makes of texts like those that clients send, in one call."""
    count = context.size(10_000, 2_000)
    number = f"1 + abs(hashint8(i)::bigint) % {NUMBERS}"
    source = f"SELECT i AS id, format('{TEXT.format('%s')}', {number}) AS text FROM generate_series(1, {count}) i"
    start = time.perf_counter()
    made = scalar(connection, "SELECT count(embedding) FROM reco.embed_query(%s, %s)", source, MODEL)
    if made != count:
        raise Unavailable(f"embed_query made {made:,} vectors of {count:,} texts")
    return count / (time.perf_counter() - start)


# --------------------------------------------------------------------------------------------------- a Python server


@dataclass
class Server:
    port: int
    versions: list

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}/embed"

    def vector(self, text):
        request = urllib.request.Request(self.address, json.dumps({"text": text}).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return json.load(answer)["embedding"]


@contextlib.contextmanager
def server(sessions, threads):
    """A Python server with `sessions` sessions of `threads` threads each."""
    if not shutil.which("wrk"):
        raise Unavailable("wrk, which sends the requests, is not installed; Debian's package wrk has it")
    if not PYTHON.exists():
        raise Unavailable("its packages are not there; make bench-serving installs them")
    folder = ROOT / ".build" / "models" / MODEL
    config = json.dumps(json.loads((ROOT / "models" / f"{MODEL}.json").read_text())["config"])
    command = [PYTHON, Path(__file__).with_name("serving_peer.py"), folder, config, str(sessions), str(threads)]
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        line = process.stdout.readline()
        if not line:
            raise Unavailable(f"it ended with status {process.wait()} before it answered")
        yield Server(**json.loads(line))
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def wrk(context, server, clients):
    command = ["wrk", f"--threads={min(clients, THREADS)}", f"--connections={clients}", f"--duration={seconds_of(context)}s", f"--timeout={TIMEOUT}s"]
    command += ["--script", Path(__file__).with_name("serving.lua"), server.address, "--", str(random.randrange(2**31)), TEXT.format("%d")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not done.stdout.strip().endswith("}"):
        raise Unavailable("; ".join((done.stderr or done.stdout).strip().splitlines()[-3:]))
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if found["failed"] or not found["calls"]:
        raise Unavailable(f"{found['failed']} of {clients} clients' requests failed, {found['calls']} were answered")
    return Load(found["calls"] / found["microseconds"] * 1e6, found["median"] / 1000, found["p99"] / 1000)
