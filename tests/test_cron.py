"""Search indexes that pg_cron refreshes, as docs/search.md has it, where that extension is installed."""

import time

import pytest
from cluster import Cluster

JOB = "SELECT cron.schedule('refresh products', %s, $$SELECT reco.refresh('products', keep => 3)$$)"


@pytest.fixture
def connection(db):
    if not db.execute("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_cron'").fetchone()[0]:
        pytest.skip("pg_cron is not installed; Debian's package postgresql-15-cron has it")
    settings = "shared_preload_libraries = 'pg_cron,pg_reco'\ncron.database_name = 'postgres'\ncron.use_background_workers = on\n"
    with Cluster(settings) as cluster:
        cluster.start()
        with cluster.connect() as connection:
            connection.execute("CREATE EXTENSION pg_cron; CREATE EXTENSION pg_reco")
            yield connection


def test_a_job_of_pg_cron_refreshes_an_index(connection):
    connection.execute("CREATE TABLE product AS SELECT n AS id, 'Product ' || n AS title FROM generate_series(1, 50) AS n")
    connection.execute("SELECT reco.train_search('products', 'TABLE product')")
    connection.execute("UPDATE product SET title = 'Typewriter' WHERE id = 7")
    connection.execute(JOB, ["* * * * *"])
    until = time.monotonic() + 100
    while time.monotonic() < until:
        if connection.execute("SELECT id FROM reco.search('products', 'typewriter', 1)").fetchall() == [("7",)]:
            break
        time.sleep(1)
    runs = connection.execute("SELECT status, return_message FROM cron.job_run_details").fetchall()
    assert [status for status, _ in runs] == ["succeeded"] * len(runs) and runs, runs
    assert connection.execute("SELECT max(version) FROM reco.models").fetchone() == (2,)
