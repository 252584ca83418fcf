"""What each function promises the planner, and that plans and preloading change no answer."""

import psycopg
import pytest
import tiny
from cluster import Cluster, bindir, major_version

# Volatility (i, s, v) and parallel label (s, r, u) of every function: a new one needs a decision here.
# immutable and safe: computes from its arguments alone.
# immutable and restricted: the same, with threads of its own.
# stable and restricted: uses a model, of which each process has its own, so it stays in the leader.
# volatile and unsafe: writes, or reads a source through a cursor.
# volatile and restricted: reads or writes what all processes share.
# stable and safe: looks up what does not change within a statement.
PROMISES = {
    ("i", "s"): [
        "accuracy(anycompatible,anycompatible)",
        "accuracy_final(internal)",
        "auc(double precision,boolean)",
        "auc_final(internal)",
        "average_precision(double precision,boolean)",
        "average_precision_final(internal)",
        "boolean_confusion_accum(internal,boolean,boolean)",
        "brier(double precision,boolean)",
        "brier_final(internal)",
        "calibration(double precision,boolean,integer)",
        "calibration_accum(internal,double precision,boolean,integer)",
        "calibration_final(internal)",
        "confusion(anycompatible,anycompatible)",
        "confusion_accum(internal,anycompatible,anycompatible)",
        "confusion_average_accum(internal,anycompatible,anycompatible,text)",
        "confusion_combine(internal,internal)",
        "confusion_deserialize(bytea,internal)",
        "confusion_final(internal)",
        "confusion_serialize(internal)",
        "cosine_similarity(real[],real[])",
        "cosine_similarity(reco.numbers,reco.numbers)",
        "dot_product(real[],real[])",
        "dot_product(reco.numbers,reco.numbers)",
        "errors_accum(internal,double precision,double precision)",
        "errors_combine(internal,internal)",
        "errors_deserialize(bytea,internal)",
        "errors_serialize(internal)",
        "f1(anycompatible,anycompatible,text)",
        "f1(boolean,boolean)",
        "f1_average_final(internal)",
        "f1_final(internal)",
        "fuse(real[],real[],real[],real[],text)",
        "fuse(real[],real[],real[],text)",
        "fuse(reco.numbers,reco.numbers,reco.numbers,reco.numbers,text)",
        "fuse(reco.numbers,reco.numbers,reco.numbers,text)",
        "importance_histogram(double precision,double precision,double precision)",
        "importance_histogram(double precision,double precision,double precision,integer)",
        "importance_histogram_accum(internal,double precision,double precision,double precision)",
        "importance_histogram_accum(internal,double precision,double precision,double precision,integer)",
        "importance_histogram_combine(internal,internal)",
        "importance_histogram_deserialize(bytea,internal)",
        "importance_histogram_final(internal)",
        "importance_histogram_serialize(internal)",
        "importance_weights(double precision,text,double precision)",
        "lift(double precision,boolean,double precision)",
        "lift_accum(internal,double precision,boolean,double precision)",
        "lift_final(internal)",
        "log_loss(double precision,boolean)",
        "log_loss_final(internal)",
        "loss_stats(double precision)",
        "loss_stats_accum(internal,double precision)",
        "loss_stats_combine(internal,internal)",
        "loss_stats_deserialize(bytea,internal)",
        "loss_stats_final(internal)",
        "loss_stats_serialize(internal)",
        "mae(double precision,double precision)",
        "mae_final(internal)",
        "mean_embedding(real[])",
        "mean_embedding(real[],double precision)",
        "mean_embedding(reco.numbers)",
        "mean_embedding(reco.numbers,double precision)",
        "mean_embedding_accum(internal,real[])",
        "mean_embedding_accum(internal,real[],double precision)",
        "mean_embedding_accum(internal,reco.numbers)",
        "mean_embedding_accum(internal,reco.numbers,double precision)",
        "mean_embedding_combine(internal,internal)",
        "mean_embedding_deserialize(bytea,internal)",
        "mean_embedding_final(internal)",
        "mean_embedding_serialize(internal)",
        "ndcg(double precision,double precision,integer)",
        "ndcg_accum(internal,double precision,double precision,integer)",
        "ndcg_final(internal)",
        "numbers(bigint[])",
        "numbers(double precision[])",
        "numbers(integer[])",
        "numbers(numeric[])",
        "numbers(real[])",
        "numbers(smallint[])",
        "precision_average_final(internal)",
        "precision_final(internal)",
        "precision_score(anycompatible,anycompatible,text)",
        "precision_score(boolean,boolean)",
        "probability_errors_accum(internal,double precision,boolean)",
        "r2(double precision,double precision)",
        "r2_final(internal)",
        "ranked_accum(internal,double precision,boolean)",
        "ranked_combine(internal,internal)",
        "ranked_deserialize(bytea,internal)",
        "ranked_serialize(internal)",
        "rate(boolean,double precision)",
        "rate_accum(internal,boolean,double precision)",
        "rate_final(internal)",
        "recall_average_final(internal)",
        "recall_final(internal)",
        "recall_score(anycompatible,anycompatible,text)",
        "recall_score(boolean,boolean)",
        "rmse(double precision,double precision)",
        "rmse_final(internal)",
        "top_k(anyelement,real,integer)",
        "top_k_accum(internal,anyelement,real,integer)",
        "top_k_combine(internal,internal)",
        "top_k_deserialize(bytea,internal)",
        "top_k_final(internal)",
        "top_k_serialize(internal)",
    ],
    ("i", "r"): [
        "importance(real[],boolean,text)",
        "importance(real[],double precision,text)",
        "importance(real[],text,text)",
        "importance(reco.numbers,boolean,text)",
        "importance(reco.numbers,double precision,text)",
        "importance(reco.numbers,text,text)",
    ],
    ("s", "r"): [
        "describe_model(text,integer)",
        "embed(text,text,text)",
        "embed(text[],text,text)",
        "embed_image(bytea,text)",
        "explain(text,bigint,bigint,text)",
        "explain(text,bigint,text,text)",
        "explain(text,bigint,uuid,text)",
        "explain(text,text,bigint,text)",
        "explain(text,text,text,text)",
        "explain(text,text,uuid,text)",
        "explain(text,uuid,bigint,text)",
        "explain(text,uuid,text,text)",
        "explain(text,uuid,uuid,text)",
        "export_model(text,integer)",
        "highlight(text,text,text,text,text)",
        "model_name(uuid)",
        "model_users(text)",
        "predict(text,jsonb)",
        "recommend(text,bigint,integer,boolean,text,text,anycompatiblearray,double precision,text,integer)",
        "recommend(text,text,integer,boolean,text,text,anycompatiblearray,double precision,text,integer)",
        "recommend(text,uuid,integer,boolean,text,text,anycompatiblearray,double precision,text,integer)",
        "recommend_all(text,integer,boolean,text,anycompatiblearray,double precision,text,integer)",
        "recommend_for_items(text,anyarray,double precision[],integer,boolean,text,anycompatiblearray,double precision,text,integer)",
        "recommend_for_items(text,text,double precision[],integer,boolean,text,anycompatiblearray,double precision,text,integer)",
        "rerank(text,text[],text)",
        "search(text,text,integer,text,text,double precision,text,integer)",
        "search_matches(text,text,text)",
        "related_queries(text,text,integer)",
        "similar_items(text,bigint,integer)",
        "similar_items(text,text,integer)",
        "similar_items(text,uuid,integer)",
        "similar_users(text,bigint,integer)",
        "similar_users(text,text,integer)",
        "similar_users(text,uuid,integer)",
        "suggest(text,text,integer)",
        "synthesize(anyelement,text,bigint,jsonb,bigint)",
        "synthesize(text,bigint,jsonb,bigint)",
        "synthesize_related(text,bigint,jsonb,bigint)",
    ],
    ("s", "s"): [
        "numbers_in(cstring)",
        "numbers_out(reco.numbers)",
        "role_in(cstring)",
        "role_out(reco.role)",
    ],
    ("v", "r"): [
        "cache_folders()",
        "reset_stat_models(text)",
        "stat_models()",
        "stat_progress()",
        "stat_workers()",
    ],
    ("v", "u"): [
        "alignment_weights(text,text,text,jsonb,bigint)",
        "augment(anyelement,text,text,bigint,text,boolean,jsonb,bigint)",
        "augment(text,text,bigint,text,boolean,jsonb,bigint)",
        "augment_interactions(text,bigint,text,text,jsonb,bigint)",
        "augment_text(text,integer,text,jsonb,bigint)",
        "augment_text(text[],integer,text,jsonb,bigint)",
        "augment_interactions(text,bigint,text,text,jsonb,bigint)",
        "compare_models(text,text,text,integer,boolean,text[],text[],text,text,integer,integer,double precision,bigint)",
        "compare_training(text,text,text,text,text,text,jsonb,integer,integer,double precision,double precision,bigint)",
        "create_function(text,text,integer,text)",
        "create_search_function(text,text,integer)",
        "create_view(text,text,integer,text)",
        "cross_validate(text,text,jsonb,integer,integer,text[],bigint,text,text,jsonb,interval)",
        "drop_model(text,integer)",
        "embed_images(text,text)",
        "embed_query(text,text,text)",
        "evaluate(text,text,integer,boolean,text[],text[],text,text,integer,integer,double precision,bigint)",
        "evaluate_search(text,text,integer,double precision,text[],text,integer,double precision,bigint)",
        "compare_search(text,text,text,integer,double precision,text[],text,integer,double precision,bigint)",
        "find_label_errors(text,text,text,jsonb,bigint)",
        "grant_model(text,text,text)",
        "import_model(text,bytea,text,bytea,jsonb)",
        "importance(text,text,text,text,text,jsonb,text,bigint)",
        "importance(text,text[],text,text,text,jsonb,text,bigint)",
        "interaction_importance(text,text,text,text,jsonb)",
        "promote_model(text,integer)",
        "prune(text,text,double precision,text,text,text,jsonb,bigint)",
        "prune_versions(text,integer)",
        "refresh(text,text,integer)",
        "resample_aligned(text,text,bigint,text,jsonb,bigint)",
        "revoke_model(text,text,text)",
        "split(text,text,double precision,bigint)",
        "sweep_cache()",
        "synthetic_report(text,text,text,text,jsonb,bigint)",
        "synthetic_report_html(text,text,text,text,jsonb,bigint)",
        "train(text,text,text,jsonb,bigint,text,text,jsonb,interval,text,integer)",
        "tune_search(text,text,jsonb,text,integer,text,double precision)",
        "predict_query(text,text,text)",
        "train_predictor(text,text,text,text,text,jsonb,text,text,text,text,text,bigint,integer)",
        "train_search(text,text,jsonb,text,text,text,text,bigint,integer)",
        "train_synthesizer(text,text,text,jsonb,text,bigint,integer)",
        "tune(text,text,jsonb,integer,text,interval,double precision,bigint,text,text,jsonb,interval)",
        "revoke_from_public()",
        "unload(text)",
        "warm(text)",
    ],
}

