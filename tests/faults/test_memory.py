"""Too little memory is an ERROR, whoever asks for it: a graph that wants too much, or a process that may have too little."""

import contextlib
import threading
import time

import numpy
import onnx
import psycopg
import pytest
import surviving
import tiny
from cluster import Cluster
from onnx import TensorProto, helper
from tiny import constant, model_bytes, port

F, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
node = helper.make_node
# Out of memory, out of resources, too large, an error of ONNX Runtime, of the file system.
CLEAR = ("53200", "53000", "54000", "38000", "58030", "58P01", "0A000", "22P03", "22023", "57014")
TRAIN = """SELECT reco.train('wide', 'SELECT u AS user_id, (u * 7919 + i * i) % 20011 AS item_id
                                        FROM generate_series(1, 20000) u, generate_series(1, 20) i',
                             'ials', '{"factors": 128, "iterations": 1}')"""


@pytest.fixture(scope="module")
def cluster():
    with Cluster("jit = off\n") as made:
        made.start()
        with made.connect() as connection:
            tiny.prepare(connection)
            tiny.import_kept(connection, "all-minilm-l6-v2")
        yield made


# --------------------------------------------------------------------------------------------------------------- bombs


def filled(count):
    """A tensor of `count` values, made when the graph runs; the input is added so that it cannot be folded away."""
    nodes = [
        node("Mul", ["x", "count"], ["shape"]),
        node("ConstantOfShape", ["shape"], ["filled"]),
        node("ReduceMax", ["filled"], ["y"], keepdims=0),
    ]
    return model_bytes(nodes, [port("x", I64, [1])], [port("y", F, [])], [constant("count", numpy.array([count], numpy.int64))])


def folded(count):
    """The same of constants alone: made when the graph is prepared."""
    nodes = [node("ConstantOfShape", ["count"], ["filled"]), node("Add", ["filled", "x"], ["y"])]
    return model_bytes(nodes, [port("x", F, [1])], [port("y", F, ["n"])], [constant("count", numpy.array([count], numpy.int64))])


