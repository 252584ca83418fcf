"""Calls as clients are added, beside a Python server that batches; first calls and memory of connections; many texts at once."""

import contextlib
import statistics
import sys
from dataclasses import dataclass, field
from typing import Callable

import numpy

import embed
import first_call
import memory
from common import THREADS, Side, Unavailable, machine, milliseconds, model_workers, quantile, ratio, scalar, table
from data import CATALOGUE_MODEL, CATALOGUE_SOURCE, catalogue
from serving_load import CONNECTIONS_A_SECOND, MODEL, NUMBERS, TEXT, Load, pgbench, seconds_of, server, texts_a_second, wrk

TITLE = "Calls a second as clients are added"
CLIENTS = [1, 4, 16, 64, 256]
# The number of clients that the targets speak of.
MANY = 64
# Connections that clients leave to this run and to others.
RESERVE = 20
# New connections, one after the other.
CONNECTIONS = 20

EMBED, TRAINED, LIVE = "`embed`, one short text", "`recommend`, trained history", "`recommend`, live history"
QUERY = "the live history's own query"
SERVERS = {
    f"Python server, one session of {THREADS} threads": (1, THREADS),
    f"Python server, {THREADS} sessions of one thread": (THREADS, 1),
}


def measure(context):
    with context.connect() as connection:
        catalogue(context, connection)
        connection.execute("VACUUM ANALYZE purchase")
        parts = [calls(context, connection), connections(context, connection), many_texts(context, connection)]
    return "\n\n".join([*parts, machine(context, "psycopg", "onnxruntime", "tokenizers", "numpy")])


# ----------------------------------------------------------------------------------------------- calls a second


@dataclass
class Turns:
    """A side of the comparison: what makes its calls, and what came of them by number of clients."""

    run: Callable
    loads: dict = field(default_factory=dict)
    # Inputs of a run of the model, by number of clients.
    batches: dict = field(default_factory=dict)

    def load(self, clients):
        found = self.loads[clients]
        return Load(*(statistics.median(getattr(load, name) for load in found) for name in ("rate", "median", "p99")))

    def rate(self, clients):
        return self.load(clients).rate

    def cells(self, counts):
        return [f"{load.rate:,.0f} ({load.median:,.1f}, {load.p99:,.1f})" for load in map(self.load, counts)]


def calls(context, connection):
    counts, cap = clients_of(connection)
    # Models are loaded and run once.
    texts_a_second(context, connection)
    sides = {name: Turns(lambda clients, script=script: pgbench(context, script, clients)) for name, script in scripts(connection).items()}
    rates = []
    with contextlib.ExitStack() as stack:
        try:
            peers, versions = start_servers(context, connection, stack)
        except Unavailable as reason:
            peers, versions = {}, f"There is no Python server beside it: {reason}."
        sides = {EMBED: sides.pop(EMBED), **peers, **sides}
        for number in range(context.rounds):
            rates.append(texts_a_second(context, connection))
            for clients in counts if number % 2 == 0 else reversed(counts):
                for name in sides if number % 2 == 0 else reversed(sides):
                    print(f"round {number + 1}, clients: {clients}, {name}", file=sys.stderr)
                    turn(connection, sides[name], clients)
    rate = statistics.median(rates)
    paragraphs = [
        f"pgbench over the Unix socket, prepared statements, {seconds_of(context)} s for each number of clients and a second for each {CONNECTIONS_A_SECOND} of them, in "
        f"which it connects, the sides in turn, rounds: {context.rounds}; medians of calls a second and, in brackets, of the median and the 99th percentile of "
        f"their milliseconds. Each client has its own connection, which loads {MODEL} before its first call. pgbench and wrk take their part of the same processors.",
        cap,
        versions,
        table(["", *(f"{n} client{'s' if n > 1 else ''}" for n in counts)], [[name, *side.cells(counts)] for name, side in sides.items()]),
        f"`embed_query` makes {rate:,.0f} vectors a second of such texts in one connection. {wait(sides[EMBED], counts, rate)} The table has ratios of rates, and "
        "the texts of a run:",
        table(["", "target", *map(str, counts)], ratios(sides, list(peers), counts, rate)),
    ]
    return "\n\n".join(filter(None, paragraphs))