PARALLEL = """
    SET max_parallel_workers_per_gather = 2;
    SET parallel_setup_cost = 0;
    SET parallel_tuple_cost = 0;
    SET min_parallel_table_scan_size = 0;
    SET min_parallel_index_scan_size = 0"""
# PostgreSQL 16 gave it another name.
FORCED = "debug_parallel_query" if major_version() >= 16 else "force_parallel_mode"

AGGREGATES = [
    "SELECT reco.top_k(item, score, 5) FROM spread",
    "SELECT part, reco.top_k(item, score, 3) FROM spread GROUP BY part ORDER BY part",
    "SELECT reco.top_k(label, score, 5) FROM spread WHERE part = 3",
    "SELECT reco.mean_embedding(vector) FROM spread",
    "SELECT reco.mean_embedding(vector, score) FROM spread",
    "SELECT part, reco.mean_embedding(vector, score) FROM spread GROUP BY part ORDER BY part",
    "SELECT part, reco.loss_stats(score) FROM spread GROUP BY part ORDER BY part",
    "SELECT part, reco.importance_histogram(score, 0, 10007, 20) FROM spread GROUP BY part ORDER BY part",
    "SELECT part, reco.auc(score, item % 3 = 0) FROM spread GROUP BY part ORDER BY part",
    "SELECT reco.ndcg(score, part, 100) FROM spread",
    "SELECT reco.lift(score, item % 3 = 0, 0.1) FROM spread",
    "SELECT reco.log_loss(score / 10007, item % 3 = 0) FROM spread",
    "SELECT reco.r2(score, item) FROM spread",
    "SELECT reco.f1(item % 4, part, 'macro') FROM spread",
    "SELECT reco.confusion(item % 4, part) FROM spread",
]
# Whose parts are put together without rounding.
EXACT = ("top_k", "loss_stats", "importance_histogram", "auc", "f1", "confusion")
USES_MODELS = [
    "reco.embed('red ' || label, 'tiny')",
    "(SELECT sum(score) FROM reco.recommend('shop_ials', item, 2))",
    "(SELECT sum(score) FROM reco.recommend_for_items('shop_ials', ARRAY[item % 50], k => 2))",
    "(SELECT sum(similarity) FROM reco.similar_items('shop_item_knn', item % 50, 2))",
    "(SELECT sum(score) FROM reco.recommend('shop_ials', item, 2, filter => 'SELECT i AS item_id FROM generate_series(1, 9) i'))",
    "(SELECT sum(contribution) FROM reco.explain('shop_ials', item % 50, 3))",
    "reco.predict('linear', jsonb_build_object('x', jsonb_build_array(jsonb_build_array(item, 2))))",
    "(SELECT count(*) FROM reco.model_users('shop_ials') WHERE item > 0)",
    "(SELECT count(*) FROM reco.describe_model('linear') WHERE item > 0)",
    "(SELECT embedding FROM reco.embed(ARRAY['red ' || label], 'tiny'))",
    "length(reco.export_model(CASE WHEN item > 0 THEN 'linear' ELSE 'tiny' END))",
]


