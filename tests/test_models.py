"""Models as objects: import, export, versions, grants, predict, dump and restore."""

import hashlib
import json
import os
import subprocess

import numpy
import onnx
import psycopg
import pytest
from onnx import TensorProto, helper
from reference import onnx_bytes

LINEAR_INPUTS = {"x": [[1.0, 2.0], [3.0, 4.0]]}


def linear(weight=2.0, domain="", opset=17):
    """y = weight · x for x [rows, 2], and the number of rows."""
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["y"], domain=domain),
        helper.make_node("Shape", ["x"], ["shape"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 2])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 2]),
            helper.make_tensor_value_info("shape", TensorProto.INT64, [2]),
        ],
        [onnx.numpy_helper.from_array(numpy.float32(weight), "w")],
    )
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(graph, opset_imports=opsets, producer_name="test")
    model.ir_version = 8
    return model.SerializeToString()


@pytest.fixture
def model(db):
    """A small model `linear`, gone after the test."""
    db.execute("SELECT reco.import_model('linear', %b)", [linear()])
    yield "linear"
    db.execute("SELECT reco.drop_model('linear') WHERE EXISTS (SELECT FROM reco.models WHERE name = 'linear')")


def test_the_three_models_of_the_set_up_are_there(rows):
    got = rows("SELECT name, task, in_use FROM reco.models WHERE owner = 'postgres' ORDER BY name")
    assert got == [
        ("all-minilm-l6-v2", "text_embedding", True),
        ("efficientnet-lite0", "image_embedding", True),
        ("use-multilingual-v3", "text_embedding", True),
    ]


def test_a_large_model_comes_out_as_it_went_in(scalar):
    expected = onnx_bytes("all-minilm-l6-v2")
    assert scalar("SELECT reco.export_model('all-minilm-l6-v2')") == expected
    assert scalar("SELECT sha256 FROM reco.models WHERE name = 'all-minilm-l6-v2'") == hashlib.sha256(expected).hexdigest()
    stored = scalar("SELECT bool_and(pg_column_compression(data) IS NULL) FROM reco.model_part WHERE name = 'all-minilm-l6-v2'")
    assert stored


def test_a_users_own_model_runs_after_one_call(scalar, model):
    got = scalar("SELECT reco.predict(%s, %s::jsonb)", model, json.dumps(LINEAR_INPUTS))
    assert got == {"y": [[2.0, 4.0], [6.0, 8.0]], "shape": [2, 2]}


@pytest.mark.parametrize(("task", "function"), [("recommendation", "reco.train,"), ("synthesis", "reco.train_synthesizer,")])
def test_what_training_makes_is_not_imported(db, task, function):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=f'cannot import a model with task "{task}"') as error:
        db.execute("SELECT reco.import_model('imported', %b, %s)", [linear(), task])
    assert function in error.value.diag.message_hint


def test_describe_model_names_inputs_outputs_and_size(rows, model):
    got = {(kind, name): (type_, value) for kind, name, type_, value in rows("SELECT * FROM reco.describe_model(%s)", model)}
    assert got["input", "x"] == ("float", "[rows,2]")
    assert got["output", "y"] == ("float", "[rows,2]")
    assert got["output", "shape"] == ("int64", "[2]")
    assert got["property", "parameters"] == (None, "1")
    assert got["property", "opset"] == (None, "17")


def test_versions_are_promoted_rolled_back_and_dropped(rows, scalar, db, model):
    predict = "SELECT (reco.predict('linear', '{\"x\": [[1, 1]]}') #>> '{y,0,0}')::float"
    assert scalar(predict) == 2
    assert scalar("SELECT reco.import_model('linear', %b)", linear(3)) == 2
    assert scalar(predict) == 3
    db.execute("SELECT reco.promote_model('linear', 1)")
    assert scalar(predict) == 2
    assert rows("SELECT version, in_use FROM reco.models WHERE name = 'linear' ORDER BY 1") == [(1, True), (2, False)]
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="because it is in use"):
        db.execute("SELECT reco.drop_model('linear', 1)")
    db.execute("SELECT reco.drop_model('linear', 2)")
    with pytest.raises(psycopg.errors.UndefinedObject, match="no version 2") as error:
        db.execute("SELECT reco.promote_model('linear', 2)")
    assert error.value.diag.message_hint
    db.execute("SELECT reco.drop_model('linear')")
    with pytest.raises(psycopg.errors.UndefinedObject, match='model "linear" does not exist'):
        db.execute(predict)
    assert scalar("SELECT count(*) FROM reco.model_part WHERE name = 'linear'") == 0


def test_an_import_that_is_rolled_back_leaves_nothing(connect, scalar):
    connection = connect(autocommit=False)
    connection.execute("SELECT reco.import_model('fleeting', %b)", [linear()])
    assert connection.execute("SELECT reco.predict('fleeting', '{\"x\": [[1, 1]]}')").fetchone()
    connection.rollback()
    assert scalar("SELECT count(*) FROM reco.model WHERE name = 'fleeting'") == 0
    with pytest.raises(psycopg.errors.UndefinedObject):
        connection.execute("SELECT reco.predict('fleeting', '{\"x\": [[1, 1]]}')")


