"""What lies in the cache of models' files, what a sweep takes away, and what it leaves."""

import shutil
import threading

import psycopg
import pytest
import tiny
from cluster import Cluster, own

UNNAMED = "not needed by any database"
PREDICT = "SELECT reco.predict(%s, '{\"x\": [[1, 2]]}')"


@pytest.fixture(scope="module")
def cluster():
    with Cluster("max_prepared_transactions = 5\n") as made:
        made.start()
        with made.connect() as connection:
            tiny.prepare(connection)
            tiny.answers(connection)
        yield made


@pytest.fixture
def db(cluster):
    with cluster.connect() as connection:
        yield connection


@pytest.fixture
def tenant(cluster):
    """A database beside, with a model of its own that it has used."""
    cluster.create_database("tenant")
    with cluster.connect(dbname="tenant") as connection:
        connection.execute("CREATE EXTENSION pg_reco")
        import_linear(connection, "own", 7)
        yield connection
    with cluster.connect() as connection:
        connection.execute("DROP DATABASE IF EXISTS tenant WITH (FORCE)")


def import_linear(connection, name, weight):
    connection.execute("SELECT reco.import_model(%s, %b)", [name, tiny.linear_model(weight)])
    assert connection.execute(PREDICT, [name]).fetchone() == ({"y": [[weight, 2.0 * weight]]},)


def folder_of(connection, model, version=1):
    query = "SELECT folder FROM reco.cache WHERE (model, version) = (%s, %s)"
    ((folder,),) = connection.execute(query, [model, version]).fetchall()
    return folder


def sweep(connection):
    return {folder: why for folder, _, why in connection.execute("SELECT * FROM reco.sweep_cache()").fetchall()}


def exists(cluster, folder):
    return (cluster.data / "pg_reco" / folder).exists()


def test_a_sweep_leaves_what_databases_name(cluster, db, tenant):
    sweep(db)
    folder, expected = folder_of(tenant, "own"), tiny.answers(db)
    assert sweep(db) == sweep(tenant) == {}
    assert exists(cluster, folder)
    with cluster.connect() as fresh:
        assert tiny.answers(fresh) == expected


def test_a_dropped_extension_leaves_nothing_behind(cluster, db, tenant):
    folder = folder_of(tenant, "own")
    tenant.execute("DROP EXTENSION pg_reco")
    assert exists(cluster, folder)
    assert sweep(db) == {folder: UNNAMED}
    assert not exists(cluster, folder)


def test_a_dropped_database_leaves_nothing_behind(cluster, db, tenant):
    folder = folder_of(tenant, "own")
    tenant.close()
    db.execute("DROP DATABASE tenant WITH (FORCE)")
    assert exists(cluster, folder)
    assert sweep(db) == {folder: UNNAMED}
    marked = {path.name for path in (cluster.data / "pg_reco" / "databases").iterdir()}
    assert marked == {str(oid) for (oid,) in db.execute("SELECT oid FROM pg_database WHERE datname = 'postgres'")}


def test_whoever_makes_a_folder_clears_away_what_dropped_databases_left(cluster, db, tenant):
    folder = folder_of(tenant, "own")
    tenant.close()
    db.execute("DROP DATABASE tenant WITH (FORCE)")
    import_linear(db, "another", 8)
    assert not exists(cluster, folder)
    db.execute("SELECT reco.drop_model('another')")


def test_a_transaction_prepared_and_rolled_back_leaves_nothing_behind(cluster, db):
    with cluster.connect(autocommit=False) as two_phase:
        import_linear(two_phase, "undecided", 9)
        folder = folder_of(two_phase, "undecided")
        two_phase.execute("PREPARE TRANSACTION 'undecided'")
    db.execute("ROLLBACK PREPARED 'undecided'")
    assert exists(cluster, folder)
    assert sweep(db) == {folder: UNNAMED}


def test_a_model_dropped_by_a_prepared_transaction_leaves_nothing_behind(cluster, db):
    import_linear(db, "dropped", 10)
    folder = folder_of(db, "dropped")
    with cluster.connect(autocommit=False) as two_phase:
        two_phase.execute("SELECT reco.drop_model('dropped')")
        two_phase.execute("PREPARE TRANSACTION 'dropping'")
    assert sweep(db) == {}, "it may still be rolled back"
    db.execute("COMMIT PREPARED 'dropping'")
    assert exists(cluster, folder)
    assert sweep(db) == {folder: UNNAMED}


