"""What every figure needs: a database of its own, clocks, tables in Markdown, the facts of the machine."""

import contextlib
import datetime
import importlib
import importlib.metadata
import os
import platform
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import numpy
import psycopg
from psycopg import sql as identifiers

ROOT = Path(__file__).resolve().parents[1]
DATABASE = "pg_reco_bench"
# What both sides of a comparison may use.
THREADS = 2


class Unavailable(Exception):
    """A figure cannot be measured here; the message is the one line that says why."""


@dataclass
class Context:
    """A run: where its database is, and how large it is to be."""

    dsn: str
    quick: bool
    rounds: int
    # Whether peers whose figures were kept from an earlier run are measured anew.
    fresh: bool = False

    def size(self, full, quick):
        return quick if self.quick else full

    def connect(self):
        """A connection to the run's database, with the settings that both sides share."""
        options = f"-c reco.threads={THREADS} -c reco.execution_provider=cpu"
        return psycopg.connect(self.dsn, dbname=DATABASE, autocommit=True, options=options)


def from_environment(name):
    value = os.environ.get(name)
    if not value:
        raise SystemExit(f"{name} is not set; run the benchmarks with: make bench ARGS='embed ials'")
    return value


def peer(module):
    """A library that a figure compares with."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Unavailable(f"the peer {module} cannot be imported ({error}); make bench installs it") from None


# -------------------------------------------------------------------------------------------------------- the database


@contextlib.contextmanager
def database(dsn):
    """A database made for this run from the template with the extension and the models; gone afterwards."""
    name, template = identifiers.Identifier(DATABASE), identifiers.Identifier(from_environment("PG_RECO_TEMPLATE"))
    drop = identifiers.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name)
    with psycopg.connect(dsn, dbname="postgres", autocommit=True) as connection:
        connection.execute(drop)
        connection.execute(identifiers.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, template))
    try:
        yield
    finally:
        with psycopg.connect(dsn, dbname="postgres", autocommit=True) as connection:
            connection.execute(drop)


def scalar(connection, query, *parameters):
    ((value,),) = connection.execute(query, parameters or None).fetchall()
    return value


def model_workers(connection):
    """The processes that run models for all connections; none where each connection runs its own."""
    return [pid for (pid,) in connection.execute("SELECT pid FROM reco.stat_workers WHERE pid IS NOT NULL ORDER BY worker")]


# ------------------------------------------------------------------------------------------------------------ the clock

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """CPU time of a process so far, in user and kernel mode, of all its threads, ended ones included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@dataclass
class Side:
    """One of the things compared: what to run, and the process whose CPU time counts, with others that work for it."""

    run: Callable
    pid: int = field(default_factory=os.getpid)
    others: list = field(default_factory=list)

    def cpu_seconds(self):
        return sum(map(cpu_seconds, [self.pid, *self.others]))


@dataclass
class Timing:
    wall: list = field(default_factory=list)
    cpu: list = field(default_factory=list)
    # What the side returned, round by round.
    results: list = field(default_factory=list)

    @property
    def wall_median(self):
        return statistics.median(self.wall)

    @property
    def cpu_median(self):
        return statistics.median(self.cpu)


def alternate(sides, rounds):
    """Runs each side once per round, in turn, every other round backwards; {name: Side} → {name: Timing}."""
    timings = {name: Timing() for name in sides}
    for number in range(rounds):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        for name in order:
            side, timing = sides[name], timings[name]
            cpu, wall = side.cpu_seconds(), time.perf_counter()
            result = side.run()
            timing.wall.append(time.perf_counter() - wall)
            timing.cpu.append(side.cpu_seconds() - cpu)
            timing.results.append(result)
    return timings


def quantile(values, share):
    return float(numpy.quantile(values, share))


# ------------------------------------------------------------------------------------------------------------- Markdown


def table(header, rows):
    """A table in Markdown; every column but the first aligned to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def ratio(peer_value, own_value):
    return f"**{peer_value / own_value:.2f}×**"


def seconds(value):
    return f"{value:.2f}"


def milliseconds(value):
    """Seconds, written as milliseconds with three significant digits."""
    value *= 1000
    return f"{value:.0f}" if value >= 99.5 else f"{value:.3g}"


def machine(context, *packages):
    """The line under every figure: processor, cores, memory, versions, date."""
    with psycopg.connect(context.dsn, dbname=DATABASE) as connection:
        server = connection.info.parameter_status("server_version").split()[0]
        extension = scalar(connection, "SELECT extversion FROM pg_extension WHERE extname = 'pg_reco'")
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = [f"pg_reco {extension}", f"PostgreSQL {server}", f"Python {platform.python_version()}"]
    versions += [f"{package} {importlib.metadata.version(package)}" for package in packages]
    return (
        f"{processor()}, {len(os.sched_getaffinity(0))} cores, {gigabytes:.0f} GiB; {', '.join(versions)}; "
        f"{datetime.date.today().isoformat()}; load average when it ended {os.getloadavg()[0]:.1f}."
    )


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
