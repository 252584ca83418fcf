"""Processes die in the middle: after recovery everything is whole or absent, and the next answer is right."""

import os
import random
import shutil
import signal
import threading
import time

import psycopg
import pytest
import surviving
import tiny
from cluster import Cluster

EMBEDDING = "SELECT count(*) FROM reco.embed((SELECT array_agg(repeat('word ', 250) || i) FROM generate_series(1, 3000) i))"
TRAINING = """SELECT reco.train('shop_ials', 'SELECT u AS user_id, (u * 7919 + i * i) % 5003 AS item_id
                                              FROM generate_series(1, 20000) u, generate_series(1, 20) i',
                               'ials', '{"factors": 64, "iterations": 200}')"""
IMPORTING = "SELECT reco.import_model('all-minilm-l6-v2', reco.export_model('all-minilm-l6-v2'), 'text_embedding', %b, %s::jsonb)"
LOADING = "SELECT reco.warm('all-minilm-l6-v2')"
VERSIONS = "SELECT name, version, in_use, sha256 FROM reco.models ORDER BY 1, 2"


@pytest.fixture(scope="module")
def cluster():
    # Crash safety is the subject.
    with Cluster(durable=True) as made:
        made.start()
        with made.connect() as connection:
            tiny.prepare(connection)
            tiny.import_kept(connection, "all-minilm-l6-v2")
        yield made


@pytest.fixture(scope="module")
def expected(cluster):
    with cluster.connect() as connection:
        return tiny.answers(connection)


class Victim:
    """A connection that runs a statement in a thread of its own until it or the server is killed."""

    def __init__(self, cluster, statement, parameters=None):
        self.connection = cluster.wait_ready()
        self.pid = self.connection.info.backend_pid
        self.error = None
        self.thread = threading.Thread(target=self.run, args=[statement, parameters])
        self.thread.start()

    def run(self, statement, parameters):
        try:
            self.connection.execute(statement, parameters)
        except psycopg.Error as error:
            self.error = error

    def join(self):
        self.thread.join(60)
        assert not self.thread.is_alive()
        self.connection.close()


def kill(cluster, pid):
    """And waits till the server has noticed: until then it still lets clients in, whom it throws out again."""
    deaths = len(surviving.crashes(cluster))
    os.kill(pid, signal.SIGKILL)
    surviving.wait_until(lambda: len(surviving.crashes(cluster)) > deaths, 30, "the server's notice")


def importing():
    return IMPORTING, [(tiny.MODELS / "all-minilm-l6-v2" / "tokenizer.json").read_bytes(), tiny.config("all-minilm-l6-v2")]


WORK = {"embedding": lambda: (EMBEDDING, None), "training": lambda: (TRAINING, None), "importing": importing, "loading": lambda: (LOADING, None)}


@pytest.mark.parametrize("work", WORK)
def test_a_killed_backend_costs_a_recovery_and_nothing_else(cluster, expected, work):
    chance = random.Random(work)
    with cluster.wait_ready() as connection:
        before = connection.execute(VERSIONS).fetchall()
    for _ in range(surviving.times(3, 15)):
        if work == "loading":
            shutil.rmtree(cluster.data / "pg_reco", ignore_errors=True)
        victim = Victim(cluster, *WORK[work]())
        time.sleep(chance.uniform(0.02, 0.4 if work == "loading" else 1.5))
        kill(cluster, victim.pid)
        victim.join()
        surviving.wait_until(lambda: surviving.helpers(cluster) == [], 20, "the end of what it had started")
        surviving.assert_right(cluster, expected)
        with cluster.wait_ready() as connection:
            after = connection.execute(VERSIONS).fetchall()
            if victim.error is None:
                # It was done before the blow.
                before = after
            assert after == before
            assert len(connection.execute("SELECT reco.embed('red wine', 'all-minilm-l6-v2')").fetchone()[0]) == 384


@pytest.mark.parametrize("how", ["immediate", "power"])
@pytest.mark.parametrize("work", ["training", "importing"])
def test_a_server_that_goes_down_in_the_middle_keeps_whole_models_only(cluster, expected, work, how):
    chance = random.Random(f"{work}/{how}")
    with cluster.wait_ready() as connection:
        before = connection.execute(VERSIONS).fetchall()
    for _ in range(surviving.times(2, 10)):
        victim = Victim(cluster, *WORK[work]())
        time.sleep(chance.uniform(0.1, 3.0 if work == "importing" else 1.5))
        if how == "immediate":
            cluster.stop("immediate")
        else:
            cluster.cut_power()
        victim.join()
        cluster.start()
        surviving.assert_right(cluster, expected)
        with cluster.wait_ready() as connection:
            after = connection.execute(VERSIONS).fetchall()
        if victim.error is None:
            before = after
        # A commit may have been done without the client having heard of it: then the new version is whole and in use.
        assert set(row[:2] for row in before) <= set(row[:2] for row in after)
        assert len(after) - len(before) in (0, 1)
        before = after


def test_a_commit_that_was_answered_survives_a_power_cut(cluster):
    for number in range(surviving.times(2, 10)):
        with cluster.wait_ready() as connection:
            tiny.import_text(connection, "kept", seed=number)
            answer = connection.execute("SELECT reco.embed('red wine', 'kept')").fetchone()
            cluster.cut_power()
        cluster.start()
        with cluster.wait_ready() as connection:
            assert connection.execute("SELECT version FROM reco.models WHERE name = 'kept' AND in_use").fetchone() == (number + 1,)
            assert connection.execute("SELECT reco.embed('red wine', 'kept')").fetchone() == answer


def test_the_leftovers_of_the_killed_do_no_harm(cluster, expected):
    """Half made folders may be there; a later process of the same number must not take them for its own."""
    with cluster.wait_ready() as connection:
        pid = connection.info.backend_pid
        for folder in [f for f in (cluster.data / "pg_reco").iterdir() if "." not in f.name and f.name != "databases"]:
            left = folder.with_name(f"{folder.name}.{pid}")
            folder.rename(left)
            (left / "model.onnx").write_bytes(b"half")
        assert tiny.answers(connection) == expected
