"""A physical standby serves the same models from its own cache, learns of new versions, and takes over."""

import json
import shutil
import threading
import time

import psycopg
import pytest
import tiny
from cluster import Cluster

REPLICATED = "wal_level = replica\nmax_wal_senders = 5\nhot_standby = on\nfull_page_writes = on\n"
VERSION = "SELECT version FROM reco.models WHERE name = 'shop_ials' AND in_use"
FIRST = "SELECT reco.predict('linear', '{\"x\": [[1, 2]]}')"


@pytest.fixture(scope="module")
def primary():
    with Cluster(REPLICATED) as cluster:
        cluster.start()
        with cluster.connect() as connection:
            tiny.prepare(connection)
            for method, options in (("cart", {}), ("tvae", {"epochs": 2})):
                connection.execute("SELECT reco.train_synthesizer(%s, 'TABLE purchase', %s, %s)", [method, method, json.dumps(options)])
        yield cluster


@pytest.fixture(scope="module")
def standby(primary):
    with Cluster(REPLICATED, create=False) as cluster:
        # What a backup makes of a cache is a test of its own.
        shutil.rmtree(primary.data / "pg_reco")
        copy(primary, cluster, "--write-recovery-conf")
        cluster.start()
        yield cluster


def copy(source, target, *options):
    target.owned(
        *("pg_basebackup", "--dbname", source.dsn(), "--pgdata", target.data),
        *("--checkpoint", "fast", "--wal-method", "stream", "--no-sync", *options),
    )


@pytest.fixture
def there(primary):
    with primary.connect() as connection:
        yield connection


@pytest.fixture
def here(standby):
    with standby.connect() as connection:
        yield connection


def caught_up(there, here, seconds=60):
    """Waits till the standby has replayed what the primary has written."""
    (target,) = there.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
    deadline = time.monotonic() + seconds
    while not here.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [target]).fetchone()[0]:
        assert time.monotonic() < deadline, "the standby does not catch up"
        time.sleep(0.02)


def test_a_standby_answers_as_the_primary_does(there, here):
    caught_up(there, here)
    assert tiny.answers(here) == tiny.answers(there)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) FROM reco.embed(ARRAY['red', NULL, 'wine'], 'tiny')",
        "SELECT array_agg(e::text ORDER BY id) FROM reco.embed_query('SELECT i AS id, ''red wine''::text AS text FROM generate_series(1, 50) i', 'tiny') e",
        "SELECT array_agg(r::text ORDER BY user_id, rank) FROM reco.recommend_all('shop_ials', 2) r",
        "SELECT array_agg(r::text ORDER BY r) FROM reco.evaluate('shop_ials', 'TABLE purchase', exclude_seen => false) r",
        "SELECT count(*) FROM reco.split('TABLE purchase', 'random')",
        "SELECT reco.top_k(item_id, weight::real, 3) FROM purchase",
        "SELECT reco.mean_embedding(reco.embed(text, 'tiny')) FROM (VALUES ('red'), ('wine')) t(text)",
        "SELECT count(*) FROM reco.model_users('shop_ials')",
        "SELECT sha256(reco.export_model('shop_ials'))",
        "SELECT reco.warm('shop_item_knn') IS NULL, reco.unload('shop_item_knn')",
        "SELECT array_agg(r::text) FROM reco.synthesize('cart', 20) r",
        "SELECT array_agg(r::text) FROM reco.synthesize(NULL::purchase, 'tvae', 20) r",
        "SELECT array_agg(r::text) FROM reco.augment('TABLE purchase', 'smote_nc', n => 20) r",
        "SELECT reco.synthetic_report('TABLE purchase', 'TABLE purchase')",
    ],
)
def test_what_only_reads_works_on_a_standby(there, here, statement):
    caught_up(there, here)
    assert here.execute(statement).fetchall() == there.execute(statement).fetchall()


