"""What a session that chooses CUDA gets: an error where there is none, and graphs for it that are right on any device."""

import os
from pathlib import Path

import numpy
import onnx
import onnxruntime
import psycopg
import pytest
from onnx import numpy_helper
from tiny import PURCHASES

HAS_GPU = os.path.exists("/dev/nvidia0")
GROUP = 2048

ONE_LIST = "SELECT rank, item_id, score, reason FROM reco.recommend('shop', 7, 5)"
ALIKE = "SELECT rank, item_id, similarity FROM reco.similar_items('shop', 3, 5)"


@pytest.fixture
def connection(connect):
    """A connection with a table of purchases, which goes with the test, as the model trained on it does."""
    connection = connect()
    connection.execute(PURCHASES)
    yield connection
    connection.execute("RESET reco.execution_provider")
    connection.execute("SELECT reco.drop_model('shop')")
    connection.execute("DROP TABLE purchase")


def train(connection, algorithm, options="{}"):
    connection.execute("SELECT reco.train('shop', 'TABLE purchase', %s, %s)", [algorithm, options])


@pytest.fixture
def without_gpu():
    if HAS_GPU:
        pytest.skip("there is a GPU")


@pytest.mark.parametrize("algorithm", ["ials", "bpr"])
def test_lists_are_made_on_cuda_only_where_it_is_chosen(connection, algorithm, without_gpu):
    train(connection, algorithm)
    expected = [connection.execute(query).fetchall() for query in (ONE_LIST, ALIKE)]
    assert all(expected)
    connection.execute("SET reco.execution_provider = 'cuda'")
    calls = [
        ONE_LIST,
        ALIKE,
        "SELECT * FROM reco.recommend_all('shop', 3)",
        "SELECT * FROM reco.recommend_for_items('shop', ARRAY[1, 2], k => 3)",
    ]
    for call in calls:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="CUDA is not available: .*") as error:
            connection.execute(call)
        assert "reco.execution_provider" in error.value.diag.message_hint
    connection.execute("SET reco.execution_provider = 'auto'")
    assert [connection.execute(query).fetchall() for query in (ONE_LIST, ALIKE)] == expected


@pytest.mark.parametrize("algorithm", ["popularity", "item_knn", "ease", "gf_cf"])
def test_models_without_a_product_are_served_by_the_cpu_whatever_is_chosen(connection, algorithm):
    train(connection, algorithm)
    queries = [ONE_LIST, *([ALIKE] if algorithm != "popularity" else [])]
    expected = [connection.execute(query).fetchall() for query in queries]
    connection.execute("SET reco.execution_provider = 'cuda'")
    assert [connection.execute(query).fetchall() for query in queries] == expected


def product(connection):
    """The graph that makes lists on CUDA: it is written before CUDA is asked for."""
    connection.execute("SET reco.execution_provider = 'cuda'")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        connection.execute(ONE_LIST)
    (folder,) = connection.execute("SELECT folder FROM reco.cache WHERE model = 'shop' ORDER BY version DESC LIMIT 1").fetchone()
    (data,) = connection.execute("SHOW data_directory").fetchone()
    return (Path(data) / "pg_reco" / folder / "product" / "model.onnx").read_bytes()


@pytest.mark.parametrize("items", [50, 2048, 5000])
@pytest.mark.parametrize("kept", [1, 13, 49])
def test_the_graph_of_a_product_finds_the_best_of_all_items(connection, items, kept, without_gpu):
    more = "SELECT i %% 97, i, 1 + i %% 5 FROM generate_series(50, %s) i"
    connection.execute(f"INSERT INTO purchase {more}", [items - 1])
    train(connection, "ials", '{"factors": 8, "iterations": 1}')
    file = product(connection)
    session = onnxruntime.InferenceSession(file)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(file).graph.initializer}
    factors = weights["item_factors"][:items]
    assert len(weights["item_factors"]) == -(-items // GROUP) * GROUP
    draw = numpy.random.default_rng(5)
    users = draw.normal(size=(7, factors.shape[1])).astype(numpy.float32)
    masked = numpy.zeros(len(weights["item_factors"]), numpy.float32)
    masked[draw.choice(items, items // 3, replace=False)] = -numpy.inf
    lengths = numpy.linalg.norm(factors, axis=1)
    for allowed in numpy.zeros(1, numpy.float32), masked:
        for by_cosine in False, True:
            inputs = {
                "users": users,
                "by_cosine": numpy.array(by_cosine),
                "allowed": allowed,
                "kept_of_group": numpy.array([min(kept, GROUP)]),
                "kept": numpy.array([kept]),
            }
            scores, found = session.run(["scores", "items"], inputs)
            expected = users @ factors.T / (numpy.where(lengths > 0, lengths, numpy.inf) if by_cosine else 1)
            expected = expected + (masked[:items] if len(allowed) > 1 else 0)
            best = -numpy.sort(-expected, axis=1)[:, :kept]
            assert scores.shape == found.shape == (7, kept)
            numpy.testing.assert_allclose(scores, best, rtol=1e-4, atol=1e-5)
            is_real = numpy.isfinite(scores)
            assert (found[is_real] < items).all()
            at = numpy.take_along_axis(expected, numpy.where(is_real, found, 0), 1)
            numpy.testing.assert_allclose(at[is_real], scores[is_real], rtol=1e-4, atol=1e-5)


def test_the_precision_is_one_of_two(connect):
    connection = connect()
    assert connection.execute("SHOW reco.cuda_precision").fetchone() == ("auto",)
    expected = connection.execute("SELECT reco.embed('red wine')").fetchone()
    connection.execute("SET reco.cuda_precision = 'float32'")
    assert connection.execute("SELECT reco.embed('red wine')").fetchone() == expected
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="cuda_precision"):
        connection.execute("SET reco.cuda_precision = 'float16'")
