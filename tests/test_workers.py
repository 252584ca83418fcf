"""Model workers: connections ask them, get what they would have computed themselves, and stay small."""

import threading
import time
from pathlib import Path

import numpy
import psycopg
import pytest
import tiny
from onnx import TensorProto, helper

MODEL = "all-minilm-l6-v2"
# Another limit than the worker's: such a session runs its models itself.
BY_ITSELF = "SET reco.run_memory_limit = '999MB'"
TEXTS = ["red shoes", "", "红色的鞋子", "a pan for eggs " * 40, "x"]


@pytest.fixture
def own(connect):
    connection = connect()
    connection.execute(BY_ITSELF)
    return connection


def maps(connection):
    return Path(f"/proc/{connection.info.backend_pid}/maps").read_text()


def worker(connection):
    names = "pid, restarts, lanes, models, requests, failed, withdrawn, runs, rows, max_batch"
    row = connection.execute(f"SELECT {names} FROM reco.stat_workers WHERE worker = 0").fetchone()
    return dict(zip(names.split(", "), row))


def counted(connection, name, more_than):
    """The worker publishes its counts a little later."""
    for _ in range(100):
        now = worker(connection)[name]
        if now > more_than:
            return now
        time.sleep(0.05)
    raise AssertionError(f"{name} stays at {now}")


def test_a_connection_that_asks_the_worker_loads_no_runtime_and_one_that_must_not_loads_its_own(db, connect, own):
    before = worker(db)
    assert before["pid"] and before["lanes"] >= 1
    asking = connect()
    asked, computed = (c.execute("SELECT reco.embed('red shoes', %s)", [MODEL]).fetchone()[0] for c in (asking, own))
    assert numpy.allclose(asked, computed, atol=1e-6)
    assert "libonnxruntime" not in maps(asking) and "libonnxruntime" in maps(own)
    assert counted(db, "requests", before["requests"]) > before["requests"]
    assert worker(db)["models"] >= 1


@pytest.mark.parametrize("model", [MODEL, "use-multilingual-v3"])
def test_texts_get_the_vectors_that_the_connection_would_compute(connect, own, model):
    query = "SELECT ordinal, embedding FROM reco.embed(%s::text[], %s) ORDER BY ordinal"
    asked, computed = (connection.execute(query, [TEXTS, model]).fetchall() for connection in (connect(), own))
    assert [ordinal for ordinal, _ in asked] == [ordinal for ordinal, _ in computed] == list(range(1, len(TEXTS) + 1))
    for (_, left), (_, right) in zip(asked, computed):
        assert numpy.allclose(left, right, atol=1e-5)


def test_a_window_of_many_texts_comes_back_in_order(connect, own):
    source = "SELECT i AS id, i || repeat(' word', i % 5) AS text FROM generate_series(1, 4400) i"
    query = "SELECT id, embedding FROM reco.embed_query(%s, %s) WHERE id::int %% 100 = 0"
    asked, computed = (dict(connection.execute(query, [source, "use-multilingual-v3"])) for connection in (connect(), own))
    assert asked.keys() == computed.keys() and len(asked) == 44
    assert all(numpy.allclose(asked[i], computed[i], atol=1e-5) for i in asked)


def test_images_predictions_and_samples_are_those_the_connection_would_compute(db, connect, own):
    picture = tiny.picture(300, 200)
    db.execute("SELECT reco.import_model('worker linear', %b)", [tiny.linear_model()])
    db.execute("CREATE TABLE workers_seen AS SELECT i % 7 AS a, (i % 5)::float8 AS b FROM generate_series(1, 300) i")
    db.execute("CREATE TABLE workers_pictures AS SELECT i AS id, %b::bytea AS image FROM generate_series(1, 20) i", [picture])
    db.execute("SELECT reco.train_synthesizer('worker rows', 'TABLE workers_seen', 'tvae', options => '{\"epochs\": 2}')")
    try:
        for query, parameters in [
            ("SELECT embedding FROM reco.embed_images('TABLE workers_pictures')", None),
            ("SELECT reco.embed_image(%b)", [picture]),
            ("SELECT reco.predict('worker linear', jsonb_build_object('x', (SELECT jsonb_agg(jsonb_build_array(i, i)) FROM generate_series(1, 9000) i)))", None),
            ("SELECT row::text FROM reco.synthesize('worker rows', 500, seed => 3) AS row", None),
        ]:
            asked, computed = (connection.execute(query, parameters).fetchall() for connection in (connect(), own))
            assert len(asked) == len(computed) > 0
            if isinstance(asked[0][0], list):
                assert numpy.allclose(asked, computed, atol=1e-4)
            else:
                assert asked == computed
    finally:
        db.execute("SELECT reco.drop_model('worker linear'), reco.drop_model('worker rows')")
        db.execute("DROP TABLE workers_seen, workers_pictures")


def test_an_error_of_a_run_names_the_model_and_the_next_call_works(db, connect):
    graph = tiny.model_bytes(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        [tiny.port("x", TensorProto.INT64, ["n"])],
        [tiny.port("y", TensorProto.FLOAT, ["n"])],
        [tiny.constant("table", numpy.arange(4, dtype=numpy.float32))],
    )
    db.execute("SELECT reco.import_model('worker gather', %b)", [graph])
    try:
        connection = connect()
        with pytest.raises(psycopg.errors.ExternalRoutineException, match='model "worker gather"'):
            connection.execute("SELECT reco.predict('worker gather', '{\"x\": [9]}')")
        assert connection.execute("SELECT reco.predict('worker gather', '{\"x\": [3]}')").fetchone()[0] == {"y": [3.0]}
    finally:
        db.execute("SELECT reco.drop_model('worker gather')")


def test_callers_share_runs_and_each_gets_its_own_vector(db, connect):
    before = worker(db)
    texts = [f"product {i} of {i % 3} colours" for i in range(12)]
    expected = dict(zip(texts, (row[0] for row in db.execute("SELECT embedding FROM reco.embed(%s::text[], %s) ORDER BY ordinal", [texts, MODEL]))))
    wrong = []

    def call(text):
        connection = connect()
        for _ in range(15):
            (found,) = connection.execute("SELECT reco.embed(%s, %s)", [text, MODEL]).fetchone()
            if not numpy.allclose(found, expected[text], atol=1e-5):
                wrong.append(text)

    threads = [threading.Thread(target=call, args=[text]) for text in texts]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong
    requests = counted(db, "requests", before["requests"] + 179) - before["requests"]
    assert worker(db)["runs"] - before["runs"] < requests, "calls that wait at the same time run together"


def test_the_wait_is_shown_in_pg_stat_activity(db, connect):
    connection = connect()
    source = "SELECT i AS id, repeat('many words ' || i, 40) AS text FROM generate_series(1, 40) i"
    thread = threading.Thread(target=lambda: connection.execute("SELECT count(*) FROM reco.embed_query(%s, %s)", [source, MODEL]))
    thread.start()
    seen = set()
    while thread.is_alive():
        seen |= set(db.execute("SELECT wait_event_type, wait_event FROM pg_stat_activity WHERE pid = %s", [connection.info.backend_pid]))
        time.sleep(0.02)
    thread.join()
    version = db.info.server_version
    assert ("Extension", "RecoModelWorker" if version >= 170000 else "Extension") in seen