def test_a_model_is_its_owners_until_granted(role, db, scalar):
    owner, other = role("model_owner"), role("model_reader")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="import_model"):
        owner.execute("SELECT reco.import_model('private', %b)", [linear()])
    db.execute("GRANT EXECUTE ON FUNCTION reco.import_model TO model_owner, model_reader")
    owner.execute("SELECT reco.import_model('private', %b)", [linear()])
    assert scalar("SELECT owner FROM reco.models WHERE name = 'private'") == "model_owner"
    predict = "SELECT reco.predict('private', '{\"x\": [[1, 1]]}')"
    for statement in [predict, "SELECT reco.export_model('private')", "SELECT * FROM reco.describe_model('private')"]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match='permission denied for model "private"'):
            other.execute(statement)
    assert other.execute("SELECT count(*) FROM reco.models WHERE name = 'private'").fetchone() == (0,)
    owner.execute("SELECT reco.grant_model('private', 'model_reader', 'read')")
    assert other.execute(predict).fetchone()
    assert other.execute("SELECT count(*) FROM reco.models WHERE name = 'private'").fetchone() == (1,)
    for statement in [
        "SELECT reco.drop_model('private')",
        "SELECT reco.promote_model('private', 1)",
        "SELECT reco.grant_model('private', 'public')",
        "SELECT reco.import_model('private', reco.export_model('private'))",
    ]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner of model"):
            other.execute(statement)
    owner.execute("SELECT reco.revoke_model('private', 'model_reader')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        other.execute(predict)
    owner.execute("SELECT reco.drop_model('private')")


def test_the_catalog_cannot_be_read_or_written_around_the_functions(role):
    other = role("nosy")
    for statement in [
        "SELECT * FROM reco.model",
        "SELECT * FROM reco.model_part",
        "INSERT INTO reco.model_grant VALUES ('all-minilm-l6-v2', 'nosy')",
    ]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            other.execute(statement)


def test_only_a_superuser_names_the_library(role):
    other = role("library_setter")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        other.execute("SET reco.onnxruntime_library = '/tmp/evil.so'")
    assert other.execute("SELECT array_length(reco.embed('a'), 1)").fetchone() == (384,)
    assert other.execute("SHOW reco.onnxruntime_library").fetchone() == ("$libdir/pg_reco/libonnxruntime.so",)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        other.execute("SET reco.onnxruntime_library = '/tmp/evil.so'")


def test_unload_frees_and_the_next_call_loads_again(db, model):
    predict = "SELECT reco.predict('linear', '{\"x\": [[1, 1]]}')"
    db.execute("SELECT reco.warm('linear')")
    assert db.execute("SELECT reco.unload('linear')").fetchone() == (True,)
    assert db.execute("SELECT reco.unload('linear')").fetchone() == (False,)
    assert db.execute(predict).fetchone()


def test_models_survive_dump_and_restore(server, database, db, model):
    dump = subprocess.run(
        ["pg_dump", "--dbname", f"{server} dbname={database}", "--format=custom", "--compress=0"], capture_output=True, check=True
    )
    with psycopg.connect(server, dbname="postgres", autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS pg_reco_restored WITH (FORCE)")
        connection.execute("CREATE DATABASE pg_reco_restored TEMPLATE template0")
    subprocess.run(
        ["pg_restore", "--dbname", f"{server} dbname=pg_reco_restored", "--exit-on-error"], input=dump.stdout, check=True
    )
    try:
        query = "SELECT name, version, in_use, sha256, owner FROM reco.models ORDER BY 1, 2"
        with psycopg.connect(server, dbname="pg_reco_restored", autocommit=True) as restored:
            assert restored.execute(query).fetchall() == db.execute(query).fetchall()
            text = "SELECT reco.embed('red wine')"
            assert restored.execute(text).fetchone() == db.execute(text).fetchone()
            predict = "SELECT reco.predict('linear', '{\"x\": [[1, 1]]}')"
            assert restored.execute(predict).fetchone() == db.execute(predict).fetchone()
    finally:
        with psycopg.connect(server, dbname="postgres", autocommit=True) as connection:
            connection.execute("DROP DATABASE pg_reco_restored WITH (FORCE)")


def test_a_build_for_the_cpu_says_nothing_of_cuda_until_it_is_asked_for(connect):
    if os.path.exists("/dev/nvidia0"):
        pytest.skip("there is a GPU")
    connection = connect()
    notices = []
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    connection.execute("SELECT reco.embed('a')")
    connection.execute("SELECT reco.embed('b', 'use-multilingual-v3')")
    assert notices == []
    connection.execute("SET reco.execution_provider = 'cuda'")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="CUDA is not available: .*") as error:
        connection.execute("SELECT reco.embed('a')")
    assert "reco.execution_provider" in error.value.diag.message_hint
    connection.execute("SET reco.execution_provider = 'cpu'")
    connection.execute("SELECT reco.embed('a')")


def test_a_missing_library_is_named(connect):
    connection = connect()
    connection.execute("SET reco.onnxruntime_library = '/nowhere/libonnxruntime.so'")
    with pytest.raises(psycopg.errors.UndefinedFile, match="/nowhere/libonnxruntime.so") as error:
        connection.execute("SELECT reco.embed('a')")
    assert "reco.onnxruntime_library" in error.value.diag.message_hint
    connection.execute("RESET reco.onnxruntime_library")
    assert connection.execute("SELECT reco.embed('a')").fetchone()
