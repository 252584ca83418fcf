"""How long a statement goes on after it was told to stop."""

import contextlib
import random
import threading
import time

import psycopg

import cancel_statements
from common import machine, milliseconds, quantile, table

TITLE = "Cancelling"
STATEMENTS = {
    "`reco.embed_query`, texts of 250 words": """
        SELECT count(*) FROM reco.embed_query('SELECT i AS id, repeat(''word '', 250) || i AS text FROM generate_series(1, 5000) i')""",
    "`reco.train`, ials, reading and storing included": "SELECT reco.train('cancelled', 'TABLE pair', 'ials')",
}
# Seconds: moments are drawn from 0 to where the statement ends, but not later than this.
LATEST = 2.0
# Of all functions together.
MOMENTS = 500


def measure(context):
    moments = context.size(100, 10)
    with context.connect() as connection:
        cancel_statements.prepare(connection)
        figures = told(context, connection, STATEMENTS, moments)
        return f"{everything(connection, context.size(MOMENTS, 100))}\n\n{figures}"


def everything(connection, moments):
    """The figure of a cancel request in every function that trains or gives rows."""
    chance = random.Random(2)
    statements = cancel_statements.statements()
    longest = {name: duration(connection, statement) for name, statement in statements.items()}
    # What ends within some milliseconds cannot be cancelled in the middle.
    names = [name for name in statements if longest[name] > 0.02]
    latencies = []
    while len(latencies) < moments:
        name = names[len(latencies) % len(names)]
        latency = by_request(connection, statements[name], chance.uniform(0.005, longest[name]))
        for _ in range(20):
            if latency is not None:
                break
            latency = by_request(connection, statements[name], chance.uniform(0.005, longest[name]))
        if latency is None:
            names.remove(name)
        else:
            latencies.append((latency, name))
    figures = [latency for latency, _ in latencies]
    worst = [[name, milliseconds(latency)] for latency, name in sorted(latencies, reverse=True)[:10]]
    return "\n\n".join(
        [
            f"{moments} cancel requests, in turn at {len(names)} statements: every function that trains or gives rows, and inputs of 1 to 100 MB. "
            f"Median {milliseconds(quantile(figures, 0.5))} ms, p99 {milliseconds(quantile(figures, 0.99))} ms, "
            f"longest {milliseconds(max(figures))} ms. The longest were:",
            table(["statement", "ms"], worst),
        ]
    )


def told(context, connection, statements, moments):
    """The figure of {name: statement}."""
    lines = []
    for name, statement in statements.items():
        longest = duration(connection, statement)
        for how, stop in (("cancel request", by_request), ("statement_timeout", by_timeout)):
            latencies, over = stopped(connection, statement, stop, moments, longest)
            figures = quantile(latencies, 0.5), quantile(latencies, 0.99), max(latencies)
            lines.append([f"{name}, {how}", f"{longest:.2f}", *map(milliseconds, figures), over])
    return "\n\n".join(
        [
            f"{moments} moments each, drawn evenly from 0 to the end of the statement or to {LATEST:.0f} s. From the client's request to the error "
            "at the client, the connection that the request takes included; or from when `statement_timeout` was due to the error. "
            "A moment that came after the statement's end is drawn anew.",
            table(["", "drawn up to, s", "median ms", "p99 ms", "max ms", "drawn anew"], lines),
            machine(context, "psycopg"),
        ]
    )


def duration(connection, statement):
    """Seconds that the statement runs, or LATEST."""
    start = time.perf_counter()
    by_timeout(connection, statement, LATEST)
    return min(time.perf_counter() - start, LATEST)


def stopped(connection, statement, stop, moments, longest):
    """Seconds that each of `moments` stops took, and how many more came too late."""
    chance = random.Random(1)
    latencies, late = [], 0
    while len(latencies) < moments:
        latency = stop(connection, statement, chance.uniform(0.01, longest))
        if latency is None:
            late += 1
        else:
            latencies.append(latency)
    return latencies, late


def by_timeout(connection, statement, moment):
    """Seconds from the moment to the error; None if the statement ended before."""
    milliseconds = round(moment * 1000)
    connection.execute(f"SET statement_timeout = {milliseconds}")
    start = time.perf_counter()
    outcome = run(connection, statement)
    connection.execute("RESET statement_timeout")
    return outcome and outcome - start - milliseconds / 1000


def by_request(connection, statement, moment):
    """Seconds from a cancel request at the moment to the error; None if the statement ended before."""
    requested = []

    def request():
        requested.append(time.perf_counter())
        connection.cancel()

    timer = threading.Timer(moment, request)
    timer.start()
    outcome = run(connection, statement)
    timer.cancel()
    timer.join()
    if not outcome:
        # A request that came late may still hit the next statement.
        run(connection, "SELECT pg_sleep(0.05)")
    return outcome and outcome - requested[0]


def run(connection, statement):
    """When the statement was cancelled; None if it ended by itself. What it made is undone."""
    ended = None
    connection.execute("BEGIN")
    try:
        connection.execute(statement)
    except psycopg.errors.QueryCanceled:
        ended = time.perf_counter()
    while connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        # A short timeout is one of this statement, too.
        with contextlib.suppress(psycopg.errors.QueryCanceled):
            connection.execute("ROLLBACK")
    return ended