def test_a_purchase_on_the_primary_counts_on_the_standby(there, here):
    query = "SELECT array_agg(r::text ORDER BY rank) FROM reco.recommend('shop_ials', 4711, 3) r"
    assert "popularity" in here.execute(query).fetchone()[0][0]
    there.execute("INSERT INTO purchase VALUES (4711, 3, 1), (4711, 4, 1)")
    caught_up(there, here)
    got = here.execute(query).fetchone()
    assert "folded_in" in got[0][0] and got == there.execute(query).fetchone()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT reco.train('shop_ials', 'TABLE purchase', 'popularity')",
        "SELECT reco.train_synthesizer('cart', 'TABLE purchase')",
        "SELECT reco.import_model('other', reco.export_model('linear'))",
        "SELECT reco.promote_model('linear', 1)",
        "SELECT reco.drop_model('linear')",
        "SELECT reco.prune_versions('linear', 1)",
        "SELECT reco.grant_model('linear', 'public')",
        "SELECT reco.revoke_model('linear', 'public')",
        "SELECT reco.create_view('shop_ials', 'recommended')",
        "SELECT reco.create_function('shop_ials', 'recommend_to')",
    ],
)
def test_what_writes_is_refused_by_name(here, statement):
    before = here.execute("SELECT count(*) FROM reco.models").fetchone()
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        here.execute(statement)
    assert here.execute("SELECT count(*) FROM reco.models").fetchone() == before
    assert here.execute(tiny.ANSWERS["predict"]).fetchone()


def test_training_is_refused_before_the_work(here):
    """Not after an hour of it."""
    slow = """SELECT reco.train('slow', 'SELECT u AS user_id, (u * 7919 + i * i) % 5003 AS item_id
                                          FROM generate_series(1, 5000) u, generate_series(1, 40) i',
                                'ials', '{"factors": 128, "iterations": 1000}')"""
    here.execute("SET statement_timeout = '5s'")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        here.execute(slow)


def test_a_model_trained_later_is_served_and_a_new_version_reaches_open_connections(there, here):
    tiny.train(there, "late", "ials")
    caught_up(there, here)
    query = "SELECT array_agg(r::text ORDER BY rank) FROM reco.recommend('late', 7, 5) r"
    first = here.execute(query).fetchone()
    assert first == there.execute(query).fetchone()
    assert tiny.train(there, "late", "ials", options={"factors": 4, "iterations": 3}) == 2
    caught_up(there, here)
    second = here.execute(query).fetchone()
    assert second == there.execute(query).fetchone() and second != first
    there.execute("SELECT reco.promote_model('late', 1)")
    caught_up(there, here)
    assert here.execute(query).fetchone() == first
    there.execute("SELECT reco.drop_model('late')")
    caught_up(there, here)
    with pytest.raises(psycopg.errors.UndefinedObject, match='model "late" does not exist'):
        here.execute(query)


def test_new_versions_reach_a_busy_standby_session(there, here):
    """Weights 2, 3, 4 … one after the other: a session never sees half of one."""
    seen, failed, stop = [], [], threading.Event()

    def ask():
        try:
            while not stop.is_set():
                seen.append(here.execute(FIRST).fetchone()[0]["y"][0])
        except psycopg.Error as error:
            failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    with psycopg.connect(there.info.dsn, autocommit=True) as writing:
        for weight in range(3, 9):
            writing.execute("SELECT reco.import_model('linear', %b)", [tiny.linear_model(weight)])
            time.sleep(0.1)
        time.sleep(0.5)
    stop.set()
    asking.join(30)
    assert not failed
    assert all(pair[1] == 2 * pair[0] for pair in seen)
    weights = [pair[0] for pair in seen]
    assert weights == sorted(weights) and weights[-1] == 8
    there.execute("SELECT reco.promote_model('linear', 1)")


def test_a_vacuum_on_the_primary_does_not_make_a_wrong_answer_here(there, here):
    """Dropping and vacuuming may cancel a query of the standby; it may never make it wrong."""
    for round_ in range(3):
        tiny.import_text(there, "short_lived", seed=round_)
        there.execute("SELECT reco.drop_model('short_lived')")
        there.execute("VACUUM FULL reco.model_part")
        caught_up(there, here)
        with pytest.raises(psycopg.errors.UndefinedObject):
            here.execute("SELECT reco.embed('red', 'short_lived')")
    assert tiny.answers(here) == tiny.answers(there)


