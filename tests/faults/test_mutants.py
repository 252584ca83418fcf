"""Damaged models are refused or fail: no mutant of a graph ends the process that imports and runs it.

    PG_RECO_FAULT_TIMES=20000 PG_RECO_FAULT_SEED=7   more of them, and others
    PG_RECO_FAULT_KILLERS=folder                     keeps the bytes of each that ended a process

A killer is named in the failure by seed and number: `mutants.mutant(seed, number, goods)` makes it again.
"""

import collections
import json
import os
from pathlib import Path

import graphs
import mutants
import psycopg
import pytest
import surviving
import tiny
from cluster import Cluster

SEED = os.environ.get("PG_RECO_FAULT_SEED", "1")
KILLERS = os.environ.get("PG_RECO_FAULT_KILLERS")
# Address space of the process: a mutant may well ask for all there is.
MEMORY = 6144
LARGEST_INPUT = 4096
VALUES = {
    "float": [0.5, -1.25, 3.0], "double": [0.5, -1.25, 3.0], "int32": [0, 1, 2], "int64": [0, 1, 2], "bool": [True, False, True],
    "string": ["red", "wine", ""],
}  # fmt: skip


def inputs(described, length, shift):
    """Inputs of the described types and shapes, `length` for what is open; None where there is no such thing."""
    made = {}
    for name, element_type, shape in described:
        values = VALUES.get(element_type)
        if values is None or "\0" in name:
            return None
        dims = [int(d) if d.lstrip("-").isdigit() else length for d in shape.strip("[]").split(",")] if shape != "[]" else []
        size = 1
        for dim in dims:
            size *= dim
        if size > LARGEST_INPUT or min(dims, default=0) < 0:
            return None
        made[name] = nested(values, dims, shift)
    return json.dumps(made)


def nested(values, dims, at):
    return [nested(values, dims[1:], at + i) for i in range(dims[0])] if dims else values[at % len(values)]


def attempt(connection, bytes_, task):
    """Imports a mutant and, if it imports, runs it on several inputs; says how far it came. Leaves nothing behind."""
    tokenizer, config = (tiny.tokenizer(), '{"max_length": 32}') if task == "text_embedding" else (None, "{}")
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("SELECT reco.import_model('mutant', %b, %s, %b, %s::jsonb)", [bytes_, task, tokenizer, config])
            if task == "text_embedding":
                connection.execute("SELECT count(*) FROM reco.embed(ARRAY['red', 'wine and coffee', NULL, ''], 'mutant')")
            described = connection.execute(
                "SELECT name, type, value FROM reco.describe_model('mutant') WHERE kind = 'input'"
            ).fetchall()
            ran = False
            for length, shift in [(2, 0), (1, 1), (3, 2), (0, 0)]:
                given = inputs(described, length, shift)
                if given is None:
                    break
                try:
                    with connection.transaction():
                        connection.execute("SELECT reco.predict('mutant', %s::jsonb)", [given])
                        ran = True
                except psycopg.Error as error:
                    if connection.broken or error.sqlstate == "XX000":
                        raise
                    last = error.sqlstate
            return "ran" if ran else f"failed in run ({last})" if given else "imported, not run"
    except psycopg.Error as error:
        if connection.broken or error.sqlstate == "XX000":
            raise
        return f"refused ({error.sqlstate})"


def open_connection(cluster):
    connection = cluster.wait_ready()
    # One thread: a mutant costs its own time only. The time-out ends loops that never would.
    connection.execute("SET reco.threads = 1; SET reco.execution_provider = 'cpu'; SET statement_timeout = '20s'")
    connection.execute("SELECT reco.warm('tiny')")
    surviving.limit_memory(connection.info.backend_pid, MEMORY)
    return connection


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as made:
        made.start()
        with made.connect() as connection:
            tiny.prepare(connection)
        yield made


@pytest.fixture(scope="module")
def goods(cluster):
    """The graphs that mutants are made of: those written for it, and trained recommenders."""
    with cluster.connect() as connection:
        trained = {
            name: connection.execute("SELECT reco.export_model(%s)", [f"shop_{name}"]).fetchone()[0]
            for name in ("ials", "item_knn", "popularity")
        }
    return {**graphs.all_graphs(), **trained}


def test_the_unharmed_graphs_run(cluster, goods):
    with open_connection(cluster) as connection:
        came = {name: attempt(connection, good, "text_embedding" if name == "text" else "predict") for name, good in goods.items()}
    # Pictures are too large for JSON's sake.
    assert {name: how for name, how in came.items() if how != "ran"} == {"of_a_kept_model": "imported, not run"}


def test_no_mutant_ends_a_process(cluster, goods):
    outcomes, killers, number = collections.Counter(), [], 0
    connection = open_connection(cluster)
    pid = connection.info.backend_pid
    deaths = 0
    for number in range(int(os.environ.get("PG_RECO_FAULT_FIRST", 0)), surviving.times(200, 2500)):
        name, bytes_ = mutants.mutant(SEED, number, goods)
        task = "text_embedding" if name == "text" and number % 4 else "predict"
        try:
            outcomes[attempt(connection, bytes_, task)] += 1
        except psycopg.Error as error:
            # What calls itself an internal error is no answer either, but nobody died of it.
            kind, said = ("killer", surviving.last_words(cluster, deaths)) if connection.broken else ("internal", error)
            killers.append(f"{kind}: seed {SEED}, number {number}, of {name}, as {task}: {said}")
            print(killers[-1], flush=True)
            if KILLERS:
                Path(KILLERS, f"{kind}-{SEED}-{number}-{name}-{task}.onnx").write_bytes(bytes_)
            deaths = len(surviving.crashes(cluster))
            connection.close()
            connection = open_connection(cluster)
            pid = connection.info.backend_pid
        assert connection.info.backend_pid == pid
    print(f"seed {SEED}, {number + 1} mutants: {dict(outcomes.most_common())}")
    assert not killers, "\n".join(killers)
    assert connection.execute("SELECT count(*) FROM reco.model WHERE name = 'mutant'").fetchone() == (0,)
    connection.close()


def test_what_was_refused_left_nothing_in_the_cache(cluster, goods):
    """Neither half made nor whole: a model that was never there needs no files."""
    with cluster.connect() as connection:
        root = cluster.data / "pg_reco"
        before = set(root.iterdir())
        for number in range(100000, 100020):
            attempt(connection, mutants.mutant(SEED, number, goods)[1], "predict")
    assert set(root.iterdir()) - before == set()


def test_the_server_is_whole_after_all_mutants(cluster):
    with cluster.connect() as connection:
        surviving.assert_whole(connection)
        assert all(tiny.answers(connection).values())
