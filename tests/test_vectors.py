"""Similarity, fusion and the aggregates, against numpy; and that the aggregates run in parallel."""

import numpy
import psycopg
import pytest

RANDOM = numpy.random.default_rng(7)


@pytest.mark.parametrize("dimension", [1, 3, 16, 17, 384, 1280])
def test_similarity_equals_numpys(scalar, dimension):
    a, b = RANDOM.normal(size=(2, dimension)).astype(numpy.float32)
    dot = float(a.astype(float) @ b.astype(float))
    cosine = dot / numpy.linalg.norm(a.astype(float)) / numpy.linalg.norm(b.astype(float))
    assert scalar("SELECT reco.dot_product(%s::real[], %s::real[])", a.tolist(), b.tolist()) == pytest.approx(dot, abs=1e-3)
    got = scalar("SELECT reco.cosine_similarity(%s::real[], %s::real[])", a.tolist(), b.tolist())
    assert got == pytest.approx(cosine, abs=1e-5)


def test_similarity_of_null_is_null_and_of_zeros_is_zero(scalar):
    assert scalar("SELECT reco.cosine_similarity(NULL, '{1}')") is None
    assert scalar("SELECT reco.cosine_similarity('{0,0}', '{1,2}')") == 0


@pytest.mark.parametrize("size", [1e-45, 1e-30, 1e-19, 1e19, 3e38])
def test_similarity_holds_at_the_ends_of_the_range(scalar, size):
    a, b = [size, size], [size, 0.0]
    assert scalar("SELECT reco.cosine_similarity(%s::real[], %s::real[])", a, a) == pytest.approx(1, abs=1e-6)
    assert scalar("SELECT reco.cosine_similarity(%s::real[], %s::real[])", a, b) == pytest.approx(0.5**0.5, abs=1e-6)


def test_an_inner_product_out_of_range_is_an_error(scalar):
    assert scalar("SELECT reco.dot_product('{3e38,3e38,1}', '{3e38,-3e38,2}')") == 2
    with pytest.raises(psycopg.errors.NumericValueOutOfRange, match="inner product") as error:
        scalar("SELECT reco.dot_product('{3e38}', '{3e38}')")
    assert error.value.diag.message_hint
    with pytest.raises(psycopg.errors.NumericValueOutOfRange, match="weighted sum of the vectors"):
        scalar("SELECT reco.mean_embedding('{1}'::real[], 1e308) FROM generate_series(1, 3)")
    assert scalar("SELECT reco.fuse('{1,0}', '{1,0}', weights => '{3e38,3e38}', method => 'add')") == [1, 0]


def test_fused_vectors_weigh_their_parts(scalar):
    fused = scalar("SELECT reco.fuse('{3,0}', '{0,5,0}', weights => '{1,2}')")
    assert fused == pytest.approx([1 / 5**0.5, 0, 0, 2 / 5**0.5, 0], abs=1e-6)
    assert scalar("SELECT reco.fuse('{2,0}', '{0,2}', method => 'add')") == pytest.approx([0.5**0.5] * 2, abs=1e-6)
    assert len(scalar("SELECT reco.fuse('{1}', '{1,2}', '{1,2,3}', weights => '{1,1,1}')")) == 6


@pytest.fixture
def parallel(db):
    """A table large enough, and settings cheap enough, that aggregates run in several processes."""
    db.execute("DROP TABLE IF EXISTS parallel_rows")
    db.execute(
        """CREATE TABLE parallel_rows AS
           SELECT i AS id, i % 3 AS kind, ARRAY[i, -i, 1]::real[] AS embedding, (i % 5)::float8 AS weight,
                  (sin(i) * 1000)::real AS score
             FROM generate_series(1, 50000) AS i"""
    )
    db.execute(
        """SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
           SET min_parallel_table_scan_size = 0"""
    )
    db.execute("ANALYZE parallel_rows")
    yield db
    db.execute("DROP TABLE parallel_rows")


def plan(db, query):
    return "\n".join(line for (line,) in db.execute(f"EXPLAIN (COSTS OFF) {query}").fetchall())


def test_mean_embedding_is_the_mean_in_parallel_too(parallel):
    query = "SELECT kind, reco.mean_embedding(embedding), reco.mean_embedding(embedding, weight) FROM parallel_rows GROUP BY kind"
    assert "Partial" in plan(parallel, query) and "Gather" in plan(parallel, query)
    check = """SELECT kind, ARRAY[avg(embedding[1]::float8), avg(embedding[2]::float8), avg(embedding[3]::float8)],
                      ARRAY[sum(embedding[1] * weight), sum(embedding[2] * weight), sum(embedding[3] * weight)], sum(weight)
                 FROM parallel_rows GROUP BY kind"""
    expected = {kind: (mean, [s / w for s in sums]) for kind, mean, sums, w in parallel.execute(check).fetchall()}
    got = parallel.execute(query).fetchall()
    assert len(got) == 3
    for kind, mean, weighted in got:
        assert mean == pytest.approx(expected[kind][0], rel=1e-6)
        assert weighted == pytest.approx(expected[kind][1], rel=1e-6)


def test_mean_embedding_leaves_null_out_and_is_null_of_nothing(scalar):
    query = "SELECT reco.mean_embedding(e) FROM (VALUES ('{1,2}'::real[]), (NULL), ('{3,4}')) AS t(e)"
    assert scalar(query) == [2, 3]
    assert scalar("SELECT reco.mean_embedding(e) FROM (SELECT NULL::real[] AS e WHERE false) t") is None
    assert scalar("SELECT reco.mean_embedding('{1,2}'::real[], 0)") is None


def test_top_k_is_the_order_by_in_parallel_too(parallel):
    query = "SELECT kind, reco.top_k(id, score, 5) FROM parallel_rows GROUP BY kind"
    assert "Partial" in plan(parallel, query) and "Gather" in plan(parallel, query)
    got = parallel.execute(
        f"SELECT kind, item_id::int, score FROM ({query}) t, unnest(top_k) WITH ORDINALITY u(item_id, score, rank) ORDER BY kind, rank"
    ).fetchall()
    expected = parallel.execute(
        """SELECT kind, id, score FROM (SELECT *, row_number() OVER (PARTITION BY kind ORDER BY score DESC, id::text) AS rank
             FROM parallel_rows) t WHERE rank <= 5 ORDER BY kind, rank"""
    ).fetchall()
    assert got == expected and len(got) == 15


def test_top_k_takes_any_item_type_and_breaks_ties_by_text(rows, scalar):
    query = """SELECT (unnest(reco.top_k(item, 1, 2))).item_id FROM (VALUES ('b'), ('a'), ('c')) AS t(item)"""
    assert rows(query) == [("a",), ("b",)]
    uuid = "00000000-0000-0000-0000-00000000000a"
    assert scalar(f"SELECT (reco.top_k('{uuid}'::uuid, 1, 1))[1].item_id") == uuid
    assert rows("SELECT unnest(reco.top_k('x'::text, NULL, 3))") == []
    assert scalar("SELECT cardinality(reco.top_k(i, i, 1000000)) FROM generate_series(1, 10) i") == 10