def fill(connection):
    tiny.prepare(connection)
    connection.execute(
        """CREATE TABLE spread AS
           SELECT i AS item, (i % 7)::int AS part, 'wine ' || i AS label, (i * 7919 % 10007)::real AS score,
                  ARRAY[i % 3, i % 5, 1]::real[] AS vector
             FROM generate_series(1, 20000) i;
           ANALYZE spread"""
    )


@pytest.fixture(scope="module")
def cluster():
    with Cluster("max_worker_processes = 12\nmax_parallel_workers = 8\n") as made:
        made.start()
        with made.connect() as connection:
            fill(connection)
        yield made


@pytest.fixture
def db(cluster):
    with cluster.connect() as connection:
        yield connection


def plan(connection, query):
    return "\n".join(line for (line,) in connection.execute(f"EXPLAIN (COSTS OFF, VERBOSE) {query}").fetchall())


def test_every_function_has_the_promises_that_were_decided(db):
    """What runs in a worker must be safe there; what is called immutable is folded into plans and indexes."""
    declared = {
        signature.removeprefix("reco."): (volatility, parallel)
        for signature, volatility, parallel in db.execute(
            """SELECT format('%s(%s)', proname, (SELECT string_agg(format_type(t, NULL), ',' ORDER BY n)
                                                   FROM unnest(proargtypes) WITH ORDINALITY AS a(t, n))),
                      provolatile::text, proparallel::text
                 FROM pg_proc WHERE pronamespace IN ('reco'::regnamespace, 'reco_internal'::regnamespace)"""
        )
    }
    decided = {signature: promise for promise, signatures in PROMISES.items() for signature in signatures}
    assert declared == decided