def test_databases_share_a_folder_and_the_last_to_drop_it_removes_it(cluster, db, tenant):
    import_linear(db, "same", 7)
    folder = folder_of(db, "same")
    assert folder == folder_of(tenant, "own")
    assert db.execute("SELECT databases FROM reco.cache WHERE model = 'same'").fetchone() == (["postgres", "tenant"],)
    db.execute("SELECT reco.drop_model('same')")
    assert exists(cluster, folder)
    assert sweep(db) == {}
    tenant.execute("SELECT reco.drop_model('own')")
    assert not exists(cluster, folder)


def test_versions_share_a_folder_and_the_last_to_go_removes_it(cluster, db):
    for _ in range(2):
        import_linear(db, "twice", 13)
    folder = folder_of(db, "twice")
    assert folder == folder_of(db, "twice", 2)
    db.execute("SELECT reco.drop_model('twice', 1)")
    assert exists(cluster, folder)
    db.execute("SELECT reco.drop_model('twice')")
    assert not exists(cluster, folder)


def test_a_sweep_takes_half_made_folders_and_graphs_prepared_elsewhere(cluster, db):
    expected = tiny.answers(db)
    root, folder = cluster.data / "pg_reco", folder_of(db, "linear")
    # No process has this number: it is above the greatest that Linux gives.
    left, elsewhere = f"{folder}.4194305", f"{folder}/prepared-00000000deadbeef"
    for name in (left, elsewhere):
        (root / name).mkdir()
        (root / name / "model.onnx").write_bytes(bytes(1000))
        own(root / name)
        own(root / name / "model.onnx")
    query = "SELECT folder, bytes >= 1000, model, prepared_here, prepared_elsewhere FROM reco.cache WHERE starts_with(folder, %s)"
    shown = [(folder, True, "linear", True, 1), (left, True, None, False, 0)]
    assert sorted(db.execute(query, [folder]).fetchall()) == shown
    got = sorted(db.execute("SELECT folder, bytes, why FROM reco.sweep_cache()").fetchall())
    assert got == [(left, 1000, "unfinished"), (elsewhere, 1000, "prepared for another ONNX Runtime or processor")]
    assert not (root / left).exists() and not (root / elsewhere).exists()
    with cluster.connect() as fresh:
        assert tiny.answers(fresh) == expected


def test_folders_without_marks_are_made_again_when_they_are_needed(cluster, db, tenant):
    """As an earlier version left them, or a crash that took the marks."""
    expected, folder = tiny.answers(db), folder_of(tenant, "own")
    shutil.rmtree(cluster.data / "pg_reco" / "databases")
    assert sweep(db) == {folder: UNNAMED}, "this database's own are known"
    assert tiny.answers(db) == expected
    with cluster.connect(dbname="tenant") as fresh:
        assert fresh.execute(PREDICT, ["own"]).fetchone() == ({"y": [[7.0, 14.0]]},)
    assert exists(cluster, folder)


def test_models_are_made_and_loaded_while_others_sweep(cluster, db, tenant):
    """Also those that the sweeping sessions cannot see yet."""
    expected, stop, failed = tiny.answers(db), threading.Event(), []

    def sweep_on(database):
        try:
            with cluster.connect(dbname=database) as sweeping:
                while not stop.is_set():
                    sweep(sweeping)
                    stop.wait(0.05)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in a thread is the test's failure
            failed.append(error)

    sweeping = [threading.Thread(target=sweep_on, args=[database]) for database in ("postgres", "tenant")]
    for thread in sweeping:
        thread.start()
    try:
        for weight in range(20, 25):
            with cluster.connect(autocommit=False) as fresh:
                import_linear(fresh, "unseen", weight)
                assert tiny.answers(fresh) == expected
                fresh.rollback()
            shutil.rmtree(cluster.data / "pg_reco" / folder_of(db, "linear"))
    finally:
        stop.set()
        for thread in sweeping:
            thread.join()
    assert failed == []


def test_only_those_who_may_read_statistics_see_the_cache_and_nobody_else_sweeps_it(cluster, db):
    db.execute("DROP ROLE IF EXISTS curious, watcher; CREATE ROLE curious LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_monitor")
    for statement in ("SELECT * FROM reco.cache", "SELECT * FROM reco.cache_folders()", "SELECT * FROM reco.sweep_cache()"):
        with cluster.connect(user="curious") as curious, pytest.raises(psycopg.errors.InsufficientPrivilege):
            curious.execute(statement)
    with cluster.connect() as fresh:
        assert tiny.answers(fresh)
    with cluster.connect(user="watcher") as watcher:
        assert watcher.execute("SELECT count(*) FROM reco.cache WHERE model = 'linear'").fetchone() == (1,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            watcher.execute("SELECT * FROM reco.sweep_cache()")
    db.execute("DROP ROLE curious, watcher")
