"""Many clients at once: embedding, recommending, training, importing, promoting, dropping the same few models."""

import collections
import re
import threading
import time

import psycopg
import pytest
import surviving
import tiny
from cluster import Cluster

CLIENTS = 64
SECONDS = 120 if surviving.LONG else 15
MINILM = "all-minilm-l6-v2"
# Weight and script. A name out of few, so that they meet.
SCRIPTS = {
    "embed": (20, "SELECT reco.embed('red wine and tea ' || :n, 'tiny');"),
    "embed_large": (2, f"SELECT array_length(reco.embed('red wine ' || :n, '{MINILM}'), 1);"),
    "embed_many": (2, "SELECT count(*) FROM reco.embed((SELECT array_agg('wine ' || i) FROM generate_series(1, 100) i), 'moving');"),
    "recommend": (20, "SELECT count(*) FROM reco.recommend('shop_ials', :n, 10);"),
    "recommend_moving": (10, "SELECT count(*) FROM reco.recommend('moving_shop_' || :m, :n, 10);"),
    "similar": (5, "SELECT count(*) FROM reco.similar_items('shop_item_knn', :n % 50, 10);"),
    "predict": (10, "SELECT reco.predict('moving_linear', jsonb_build_object('x', jsonb_build_array(jsonb_build_array(:n, 1))));"),
    "buy": (5, "INSERT INTO purchase VALUES (:n, :n % 50, 1);"),
    "train": (2, "SELECT reco.train('moving_shop_' || :m, 'TABLE purchase', (ARRAY['ials', 'item_knn', 'popularity'])[1 + :n % 3]);"),
    "import": (2, "SELECT reco.import_model('moving_linear', onnx) FROM graph WHERE n = :m;"),
    "import_text": (1, "SELECT reco.import_model('moving', onnx, 'text_embedding', tokenizer, '{}') FROM graph_of_text WHERE n = :m;"),
    "promote": (2, "SELECT reco.promote_model('moving_shop_' || :m, :v);"),
    "drop_version": (2, "SELECT reco.drop_model('moving_shop_' || :m, :v);"),
    "drop": (1, "SELECT reco.drop_model('moving_shop_' || :m);"),
    "drop_linear": (1, "SELECT reco.drop_model('moving_linear');"),
    "grant": (1, "SELECT reco.grant_model('shop_ials', 'public');"),
    "look": (3, "SELECT count(*) FROM reco.models;"),
    "unload": (2, "SELECT reco.unload('tiny');"),
}
# Somebody else dropped it, has it in use, or changed it at the same time.
EXPECTED = [
    r'model "moving\w*" does not exist',
    r'model "moving\w*" has no version \d+',
    r'cannot drop version \d+ of model "moving\w*" because it is in use',
    r"tuple concurrently (updated|deleted)",
]


@pytest.fixture(scope="module")
def cluster():
    with Cluster("max_connections = 120\nreco.threads = 1\n") as made:
        made.start()
        with made.connect() as connection:
            tiny.prepare(connection)
            tiny.import_kept(connection, MINILM)
            connection.execute("CREATE TABLE graph (n int, onnx bytea); CREATE TABLE graph_of_text (n int, onnx bytea, tokenizer bytea)")
            for n in range(1, 5):
                connection.execute("INSERT INTO graph VALUES (%s, %b)", [n, tiny.linear_model(n)])
                connection.execute("INSERT INTO graph_of_text VALUES (%s, %b, %b)", [n, tiny.text_model(n), tiny.tokenizer()])
                tiny.train(connection, f"moving_shop_{n}", "popularity")
        yield made


def test_many_clients_meet_no_error_but_those_of_their_own_making(cluster, tmp_path):
    scripts = []
    for name, (weight, statement) in SCRIPTS.items():
        script = tmp_path / name
        script.write_text(f"\\set n random(1, 60)\n\\set m random(1, 4)\n\\set v random(1, 6)\n{statement}\n")
        scripts.append(f"--file={script}@{weight}")
    said, processes = collections.Counter(), []

    def bench(number):
        # A client ends at its first error: then another takes its place.
        until = time.monotonic() + SECONDS
        while (left := int(until - time.monotonic())) > 0:
            done = cluster.program(
                "pgbench", "--no-vacuum", "--client=1", f"--time={max(1, left)}", f"--random-seed={number}{len(processes)}",
                "--max-tries=1" if cluster_version >= 15 else "--protocol=simple", *scripts, check=False,
            )  # fmt: skip
            processes.append(done.returncode)
            for line in done.stderr.decode().splitlines():
                if "ERROR" in line or "FATAL" in line or "server closed" in line or "PANIC" in line:
                    said[re.sub(r"\d+", "N", line.partition("ERROR:")[2].strip() or line)] += 1
                    if not any(re.search(pattern, line) for pattern in EXPECTED):
                        said["UNEXPECTED " + line] += 1

    with surviving.nobody_hurt(cluster) as bystander:
        cluster_version = bystander.info.server_version // 10000
        threads = [threading.Thread(target=bench, args=[number]) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(dict(said.most_common()))
        assert [line for line in said if line.startswith("UNEXPECTED")] == []
        surviving.assert_whole(bystander)
        ran = bystander.execute("SELECT sum(xact_commit) FROM pg_stat_database WHERE datname = 'postgres'").fetchone()[0]
        print("committed", ran)


def test_afterwards_the_cache_holds_what_the_catalog_does(cluster):
    """No half made folder; and no more whole ones than versions that were dropped while others loaded them."""
    assert surviving.half_made(cluster) == []
    with cluster.connect() as connection:
        assert connection.execute(tiny.ANSWERS["embed"]).fetchone()
        sums = {value for (value,) in connection.execute("SELECT DISTINCT sha256 FROM reco.model_file").fetchall()}
    folders = [path for path in (cluster.data / "pg_reco").iterdir() if path.name != "databases"]
    print(len(folders), "folders,", len(sums), "files in the catalog")
    assert len(folders) <= len(sums)


def test_two_trainings_of_one_name_get_two_versions(cluster):
    results = []

    def train():
        with cluster.connect() as connection:
            results.append(tiny.train(connection, "twice", "ials"))

    threads = [threading.Thread(target=train) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(1, 9))


def test_a_drop_waits_for_nobody_and_hurts_nobody_who_is_running(cluster):
    """A session that has the model loaded finishes its statement and learns of the drop at the next."""
    with cluster.connect() as running, cluster.connect() as dropping:
        tiny.import_text(dropping, "going")
        got = []
        statement = "SELECT count(*) FROM reco.embed_query('SELECT i AS id, ''red wine '' || i AS text FROM generate_series(1, 30000) i', 'going')"
        thread = threading.Thread(target=lambda: got.append(running.execute(statement).fetchone()))
        thread.start()
        time.sleep(0.3)
        start = time.monotonic()
        dropping.execute("SELECT reco.drop_model('going')")
        assert time.monotonic() - start < 5
        thread.join()
        assert got == [(30000,)]
        with pytest.raises(psycopg.errors.UndefinedObject):
            running.execute("SELECT reco.embed('red', 'going')")