def test_every_object_and_every_column_is_described(db):
    described = """
        WITH members AS (SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                          WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'pg_reco'),
             parts AS (SELECT classid, objid, 0 AS part FROM members
                        WHERE classid IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_type'::regclass, 'pg_namespace'::regclass)
                       UNION ALL
                       SELECT 'pg_class'::regclass, c.oid, a.attnum
                         FROM members m JOIN pg_class c ON (m.classid = 'pg_class'::regclass AND m.objid = c.oid AND relkind IN ('r', 'v'))
                                                        OR (m.classid = 'pg_type'::regclass AND m.objid = c.reltype AND relkind = 'c')
                         JOIN pg_attribute a ON a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped)
        SELECT pg_describe_object(classid, objid, part), d.description IS NOT NULL
          FROM parts p LEFT JOIN pg_description d ON (d.classoid, d.objoid, d.objsubid) = (p.classid, p.objid, p.part)
          LEFT JOIN pg_type t ON p.classid = 'pg_type'::regclass AND t.oid = p.objid
         -- Array types, and those of tables and views, come by themselves.
         WHERE t.oid IS NULL OR (t.typelem = 0 AND (t.typrelid = 0 OR (SELECT relkind FROM pg_class WHERE oid = t.typrelid) = 'c'))"""
    everything = db.execute(described).fetchall()
    assert [name for name, is_described in everything if not is_described] == []
    assert len(everything) > 150