def expanded(count):
    nodes = [node("Expand", ["x", "shape"], ["wide"]), node("ReduceMax", ["wide"], ["y"], keepdims=0)]
    return model_bytes(nodes, [port("x", F, [1])], [port("y", F, [])], [constant("shape", numpy.array([count // 8, 8], numpy.int64))])


def ranged(count):
    nodes = [node("Range", ["x", "end", "one"], ["wide"]), node("ReduceMax", ["wide"], ["y"], keepdims=0)]
    return model_bytes(
        nodes, [port("x", I64, [])], [port("y", I64, [])], [constant("end", numpy.int64(count)), constant("one", numpy.int64(1))]
    )


def tiled(count):
    nodes = [node("Tile", ["x", "times"], ["wide"]), node("ReduceMax", ["wide"], ["y"], keepdims=0)]
    return model_bytes(nodes, [port("x", F, [1])], [port("y", F, [])], [constant("times", numpy.array([count], numpy.int64))])


def hot(count):
    nodes = [node("OneHot", ["x", "depth", "values"], ["y"])]
    return model_bytes(
        nodes, [port("x", I64, [1])], [port("y", F, [1, "n"])],
        [constant("depth", numpy.int64(count)), constant("values", numpy.array([0, 1], numpy.float32))],
    )  # fmt: skip


def output(count):
    """Fits memory as a tensor, and hardly as JSON."""
    nodes = [node("Expand", ["x", "shape"], ["y"])]
    return model_bytes(nodes, [port("x", F, [1])], [port("y", F, ["n"])], [constant("shape", numpy.array([count], numpy.int64))])


def doubling(times):
    """A loop that doubles its state: nothing in the file is large."""
    body = helper.make_graph(
        [node("Concat", ["state", "state"], ["twice"], axis=0), node("Identity", ["going"], ["go_on"])],
        "body", [port("turn", I64, []), port("going", BOOL, []), port("state", F, ["n"])],
        [port("go_on", BOOL, []), port("twice", F, ["m"])],
    )  # fmt: skip
    nodes = [node("Loop", ["times", "yes", "x"], ["last"], body=body), node("ReduceMax", ["last"], ["y"], keepdims=0)]
    initializers = [constant("times", numpy.int64(times)), constant("yes", numpy.array(True))]
    return model_bytes(nodes, [port("x", F, ["n"])], [port("y", F, [])], initializers)


def endless():
    body = helper.make_graph(
        [node("Cos", ["state"], ["next"]), node("Identity", ["going"], ["go_on"])],
        "body", [port("turn", I64, []), port("going", BOOL, []), port("state", F, [1])],
        [port("go_on", BOOL, []), port("next", F, [1])],
    )  # fmt: skip
    initializers = [constant("times", numpy.int64(2**62)), constant("yes", numpy.array(True))]
    return model_bytes([node("Loop", ["times", "yes", "x"], ["y"], body=body)], [port("x", F, [1])], [port("y", F, [1])], initializers)


def as_long_as_told():
    """A loop of as many turns as its input says: harmless when tried out, endless when told so."""
    model = onnx.ModelProto.FromString(endless())
    del model.graph.initializer[0]
    model.graph.input.append(port("times", I64, []))
    return model.SerializeToString()


def endless_folded():
    """The same loop over a constant: what prepares the graph may want to compute it."""
    bytes_ = endless()
    model = onnx.ModelProto.FromString(bytes_)
    model.graph.node[0].input[2] = "start"
    model.graph.initializer.append(constant("start", numpy.ones(1, numpy.float32)))
    model.graph.node[0].output[0] = "looped"
    model.graph.node.append(node("Add", ["looped", "x"], ["y"]))
    return model.SerializeToString()


def nested(depth):
    graph = helper.make_graph([node("Identity", ["x"], ["y0"])], "g0", [], [port("y0", F, [1])])
    for level in range(1, depth):
        nodes = [node("If", ["yes"], [f"y{level}"], then_branch=graph, else_branch=graph)]
        if level > 12:
            leaf = helper.make_graph([node("Identity", ["x"], [f"e{level}"])], f"e{level}", [], [port(f"e{level}", F, [1])])
            nodes = [node("If", ["yes"], [f"y{level}"], then_branch=graph, else_branch=leaf)]
        graph = helper.make_graph(nodes, f"g{level}", [], [port(f"y{level}", F, [1])])
    top = [node("If", ["yes"], ["y"], then_branch=graph, else_branch=graph)]
    return model_bytes(top, [port("x", F, [1])], [port("y", F, [1])], [constant("yes", numpy.array(True))])


def long_chain(length):
    nodes = [node("Abs", [f"v{i}" if i else "x"], [f"v{i + 1}" if i + 1 < length else "y"]) for i in range(length)]
    return model_bytes(nodes, [port("x", F, [1])], [port("y", F, [1])])


def deep_bytes(depth):
    """Messages within messages, which a decoder may follow by calling itself: graph → node → attribute → graph …"""
    inner = b""
    for _ in range(depth):
        for field in (0x32, 0x2A, 0x0A):
            size, length = len(inner), b""
            while True:
                length += bytes([size & 0x7F | (0x80 if size > 0x7F else 0)])
                size >>= 7
                if not size:
                    break
            inner = bytes([field]) + length + inner
    return b"\x08\x08\x3a" + inner[1:]


HUGE, LARGE = 10**12, 5 * 10**9
BOMBS = {
    "1e12 values": (filled(HUGE), "[1]"),
    "20 GB": (filled(LARGE), "[1]"),
    "more than there are bytes": (filled(2**62), "[1]"),
    "a negative shape": (filled(-5), "[1]"),
    "1e12 constants": (folded(HUGE), "[1]"),
    "20 GB of constants": (folded(LARGE), "[1]"),
    "Expand": (expanded(HUGE), "[1]"),
    "Range": (ranged(HUGE), "1"),
    "Tile": (tiled(HUGE), "[1]"),
    "Tile to 20 GB": (tiled(LARGE), "[1]"),
    "OneHot": (hot(HUGE), "[1]"),
    "an output of 1.2 GB": (output(300_000_000), "[1]"),
    "an output of 400 MB": (output(100_000_000), "[1]"),
    "a loop that doubles": (doubling(60), "[1]"),
    "an endless loop": (endless(), "[1]"),
    "an endless loop of constants": (endless_folded(), "[1]"),
    "If in If in If, 8 deep": (nested(8), "[1]"),
    "If in If, 28 deep": (nested(28), "[1]"),
    "a chain of 50000": (long_chain(50_000), "[1]"),
    "messages 180 deep": (deep_bytes(60), "[1]"),
    "messages 100 deep": (deep_bytes(33), "[1]"),
    "messages 30000 deep": (deep_bytes(10_000), "[1]"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_graph_that_asks_for_too_much_is_refused_or_fails(cluster, bomb):
    bytes_, given = BOMBS[bomb]
    with surviving.nobody_hurt(cluster), cluster.connect() as connection:
        deaths = len(surviving.crashes(cluster))
        connection.execute("SET reco.threads = 1; SET reco.execution_provider = 'cpu'; SET statement_timeout = '15s'")
        # A machine with memory enough must not be filled by a test.
        surviving.limit_memory(connection.info.backend_pid, 5120)
        start = time.monotonic()
        try:
            with connection.transaction(force_rollback=True):
                connection.execute("SELECT reco.import_model('bomb', %b)", [bytes_])
                start = time.monotonic()
                connection.execute("SELECT length(reco.predict('bomb', %s::jsonb)::text)", [f'{{"x": {given}}}'])
        except psycopg.Error as error:
            print(bomb, error.sqlstate, str(error)[:300])
            assert not connection.broken, surviving.last_words(cluster, deaths)
            assert error.sqlstate in CLEAR, error
            # What cannot be computed ends by the time-out, at the time-out.
            assert time.monotonic() - start < (20 if error.sqlstate == "57014" else 15)
        assert tiny.answers(connection)


def test_an_endless_run_can_be_cancelled(cluster):
    with surviving.nobody_hurt(cluster), cluster.connect() as connection:
        connection.execute("SET statement_timeout = '60s'")
        connection.execute("SELECT reco.import_model('endless', %b)", [as_long_as_told()])
        connection.execute("""SELECT reco.predict('endless', '{"x": [1], "times": 3}')""")
        for _ in range(5):
            timer = threading.Timer(0.5, connection.cancel)
            start = time.monotonic()
            timer.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute("""SELECT reco.predict('endless', '{"x": [1], "times": 4000000000000000000}')""")
            assert time.monotonic() - start < 1.5
            timer.join()
        connection.execute("SELECT reco.drop_model('endless')")


@pytest.mark.parametrize("after", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("bomb", ["an endless loop", "an endless loop of constants"])
def test_an_endless_import_can_be_cancelled(cluster, bomb, after):
    """Wherever it is tried out; and it is said to be cancelled, not to have crashed."""
    with surviving.nobody_hurt(cluster), cluster.connect() as connection:
        timer = threading.Timer(after, connection.cancel)
        timer.start()
        start = time.monotonic()
        try:
            with connection.transaction(force_rollback=True):
                connection.execute("SELECT reco.import_model('endless', %b)", [BOMBS[bomb][0]])
                # Not tried out at import, then.
                connection.execute("""SELECT reco.predict('endless', '{"x": [1]}')""")
        except psycopg.Error as error:
            assert error.sqlstate == "57014", error
        assert time.monotonic() - start < after + 1
        timer.join()
        assert surviving.helpers(cluster) == []


# ---------------------------------------------------------------------------------------------------- too little memory

WORK = {
    "load a text model": "SELECT reco.warm('all-minilm-l6-v2')",
    "embed": "SELECT count(*) FROM reco.embed((SELECT array_agg(repeat('word ', 250) || i) FROM generate_series(1, 64) i))",
    "embed a query": "SELECT count(*) FROM reco.embed_query('SELECT i AS id, repeat(''wine '', 250) || i AS text FROM generate_series(1, 200) i')",
    "embed a long text": "SELECT array_length(reco.embed(repeat('word ', 20000000)), 1)",
    "train": TRAIN,
    "train by neighbours": TRAIN.replace("'ials', '{\"factors\": 128, \"iterations\": 1}'", "'item_knn'"),
    "recommend": "SELECT count(*) FROM reco.recommend('shop_ials', 7)",
    "recommend to all": "SELECT count(*) FROM reco.recommend_all('shop_ials', 50)",
    "similar": "SELECT count(*) FROM reco.similar_items('shop_item_knn', 3, 5)",
    "evaluate": "SELECT count(*) FROM reco.evaluate('shop_ials', 'TABLE purchase', exclude_seen => false)",
    "compare models": "SELECT count(*) FROM reco.compare_models('shop_ials', 'shop_item_knn', 'TABLE purchase', exclude_seen => false)",
    "cross-validate": "SELECT count(*) FROM reco.cross_validate('TABLE purchase', 'item_knn')",
    "export": "SELECT length(reco.export_model('all-minilm-l6-v2'))",
    "describe": "SELECT count(*) FROM reco.describe_model('all-minilm-l6-v2')",
    "import": "SELECT reco.import_model('again', reco.export_model('all-minilm-l6-v2'))",
    "predict": """SELECT reco.predict('large', '{"x": [[1, 2], [-3, 0.5]]}')""",
    "predict on much": "SELECT reco.predict('linear', jsonb_build_object('x', (SELECT jsonb_agg('[1,2]'::jsonb) FROM generate_series(1, 200000))))",
    "split": "SELECT count(*) FROM reco.split('SELECT u AS user_id, u AS item_id FROM generate_series(1, 2000000) u', 'random')",
    "top_k": "SELECT reco.top_k(i, i::real, 3000000) IS NULL FROM generate_series(1, 3000000) i",
    "mean": "SELECT reco.mean_embedding(array_fill(1::real, ARRAY[1000000])) IS NULL FROM generate_series(1, 3) i",
}


@pytest.mark.parametrize("work", WORK)
def test_too_little_memory_is_an_error(cluster, work):
    """From too little to load anything to just too little to finish: each limit in a connection of its own."""
    limits = [8, 32, 96, 160, 256, 400, 600, 1000] if surviving.LONG else [16, 64, 160, 320, 600]
    died, said = [], []
    for more in limits:
        with cluster.wait_ready() as connection:
            connection.execute("SET reco.execution_provider = 'cpu'; SET statement_timeout = '60s'; SET reco.threads = 2")
            # The extension's own library is there; what follows is its work.
            connection.execute("SELECT reco.dot_product('{1}', '{1}')")
            pid, deaths = connection.info.backend_pid, len(surviving.crashes(cluster))
            surviving.limit_memory(pid, surviving.address_space(pid) + more)
            try:
                with connection.transaction(force_rollback=True):
                    connection.execute(WORK[work])
                said.append((more, "done"))
            except psycopg.Error as error:
                said.append((more, error.sqlstate or "gone"))
                if connection.broken and error.sqlstate == "53200":
                    # FATAL: this connection ended in good order, and nobody else.
                    continue
                if connection.broken:
                    died.append((more, surviving.last_words(cluster, deaths)))
                    continue
                assert error.sqlstate in CLEAR, error
            surviving.limit_memory(pid, None)
            assert connection.execute("SELECT reco.dot_product('{1,2}', '{1,2}')").fetchone() == (5,)
            # ONNX Runtime itself cannot be started twice: the error asks to connect anew.
            with cluster.connect() if said[-1][1] == "58P01" else contextlib.nullcontext(connection) as next_connection:
                assert next_connection.execute(tiny.ANSWERS["embed"]).fetchone()
    print(work, said)
    assert not died, f"{work}: mebibytes more than at rest, and how it died: {died}"


def test_the_server_is_whole_afterwards(cluster):
    with cluster.wait_ready() as connection:
        surviving.assert_whole(connection)
        assert connection.execute("SELECT count(*) FROM reco.model WHERE name IN ('wide', 'again', 'bomb')").fetchone() == (0,)
    assert surviving.half_made(cluster) == []
