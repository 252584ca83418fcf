"""What the model runtime keeps to: its budget, its limits, what it refuses to load, what it leaves alone."""

import os
import threading
from pathlib import Path

import numpy
import psycopg
import pytest
import tiny
from onnx import TensorProto, helper

PROBE = """SELECT (reco.predict(%s, '{"x": [[1, 2]]}') #>> '{y,0,0}')::float"""
#  Models of about a megabyte each, told apart by their weights.
SIZE = 1 << 18


def wide_model(weight):
    return tiny.model_bytes(
        [helper.make_node("ReduceSum", ["wide"], ["sum"], keepdims=0), helper.make_node("Add", ["x", "sum"], ["y"])],
        [tiny.port("x", TensorProto.FLOAT, ["rows", 2])],
        [tiny.port("y", TensorProto.FLOAT, ["rows", 2]), tiny.port("wide", TensorProto.FLOAT, [SIZE])],
        [tiny.constant("wide", numpy.full(SIZE, weight / SIZE, numpy.float32))],
    )


def grow_model():
    """The greatest of as many numbers as it is told to make."""
    return tiny.model_bytes(
        [
            helper.make_node("ConstantOfShape", ["n"], ["ones"], value=tiny.constant("one", numpy.ones(1, numpy.float32))),
            helper.make_node("ReduceMax", ["ones"], ["y"], keepdims=0),
        ],
        [tiny.port("n", TensorProto.INT64, [1])],
        [tiny.port("y", TensorProto.FLOAT, [])],
    )


@pytest.fixture
def models(db):
    """Imports models that go with the test."""
    made = []

    def make(name, onnx):
        made.append(name)
        db.execute("SELECT reco.import_model(%s, %b)", [name, onnx])
        return name

    yield make
    for name in made:
        db.execute("SELECT reco.drop_model(%s)", [name])


def mapped(connection):
    """The folders of the cache that the connection's process has mapped, which is what it has loaded."""
    maps = Path(f"/proc/{connection.info.backend_pid}/maps").read_text()
    return {line.split("/data/pg_reco/")[1].split("/")[0] for line in maps.splitlines() if "/data/pg_reco/" in line}


def test_a_connection_keeps_to_its_budget_and_lets_the_least_recently_used_go(models, connect):
    names = [models(f"wide {n}", wide_model(n)) for n in range(1, 5)]
    connection = connect()
    # With another limit than the model worker's, a session runs its models itself.
    connection.execute("SET reco.execution_provider = 'cpu'; SET reco.run_memory_limit = '999MB'")
    held = []
    for name in names:
        assert connection.execute(PROBE, [name]).fetchone()[0] == pytest.approx(1 + int(name[-1]), rel=1e-3)
        held.append(mapped(connection))
    assert [len(h) for h in held] == [1, 2, 3, 4]
    first, second, third, fourth = held[0], held[1] - held[0], held[2] - held[1], held[3] - held[2]
    # The first is used again, so that the second and the third are now the oldest.
    connection.execute(PROBE, [names[0]])
    connection.execute("SET reco.cache_size = '2500kB'")
    connection.execute(PROBE, [names[3]])
    assert mapped(connection) == first | fourth
    connection.execute(PROBE, [names[1]])
    assert mapped(connection) == fourth | second
    # A model that is larger than the budget is still used; it is all that stays.
    connection.execute("SET reco.cache_size = 0")
    assert connection.execute(PROBE, [names[2]]).fetchone()[0] == pytest.approx(4, rel=1e-3)
    assert mapped(connection) == third
    assert connection.execute("SELECT reco.unload(%s)", [names[2]]).fetchone() == (True,)
    assert mapped(connection) == set()
    assert connection.execute("SELECT reco.unload(%s)", [names[2]]).fetchone() == (False,)


def test_a_run_that_asks_for_more_memory_than_allowed_is_an_error(models, connect):
    grow = models("grow", grow_model())
    connection = connect()
    connection.execute("SET reco.execution_provider = 'cpu'; SET reco.run_memory_limit = '64MB'")
    run = "SELECT reco.predict(%s, jsonb_build_object('n', ARRAY[%s::bigint])) ->> 'y'"
    assert connection.execute(run, [grow, 1_000_000]).fetchone() == ("1.0",)
    with pytest.raises(psycopg.errors.ExternalRoutineException, match="(?i)memory"):
        connection.execute(run, [grow, 100_000_000])
    assert connection.execute(run, [grow, 10_000_000]).fetchone() == ("1.0",)
    resident = Path(f"/proc/{connection.info.backend_pid}/status").read_text()
    private = next(int(line.split()[1]) for line in resident.splitlines() if line.startswith("RssAnon"))
    assert private < 40_000, "the memory of a large run was not given back"


