"""A query can be cancelled at any moment, and the connection goes on.

What is asserted is that a request acts in the middle of work that would go on for a minute, on however busy a machine. The latency
itself, 100 ms at most, is measured in benches/cancel.py.
"""

import json
import random
import threading
import time

import psycopg
import pytest

SLOW_TEXTS = "SELECT count(*) FROM reco.embed((SELECT array_agg(repeat('word ', 250) || i) FROM generate_series(1, 2000) i))"
SLOW_QUERY = "SELECT count(*) FROM reco.embed_query('SELECT i AS id, repeat(''word '', 250) || i AS text FROM generate_series(1, 5000) i')"
SLOW_TRAINING = """SELECT reco.train('slow', 'SELECT u AS user_id, (u * 7919 + i * i) % 20011 AS item_id
                                               FROM generate_series(1, 20000) u, generate_series(1, 40) i',
                                     'ials', '{"factors": 256, "iterations": 1000}')"""
LATEST = 5.0


@pytest.mark.parametrize("statement", [SLOW_TEXTS, SLOW_QUERY, SLOW_TRAINING])
@pytest.mark.parametrize("after", [0.3, 1.5])
def test_statement_timeout_acts_in_the_middle(db, statement, after):
    db.execute("SELECT reco.warm('all-minilm-l6-v2')")
    db.execute(f"SET statement_timeout = '{int(after * 1000)}ms'")
    start = time.monotonic()
    with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
        db.execute(statement)
    assert time.monotonic() - start < after + LATEST
    db.execute("RESET statement_timeout")
    assert db.execute("SELECT array_length(reco.embed('still here'), 1)").fetchone() == (384,)
    assert db.execute("SELECT count(*) FROM reco.model WHERE name = 'slow'").fetchone() == (0,)


WIDE = "SELECT u AS user_id, (u * 7919 + i * i) % {items} AS item_id FROM generate_series(1, 20000) u, generate_series(1, {each}) i"
SLOW_OPTIONS = {
    "ease": ({}, 25000, 20),
    "gf_cf": ({"factors": 1000, "iterations": 100}, 20011, 40),
    "ials": ({"factors": 256, "iterations": 1000, "solver": "cholesky"}, 20011, 40),
    "bpr": ({"iterations": 100000}, 20011, 40),
    "lightgcn": ({"epochs": 1000}, 20011, 40),
    "neumf": ({"epochs": 1000}, 20011, 40),
    "mult_vae": ({"epochs": 1000}, 20011, 40),
    "two_tower": ({"epochs": 1000}, 20011, 40),
    "hybrid": ({"components": [{"algorithm": "ials", "options": {"factors": 256, "iterations": 1000}}, "item_knn"]}, 20011, 40),
}


@pytest.mark.parametrize("algorithm", SLOW_OPTIONS)
def test_training_cancelled_half_way_leaves_nothing_behind(connect, algorithm):
    options, items, each = SLOW_OPTIONS[algorithm]
    connection = connect()
    before = threads_of(connection.info.backend_pid)
    connection.execute(f"CREATE TEMP TABLE wide AS {WIDE.format(items=items, each=each)}")
    described = ", items => 'SELECT DISTINCT item_id, mod(item_id, 7)::text AS kind FROM wide'" if algorithm == "two_tower" else ""
    # Half of the time goes into reading the rows.
    for seconds in (2.5, 4):
        connection.execute(f"SET statement_timeout = '{int(seconds * 1000)}ms'")
        start = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute(
                f"SELECT reco.train('half {algorithm}', 'TABLE wide', %s, %s::jsonb{described})", [algorithm, json.dumps(options)]
            )
        assert time.monotonic() - start < seconds + LATEST
        connection.execute("RESET statement_timeout")
    assert connection.execute("SELECT count(*) FROM reco.model WHERE name LIKE 'half%'").fetchone() == (0,)
    assert_threads(connection.info.backend_pid, before)
    assert connection.execute("SELECT reco.train('whole', 'SELECT 1 AS user_id, 2 AS item_id', 'popularity')").fetchone() == (1,)
    connection.execute("SELECT reco.drop_model('whole')")


def test_a_cancel_request_at_random_moments(connect):
    connection = connect()
    connection.execute("SELECT reco.warm('all-minilm-l6-v2')")
    moments = random.Random(1)
    for _ in range(30):
        wait = moments.uniform(0, 0.4)
        timer = threading.Timer(wait, connection.cancel)
        start = time.monotonic()
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute(moments.choice([SLOW_TEXTS, SLOW_QUERY, SLOW_TRAINING]))
        assert time.monotonic() - start < wait + LATEST
        timer.join()
    assert connection.execute("SELECT array_length(reco.embed('still here'), 1)").fetchone() == (384,)


def test_loading_a_model_can_be_cancelled(connect):
    moments = random.Random(2)
    for _ in range(5):
        connection = connect()
        connection.execute(f"SET statement_timeout = '{moments.randint(5, 120)}ms'")
        try:
            connection.execute("SELECT reco.embed('first')")
        except psycopg.errors.QueryCanceled:
            pass
        connection.execute("RESET statement_timeout")
        assert connection.execute("SELECT array_length(reco.embed('second'), 1)").fetchone() == (384,)


def test_a_terminated_backend_takes_nobody_with_it(connect, db):
    victim = connect()
    pid = victim.info.backend_pid
    failed = []

    def work():
        try:
            victim.execute(SLOW_TEXTS)
        except psycopg.OperationalError as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(1)
    started = db.execute("SELECT pg_postmaster_start_time()").fetchone()
    start = time.monotonic()
    db.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    thread.join(10)
    assert failed and time.monotonic() - start < LATEST + 1
    assert db.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone() == (0,)
    assert db.execute("SELECT pg_postmaster_start_time()").fetchone() == started


def threads_of(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("Threads:"))


def assert_threads(pid, expected):
    """A thread that has done its work may still be on its way out of the system's tables."""
    until = time.monotonic() + LATEST
    while threads_of(pid) != expected and time.monotonic() < until:
        time.sleep(0.01)
    assert threads_of(pid) == expected


def test_training_leaves_no_thread_behind(connect):
    connection = connect()
    before = threads_of(connection.info.backend_pid)
    connection.execute("SET statement_timeout = '700ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute(SLOW_TRAINING)
    assert_threads(connection.info.backend_pid, before)