def clients_of(connection):
    """The numbers of clients, no more than the server has connections for, and a sentence where it has too few."""
    allowed = int(scalar(connection, "SHOW max_connections"))
    limit = (allowed - RESERVE) // THREADS * THREADS
    counts = sorted({min(clients, limit) for clients in CLIENTS})
    if limit >= CLIENTS[-1]:
        return counts, ""
    return counts, f"The server allows {allowed} connections, so that {limit} clients stand in for {CLIENTS[-1]}."


def scripts(connection):
    households = scalar(connection, "SELECT max(household_id) FROM purchase")
    household = f"\\set household random(1, {households})\n"
    recommend = f"SELECT * FROM reco.recommend('{CATALOGUE_MODEL}', :household::bigint, k => 10, history => '{{}}');\n"
    return {
        EMBED: f"\\set n random(1, {NUMBERS})\nSELECT reco.embed(format('{TEXT.format('%s')}', :n::bigint), '{MODEL}');\n",
        TRAINED: household + recommend.format("trained"),
        LIVE: household + recommend.format("live"),
        QUERY: household + f"SELECT * FROM ({CATALOGUE_SOURCE}) s WHERE user_id = :household;\n",
    }


def start_servers(context, connection, stack):
    """{name: Turns} of the Python servers, and a sentence that says what they are."""
    servers = {name: stack.enter_context(server(*shape)) for name, shape in SERVERS.items()}
    least = min(agreement(connection, peer) for peer in servers.values())
    versions = next(iter(servers.values())).versions
    sentence = (
        f"The Python server is a process of its own: {', '.join(versions)}. It takes what waits, {embed.BATCH} texts at most, into one run; wrk sends "
        f"a text in each request over the loopback interface, from as many connections. Least cosine between its vectors and those of `embed`: {least:.7f}."
    )
    return {name: Turns(lambda clients, peer=peer: wrk(context, peer, clients)) for name, peer in servers.items()}, sentence


def agreement(connection, peer):
    """The least cosine between a server's vectors and those of `embed`."""
    cosines = []
    for number in (1, 20, 300):
        text = TEXT.format(number)
        ours, theirs = numpy.array(scalar(connection, "SELECT reco.embed(%s, %s)", text, MODEL)), numpy.array(peer.vector(text))
        cosines.append(float(ours @ theirs / numpy.linalg.norm(ours) / numpy.linalg.norm(theirs)))
    if min(cosines) < embed.CLOSEST:
        raise Unavailable(f"its vectors differ from those of embed: the least cosine is {min(cosines)}")
    return min(cosines)


def turn(connection, side, clients):
    runs, rows = worker_counts(connection)
    side.loads.setdefault(clients, []).append(side.run(clients))
    more_runs, more_rows = worker_counts(connection)
    if more_runs > runs:
        side.batches.setdefault(clients, []).append((more_rows - rows) / (more_runs - runs))


def worker_counts(connection):
    """Runs of the model workers and inputs of those, so far. Workers publish them every tenth of a second."""
    connection.execute("SELECT pg_sleep(0.3)")
    return connection.execute("SELECT coalesce(sum(runs), 0), coalesce(sum(rows), 0) FROM reco.stat_workers").fetchone()


def wait(side, counts, rate):
    """A sentence on the 99th percentile with many clients, beside the time that as many texts take in `embed_query`."""
    clients = MANY if MANY in counts else counts[-1]
    target, own = (2500 * clients / calls for calls in (rate, side.rate(clients)))
    return (
        f"The 99th percentile of `embed` with {clients} clients is {side.load(clients).p99:,.1f} ms (target: 2.5 × {clients} divided by that rate, {target:,.1f} ms; "
        f"divided by the rate of `embed`, it would be {own:,.1f} ms)."
    )