def test_what_only_postgresql_calls_is_kept_out_of_sight(db):
    assert db.execute(
        """SELECT oid::regprocedure::text FROM pg_proc
            WHERE pronamespace = 'reco'::regnamespace AND prokind = 'f' AND 'internal'::regtype = ANY (proargtypes::oid[] || prorettype)"""
    ).fetchall() == []  # fmt: skip
    assert not db.execute("SELECT has_schema_privilege('public', 'reco_internal', 'USAGE')").fetchone()[0]


def test_every_aggregate_can_run_in_parts(db):
    assert db.execute(
        """SELECT aggfnoid::regprocedure::text FROM pg_aggregate JOIN pg_proc p ON p.oid = aggfnoid
            WHERE pronamespace = 'reco'::regnamespace
              AND 0 IN (aggcombinefn::oid, CASE aggtranstype WHEN 'internal'::regtype THEN aggserialfn::oid ELSE 1 END,
                        CASE aggtranstype WHEN 'internal'::regtype THEN aggdeserialfn::oid ELSE 1 END)"""
    ).fetchall() == []  # fmt: skip


@pytest.mark.parametrize("query", AGGREGATES)
def test_an_aggregate_in_parts_equals_the_whole(db, query):
    db.execute("SET max_parallel_workers_per_gather = 0")
    assert "Partial" not in plan(db, query)
    expected = db.execute(query).fetchall()
    db.execute(PARALLEL)
    # The planner takes sorting by group where it seems cheaper; both ways have parts.
    made = plan(db, query)
    assert "Partial" in made and "Finalize" in made and "Gather" in made, made
    got = db.execute(query).fetchall()
    if any(name in query for name in EXACT):
        assert got == expected
    else:
        for ours, theirs in zip(got, expected, strict=True):
            assert ours[:-1] == theirs[:-1] and ours[-1] == pytest.approx(theirs[-1], rel=1e-6)


def nodes(node, in_worker=False):
    """Every node of a plan, and whether it runs in workers: what lies under Gather does, but for Gather's own sub-plans."""
    yield node, in_worker
    gathers = node["Node Type"] in ("Gather", "Gather Merge")
    for child in node.get("Plans", []):
        of_the_node = child["Parent Relationship"] in ("SubPlan", "InitPlan")
        yield from nodes(child, in_worker or (gathers and not of_the_node))


def says(node):
    """What a node computes, without its children."""
    return str({key: value for key, value in node.items() if key != "Plans"})


@pytest.mark.parametrize("expression", USES_MODELS)
def test_what_uses_a_model_runs_in_the_leader_of_a_parallel_plan(cluster, expression):
    query = f"SELECT item, {expression} FROM spread WHERE item <= 40"
    with cluster.connect() as serial, cluster.connect() as parallel:
        expected = serial.execute(f"{query} ORDER BY item").fetchall()
        parallel.execute(PARALLEL)
        ((made,),) = parallel.execute(f"EXPLAIN (FORMAT JSON, VERBOSE) {query}").fetchall()
        placed = list(nodes(made[0]["Plan"]))
        assert any(in_worker for _, in_worker in placed), made
        assert any("reco" in says(node) for node, in_worker in placed if not in_worker)
        assert not any("reco" in says(node) for node, in_worker in placed if in_worker), made
        # The first call of a session, in which models are loaded and sources are looked up.
        assert sorted(parallel.execute(query).fetchall()) == expected


@pytest.mark.parametrize("name", tiny.ANSWERS)
def test_answers_are_the_same_where_parallel_mode_is_forced(cluster, name):
    query = tiny.ANSWERS[name]
    with cluster.connect() as serial, cluster.connect() as forced:
        forced.execute(f"SET {FORCED} = on")
        assert forced.execute(query).fetchall() == serial.execute(query).fetchall()


