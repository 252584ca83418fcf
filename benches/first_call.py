"""What a fresh connection's first call costs, and the memory that an idle connection keeps."""

import contextlib
import statistics
import time
from pathlib import Path

import numpy

from common import Unavailable, machine, milliseconds, quantile, scalar, table
from data import CATALOGUE_MODEL, catalogue

TITLE = "First calls, and memory of idle connections"
CONNECTIONS = 10
CALLS = {
    "nothing": None,
    "`reco.embed`": "SELECT reco.embed('organic bananas')",
    "`reco.recommend`": f"SELECT count(*) FROM reco.recommend('{CATALOGUE_MODEL}', %s::bigint)",
}
FIELDS = ["Private_Dirty", "Private_Clean", "Pss", "Rss"]


def measure(context):
    with context.connect() as connection:
        household, _, _ = catalogue(context, connection)
        items = scalar(connection, "SELECT metrics->'items' FROM reco.models WHERE name = %s", CATALOGUE_MODEL)
        households = numpy.unique(household)[1 : CONNECTIONS + 1].tolist()
        # The server's cache on disk, which any connection's first call fills, is there already.
        for query in filter(None, CALLS.values()):
            connection.execute(query, [households[0]] if "%s" in query else None)
    times, memory = zip(*(observe(context, query, households) for query in CALLS.values()))
    time_lines = [
        [name, *(f"{milliseconds(quantile(column, 0.5))} ({milliseconds(max(column))})" for column in zip(*rows))]
        for name, rows in zip(CALLS, times)
        if CALLS[name]
    ]
    idle = memory[0]
    memory_lines = [
        [name, *(f"{megabytes:.1f}" for megabytes in values), f"{values[0] - idle[0]:.1f}", f"{values[2] - idle[2]:.1f}"]
        for name, values in zip(CALLS, memory)
    ]
    return "\n\n".join(
        [
            f"{CONNECTIONS} fresh connections one after the other, with all models in the server's cache on disk; median (and greatest) "
            f"milliseconds. `reco.recommend` has {items:,} items and reads the household's history through an index.",
            table(["", "connect", "first call", "second call"], time_lines),
            f"Memory in MiB of each of the {CONNECTIONS} while all of them are open and idle, median, after one call and nothing else; "
            "from `/proc/PID/smaps_rollup`. Private dirty is what a further connection takes away from the machine. In PSS a page that "
            "n processes share counts 1/n, the server's own shared buffers included.",
            table(["after", *(f.replace("_", " ").lower() for f in FIELDS), "private dirty, more than idle", "pss, more"], memory_lines),
            machine(context, "psycopg"),
        ]
    )


def observe(context, query, households):
    """Seconds of connecting, first and second call of each connection, and the median memory while all are open."""
    seconds = []
    with contextlib.ExitStack() as stack:
        connections = []
        for household in households:
            start = time.perf_counter()
            connection = stack.enter_context(context.connect())
            row = [time.perf_counter() - start]
            connections.append(connection)
            if query:
                row.append(call(connection, query, household))
            seconds.append(row)
        time.sleep(1)
        memory = [memory_of(connection.info.backend_pid) for connection in connections]
        if query:
            for connection, household, row in zip(connections, households, seconds):
                row.append(call(connection, query, household))
    return seconds, [statistics.median(column) for column in zip(*memory)]


def call(connection, query, household):
    start = time.perf_counter()
    connection.execute(query, [household] if "%s" in query else None).fetchall()
    return time.perf_counter() - start


def memory_of(pid):
    """MiB in each of FIELDS."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except PermissionError:
        raise Unavailable(f"/proc/{pid}/smaps_rollup cannot be read; run this as root or as the server's user") from None
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return [kilobytes[name] / 1024 for name in FIELDS]