def test_a_million_texts_stream_in_constant_memory(db, connect):
    tiny.import_text(db)
    connection = connect()
    connection.execute("SET work_mem = '4MB'")
    connection.execute("SELECT reco.embed('red wine', 'tiny')")
    samples, stop = [], threading.Event()

    def watch():
        status = Path(f"/proc/{connection.info.backend_pid}/status")
        while not stop.wait(0.05):
            samples.append(next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("RssAnon")))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        texts = "SELECT i AS id, ''red wine and '' || i || '' dark breads'' AS text FROM generate_series(1, 1000000) i"
        rows, vectors = connection.execute(f"SELECT count(*), count(embedding) FROM reco.embed_query('{texts}', 'tiny')").fetchone()
    finally:
        stop.set()
        watcher.join()
        db.execute("SELECT reco.drop_model('tiny')")
    assert (rows, vectors) == (1_000_000, 1_000_000)
    # Kilobytes. The first tenth has filled what a window of texts takes; the rest takes it again and again.
    first, rest = max(samples[: len(samples) // 10]), max(samples[len(samples) // 10 :])
    assert rest < 120_000 and rest < first + 40_000


def test_a_graph_that_asks_for_more_memory_than_there_is_is_refused(db):
    bomb = tiny.model_bytes(
        [helper.make_node("ConstantOfShape", ["n"], ["y"])],
        [],
        [tiny.port("y", TensorProto.FLOAT, ["n"])],
        [tiny.constant("n", numpy.array([1 << 40], numpy.int64))],
    )
    with pytest.raises(psycopg.errors.ExternalRoutineException, match="out of memory"):
        db.execute("SELECT reco.import_model('bomb', %b)", [bomb])
    assert db.execute("SELECT count(*) FROM reco.models WHERE name = 'bomb'").fetchone() == (0,)


def test_a_model_above_the_size_limit_is_refused(db):
    db.execute("SET reco.max_model_size = '100kB'")
    with pytest.raises(psycopg.errors.ProgramLimitExceeded, match='model "wide" needs 10.* bytes, but the limit is 102400') as error:
        db.execute("SELECT reco.import_model('wide', %b)", [wide_model(1)])
    assert "reco.max_model_size" in error.value.diag.message_hint


def raw_tensor(dims, data=b"\0" * 8):
    tensor = tiny.constant("w", numpy.zeros(2, numpy.float32))
    del tensor.dims[:]
    tensor.dims.extend(dims)
    tensor.raw_data = data
    return tensor


@pytest.mark.parametrize("dims", [[1 << 40], [-1], [1 << 32, 1 << 32, 1 << 32], [1] * 40, [1 << 62, 4]])
def test_invalid_shapes_are_refused_before_anything_is_allocated(db, dims):
    graph = [helper.make_node("Mul", ["x", "w"], ["y"])]
    ports = [[tiny.port("x", TensorProto.FLOAT, [2])], [tiny.port("y", TensorProto.FLOAT, [2])]]
    with pytest.raises(psycopg.errors.FeatureNotSupported, match='tensor "w" has invalid shape'):
        db.execute("SELECT reco.import_model('absurd', %b)", [tiny.model_bytes(graph, *ports, [raw_tensor(dims)])])
    if min(dims) > 0:
        ports[0] = [tiny.port("x", TensorProto.FLOAT, dims)]
        with pytest.raises(psycopg.errors.FeatureNotSupported, match='"x" has invalid shape'):
            db.execute("SELECT reco.import_model('absurd', %b)", [tiny.model_bytes(graph, *ports, [tiny.constant("w", numpy.float32(1))])])


def test_a_graph_that_names_a_file_is_refused(db):
    node = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft", ep_cache_context="/etc/passwd", embed_mode=0)
    ports = [[tiny.port("x", TensorProto.FLOAT, [2])], [tiny.port("y", TensorProto.FLOAT, [2])]]
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="EPContext refers to a file"):
        db.execute("SELECT reco.import_model('context', %b)", [tiny.model_bytes([node], *ports, domains=["com.microsoft"])])


@pytest.mark.parametrize(
    "setting, value",
    [
        ("reco.onnxruntime_library", "/tmp/evil.so"),
        ("reco.cache_size", "1GB"),
        ("reco.run_memory_limit", "0"),
        ("reco.gpu_memory_limit", "1GB"),
        ("reco.max_model_size", "1GB"),
    ],
)
def test_limits_and_paths_are_the_superusers(role, setting, value):
    analyst = role("analyst")
    analyst.execute("SELECT reco.dot_product('{1}', '{1}')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        analyst.execute(f"SET {setting} = '{value}'")


@pytest.mark.parametrize("library", ["", "-c session_preload_libraries=pg_reco "])
def test_models_named_in_a_setting_are_loaded_when_a_connection_begins(connect, library):
    options = f"{library}-c reco.execution_provider=cpu -c reco.preload_models="
    assert len(mapped(connect(options=options + "all-minilm-l6-v2"))) == 1
    # One that cannot be loaded costs a line in the log, not the connection.
    connection = connect(options=options + "none,all-minilm-l6-v2")
    assert len(mapped(connection)) == 1
    assert connection.execute("SELECT array_length(reco.embed('x'), 1)").fetchone() == (384,)
    assert mapped(connect(options=library)) == set()


def test_onnx_runtime_reports_to_nobody(connect):
    by_itself, asking = connect(), connect()
    by_itself.execute("SET reco.execution_provider = 'cpu'; SET reco.threads = 1; SET reco.run_memory_limit = '999MB'")
    before = threads(by_itself)
    (worker,) = asking.execute("SELECT pid FROM reco.stat_workers WHERE worker = 0").fetchone()
    for connection, process in [(by_itself, by_itself.info.backend_pid), (asking, worker)]:
        connection.execute("SELECT reco.embed('x')")
        opened = [os.readlink(fd) for fd in Path(f"/proc/{process}/fd").iterdir() if fd.is_symlink()]
        assert not [path for path in opened if "onnxruntime.db" in path]
    assert threads(by_itself) == before, "no thread but the backend's own"


def threads(connection):
    return len(list(Path(f"/proc/{connection.info.backend_pid}/task").iterdir()))