def ratios(sides, peers, counts, rate):
    """Lines of the ratios that matter, each with its target."""

    def line(name, target, values):
        return [name, target, *("" if value is None else f"{value:.2f}" for value in values)]

    def over_fewer(side):
        best = [max((side.rate(fewer) for fewer in counts[:place]), default=None) for place in range(len(counts))]
        return [None if least is None else side.rate(clients) / least for clients, least in zip(counts, best)]

    own = sides[EMBED]
    found = [line("`embed` / `embed_query`", f"0.8 with {MANY}", [own.rate(n) / rate for n in counts])]
    if peers:
        found.append(line("`embed` / the better Python server", "1", [own.rate(n) / max(sides[p].rate(n) for p in peers) for n in counts]))
    found.append(line(f"{LIVE} / {QUERY}", "0.9", [sides[LIVE].rate(n) / sides[QUERY].rate(n) for n in counts]))
    for name, target in ((EMBED, "1"), (TRAINED, "0.95"), (LIVE, "0.95"), (QUERY, "")):
        found.append(line(f"{name} / its best with fewer clients", target, over_fewer(sides[name])))
    if own.batches:
        found.append(line("texts of a run of the model worker", "", [statistics.median(own.batches[n]) for n in counts]))
    return found


# --------------------------------------------------------------------------------------- first calls and memory


def connections(context, connection):
    connection.execute(memory.EMBED)
    seconds, _ = first_call.observe(context, memory.EMBED, range(CONNECTIONS))
    connect, first, second = zip(*seconds)
    both = [a + b for a, b in zip(connect, first)]
    idle, ordinary, embedded = memory.held(context, CONNECTIONS)
    sentences = [
        f"The first `embed` of a new connection, the model loaded in the server: median {milliseconds(quantile(first, 0.5))} ms of {CONNECTIONS} connections, greatest "
        f"{milliseconds(max(first))} ms (target: 10 ms); connecting included {milliseconds(quantile(both, 0.5))} ms, greatest {milliseconds(max(both))} ms; the second "
        f"call {milliseconds(quantile(second, 0.5))} ms.",
        f"Private memory of a connection after it, from `/proc/PID/smaps_rollup`, clean and dirty: {grown(embedded, ordinary)} more than after an ordinary query "
        f"(`{memory.ORDINARY}`), {grown(embedded, idle)} more than after `SELECT 1` (target: 1 MiB); {CONNECTIONS} are open.",
        worker(connection),
    ]
    return "\n\n".join(sentences)


def grown(after, before):
    """Private memory, dirty and clean: the median growth."""
    return f"{statistics.median(private(a) - private(b) for a, b in zip(after, before)):.2f} MiB"


def private(found):
    dirty, clean, *_ = found
    return dirty + clean


def worker(connection):
    found = []
    for pid in model_workers(connection):
        provider, models, size = connection.execute("SELECT provider, models, bytes FROM reco.stat_workers WHERE pid = %s", [pid]).fetchone()
        measured = first_call.memory_of(pid)
        found.append(
            f"The model worker ({provider}) holds {private(measured):.0f} MiB of private memory, {measured[2]:.0f} MiB of PSS; graphs "
            f"loaded: {models}, of {size / 2**20:.0f} MiB together."
        )
    return " ".join(found) or "There is no model worker: each connection runs its models itself."


# ------------------------------------------------------------------------------------------- many texts at once


def many_texts(context, connection):
    rows = embed.distinct_texts()[: context.size(20_000, 600)]
    texts = [text for _, text in rows]
    python = embed.PythonModel()
    with embed.PythonProcesses(THREADS) as processes:
        for model in (python, processes):
            model.sorted_by_length(texts[:100])
        peers = {
            f"Python, sorted by length, {THREADS} threads": Side(lambda: python.sorted_by_length(texts)),
            f"Python, {THREADS} processes of one thread, each sorts its part": Side(lambda: processes.sorted_by_length(texts), others=processes.pids),
        }
        timings, least = embed.take_turns(context, connection, rows, peers)
    best = min(timings[name].wall_median for name in peers)
    return (
        f"{len(texts):,} distinct product texts in one call of `embed_query`, written into a table; Python has them in a list and leaves the vectors in an array. "
        f"Median of {context.rounds} rounds, in turn; least cosine between the sides {least:.7f}. pg_reco is {ratio(best, timings[embed.OWN].wall_median)} as fast as the "
        f"faster Python (target: 1.1).\n\n{embed.timing_table(timings, len(texts))}"
    )