@pytest.mark.parametrize("query", AGGREGATES)
def test_aggregates_are_the_same_where_parallel_mode_is_forced(db, query):
    db.execute("SET max_parallel_workers_per_gather = 0")
    expected = db.execute(query).fetchall()
    db.execute(f"RESET max_parallel_workers_per_gather; SET {FORCED} = on")
    for ours, theirs in zip(db.execute(query).fetchall(), expected, strict=True):
        assert ours[:-1] == theirs[:-1]
        assert ours[-1] == theirs[-1] if any(name in query for name in EXACT) else ours[-1] == pytest.approx(theirs[-1], rel=1e-6)


def test_training_and_embedding_a_query_work_where_parallel_mode_is_forced(db):
    db.execute(f"SET {FORCED} = on")
    db.execute("BEGIN")
    assert tiny.train(db, "forced", "ials", source="SELECT * FROM purchase") == 1
    assert db.execute("SELECT count(*) FROM reco.recommend('forced', 7, 3)").fetchone() == (3,)
    source = "SELECT item AS id, label AS text FROM spread WHERE item <= 500"
    assert db.execute("SELECT count(*), count(embedding) FROM reco.embed_query(%s, 'tiny')", [source]).fetchone() == (500, 500)
    db.execute("ROLLBACK")


@pytest.mark.skipif(not (bindir().parent / "lib" / "llvmjit.so").exists(), reason="this PostgreSQL has no JIT here")
def test_compiled_plans_give_the_same_answers(db):
    pairs = [*tiny.ANSWERS.values(), *AGGREGATES, "SELECT sum(reco.cosine_similarity(vector, '{1,2,3}')) FROM spread"]
    db.execute("SET jit = off; SET max_parallel_workers_per_gather = 0")
    expected = [db.execute(query).fetchall() for query in pairs]
    db.execute("SET jit = on; SET jit_above_cost = 0; SET jit_inline_above_cost = 0; SET jit_optimize_above_cost = 0")
    assert db.execute("SELECT pg_jit_available()").fetchone() == (True,)
    assert "JIT" in "".join(line for (line,) in db.execute(f"EXPLAIN ANALYZE {pairs[-1]}").fetchall())
    assert [db.execute(query).fetchall() for query in pairs] == expected


@pytest.mark.parametrize("setting", ["shared_preload_libraries", "session_preload_libraries"])
def test_the_library_can_be_preloaded(cluster, setting):
    """A forked backend must be able to run models although its parent has the library already."""
    with cluster.connect() as connection:
        expected = tiny.answers(connection)
    cluster.restart(f"{setting} = '$libdir/pg_reco'\nreco.threads = 1\nreco.max_batch = 7\n")
    try:
        with cluster.connect() as connection, cluster.connect() as another:
            assert connection.execute("SELECT current_setting('reco.threads'), current_setting('reco.max_batch')").fetchone() == ("1", "7")
            for one in (connection, another):
                assert tiny.answers(one) == expected
            connection.execute(PARALLEL)
            assert connection.execute(AGGREGATES[0]).fetchone() == another.execute(AGGREGATES[0]).fetchone()
            connection.execute("BEGIN")
            tiny.train(connection, "preloaded")
            connection.execute("ROLLBACK")
            with pytest.raises(psycopg.errors.UndefinedObject):
                connection.execute("SELECT reco.recommend('preloaded', 1)")
        # Before any backend: ONNX Runtime and its threads belong to those that run models.
        maps = open(f"/proc/{cluster.postmaster()}/maps").read()
        assert "libonnxruntime" not in maps and ("pg_reco.so" in maps) == (setting == "shared_preload_libraries")
    finally:
        cluster.restart()


def test_an_index_on_a_similarity_can_be_made_and_is_used(db):
    """IMMUTABLE is meant: the planner may compute it once and keep it."""
    db.execute("BEGIN; CREATE INDEX near ON spread (reco.cosine_similarity(vector, '{1,0,0}'))")
    db.execute("ANALYZE spread; SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
    query = "SELECT item FROM spread ORDER BY reco.cosine_similarity(vector, '{1,0,0}') DESC LIMIT 3"
    assert "Index Scan" in plan(db, query)
    db.execute("ROLLBACK")


def test_no_function_runs_with_its_owners_rights_under_the_callers_search_path(rows):
    found = rows(
        """SELECT oid::regprocedure::text FROM pg_proc
            WHERE pronamespace = 'reco'::regnamespace AND prosecdef AND NOT coalesce(proconfig::text LIKE '%search_path=%', false)"""
    )
    assert found == []