def test_each_has_a_cache_of_its_own(primary, standby, there, here):
    caught_up(there, here)
    expected = tiny.answers(there)
    assert tiny.answers(here) == expected
    cache = standby.data / "pg_reco"
    mine = {file.stat().st_ino for file in cache.glob("*/*") if file.is_file()}
    theirs = {file.stat().st_ino for file in (primary.data / "pg_reco").glob("*/*") if file.is_file()}
    assert mine and theirs and not mine & theirs
    for file in (primary.data / "pg_reco").glob("*/*.onnx"):
        file.write_bytes(b"not a model")
    with standby.connect() as fresh:
        assert tiny.answers(fresh) == expected
    with primary.connect() as fresh:
        assert tiny.answers(fresh) == expected, "what is damaged is made again"


def folder_of(connection, model):
    return connection.execute("SELECT DISTINCT folder FROM reco.cache WHERE model = %s", [model]).fetchone()[0]


def test_a_sweep_of_a_standby_removes_what_was_dropped_on_the_primary(there, here, standby):
    there.execute("SELECT reco.import_model('swept', %b)", [tiny.linear_model(11)])
    caught_up(there, here)
    assert here.execute("SELECT reco.predict('swept', '{\"x\": [[1, 2]]}')").fetchone()
    folder = folder_of(here, "swept")
    there.execute("SELECT reco.drop_model('swept')")
    caught_up(there, here)
    assert (standby.data / "pg_reco" / folder).exists()
    assert folder in {name for name, *_ in here.execute("SELECT * FROM reco.sweep_cache()")}
    assert not (standby.data / "pg_reco" / folder).exists()
    assert tiny.answers(here) == tiny.answers(there)


@pytest.mark.parametrize("gone", ["DROP EXTENSION pg_reco", "DROP DATABASE tenant"])
def test_a_sweep_of_a_standby_knows_which_databases_are_gone(primary, standby, there, here, gone):
    primary.create_database("tenant")
    with primary.connect(dbname="tenant") as tenant:
        tenant.execute("CREATE EXTENSION pg_reco")
        tenant.execute("SELECT reco.import_model('own', %b)", [tiny.linear_model(12)])
        caught_up(there, here)
        with standby.connect(dbname="tenant") as reader:
            assert reader.execute("SELECT reco.predict('own', '{\"x\": [[1, 2]]}')").fetchone()
            folder = folder_of(reader, "own")
        assert folder not in {name for name, *_ in here.execute("SELECT * FROM reco.sweep_cache()")}
        if gone.startswith("DROP EXTENSION"):
            tenant.execute(gone)
    if gone.startswith("DROP DATABASE"):
        there.execute(gone)
    caught_up(there, here)
    assert folder in {name for name, *_ in here.execute("SELECT * FROM reco.sweep_cache()")}
    there.execute("DROP DATABASE IF EXISTS tenant WITH (FORCE)")


def test_a_base_backup_takes_no_harm_from_the_cache(standby, here):
    """A cache does not hinder a backup, and may come along in it, half made folders too: it is checked before it is used."""
    tiny.answers(here)
    with Cluster(create=False) as restored:
        half = standby.data / "pg_reco" / ("0" * 64 + ".12345")
        half.mkdir(exist_ok=True)
        (half / "model.onnx").write_bytes(b"half")
        copy(standby, restored)
        restored.start()
        with restored.connect() as connection, standby.connect() as there:
            assert tiny.answers(connection) == tiny.answers(there)


def test_a_promoted_standby_trains(primary, standby, there, here):
    caught_up(there, here)
    before = tiny.answers(here)
    primary.stop("immediate")
    standby.owned("pg_ctl", "promote", "--wait", "--silent", "--pgdata", standby.data)
    assert tiny.answers(here) == before, "an open connection goes on"
    version = here.execute(VERSION).fetchone()[0]
    assert tiny.train(here, "shop_ials", "ials", options={"factors": 4}) == version + 1
    tiny.import_text(here, "new_here", seed=9)
    assert here.execute("SELECT reco.embed('red', 'new_here')").fetchone()
    assert here.execute(tiny.ANSWERS["ials"]).fetchone() != before["ials"]
