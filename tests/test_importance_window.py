"""Scores and weights beside the rows of a window, and the aggregates of scores and losses."""

import math
import threading
import time

import numpy
import psycopg
import pytest

METHODS = ["loss", "el2n", "grad_norm", "aum", "forgetting", "self_confidence", "tracin", "data_oob"]
PARALLEL = """
    SET max_parallel_workers_per_gather = 2;
    SET parallel_setup_cost = 0;
    SET parallel_tuple_cost = 0;
    SET min_parallel_table_scan_size = 0"""


@pytest.fixture(scope="module")
def samples(server, database):
    """Three groups of 200 rows: the label is the side of a line, and wrong in every tenth row."""
    random = numpy.random.default_rng(3)
    features = random.normal(size=(600, 4)).round(3)
    side = features @ [2, -1, 0.5, 0] > 0
    wrong = numpy.arange(600) % 10 == 7
    with psycopg.connect(server, dbname=database, autocommit=True) as connection:
        connection.execute("CREATE TABLE sample (id int, part int, features real[], side boolean, number double precision, wrong boolean)")
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO sample VALUES (%s, %s, %s, %s, %s, %s)",
                [
                    (i, i % 3, features[i].tolist(), bool(side[i] ^ wrong[i]), float(features[i] @ [2, -1, 0.5, 0]) + 9 * bool(wrong[i]), bool(wrong[i]))
                    for i in range(600)
                ],
            )
        connection.execute("ANALYZE sample")
        yield
        connection.execute("DROP TABLE sample")


def found(rows):
    """How many of the wrong rows are among as many with the lowest scores: (score, wrong)."""
    wrong = sum(wrong for _, wrong in rows)
    return sum(wrong for _, wrong in sorted(rows)[:wrong]) / wrong


@pytest.mark.parametrize("method", METHODS)
def test_wrong_labels_have_low_scores(rows, samples, method):
    got = rows(f"SELECT reco.importance(features, side, '{method}') OVER (), wrong FROM sample")
    assert len(got) == 600 and all(math.isfinite(score) for score, _ in got)
    # A tenth is chance; learned and forgotten is a coarse sign on clean data.
    assert found(got) > (0.2 if method == "forgetting" else 0.6), found(got)


def test_the_default_method_is_auto(rows, samples):
    got = rows("SELECT reco.importance(features, side) OVER (), reco.importance(features, side, 'auto') OVER (), wrong FROM sample")
    assert all(default == auto for default, auto, _ in got)
    assert found([(score, wrong) for score, _, wrong in got]) > 0.6


def test_each_partition_is_scored_by_itself_and_rows_keep_their_columns(rows, samples):
    together = rows(
        """SELECT id, part, reco.importance(features, side, 'el2n') OVER (PARTITION BY part ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND
                  UNBOUNDED FOLLOWING) FROM sample"""
    )
    assert len(together) == 600
    for part in range(3):
        alone = rows(f"SELECT id, part, reco.importance(features, side, 'el2n') OVER (ORDER BY id) FROM sample WHERE part = {part}")
        assert sorted(row for row in together if row[1] == part) == sorted(alone)


def test_labels_of_every_type_are_the_same_classes(rows, samples):
    scores = "reco.importance(features, {}, 'el2n') OVER (ORDER BY id)"
    labels = ["side", "side::text", "side::int", "side::int::bigint", "side::int::smallint", "side::int::numeric", "side::int::real"]
    got = rows(f"SELECT {', '.join(scores.format(label) for label in labels)} FROM sample ORDER BY id LIMIT 50")
    # Classes are in the order of their names: false, true, 0, 1.
    assert all(len(set(row)) == 1 for row in got), got[0]


def test_numbers_are_predicted_where_there_are_many(rows, samples):
    assert found(rows("SELECT reco.importance(features, number, 'loss') OVER (), wrong FROM sample")) > 0.5


def test_rows_without_features_or_label_have_no_score_and_change_none(rows, samples):
    query = "SELECT id, reco.importance(features, side, 'el2n') OVER (ORDER BY id) FROM ({}) s"
    alone = rows(query.format("SELECT * FROM sample WHERE id % 7 <> 0 AND id % 11 <> 0"))
    nulls = "SELECT id, CASE WHEN id % 7 <> 0 THEN features END AS features, CASE WHEN id % 11 <> 0 THEN side END AS side FROM sample"
    got = rows(query.format(nulls))
    assert [row for row in got if row[1] is not None] == alone
    assert all((score is None) == (id % 7 == 0 or id % 11 == 0) for id, score in got)
    assert rows("SELECT reco.importance(NULL::real[], side, 'el2n') OVER () FROM sample LIMIT 2") == [(None,), (None,)]
    assert rows("SELECT reco.importance(features, side, 'el2n') OVER () FROM sample WHERE false") == []


def test_scores_are_the_same_again_and_on_any_number_of_threads(db, rows, samples):
    query = "SELECT reco.importance(features, side, 'el2n') OVER (ORDER BY id) FROM sample"
    expected = rows(query)
    for threads in (1, 3):
        db.execute(f"SET reco.threads = {threads}")
        assert rows(query) == expected


def test_scores_and_weights_are_the_same_where_parallel_mode_is_forced(db, rows, samples):
    query = """SELECT id, score, reco.importance_weights(score) OVER (PARTITION BY part)
                 FROM (SELECT *, reco.importance(features, side, 'el2n') OVER (ORDER BY id) AS score FROM sample) s ORDER BY id"""
    expected = rows(query)
    ((version,),) = rows("SELECT current_setting('server_version_num')::int")
    db.execute(f"SET {'debug_parallel_query' if version >= 160000 else 'force_parallel_mode'} = on")
    assert rows(query) == expected


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ("features, side, 'magic'", psycopg.errors.InvalidParameterValue, 'unknown method "magic"'),
        ("features, side, NULL", psycopg.errors.InvalidParameterValue, 'argument "method" must not be null'),
        ("features, side, 'knn_shapley'", psycopg.errors.InvalidParameterValue, 'method "knn_shapley" cannot be used as a window function'),
        ("features, side, 'influence'", psycopg.errors.InvalidParameterValue, 'method "influence" cannot be used as a window function'),
        ("features, true, 'el2n'", psycopg.errors.InvalidParameterValue, 'label "label" has only one class, "true"'),
        ("features, 'NaN'::float8, 'el2n'", psycopg.errors.InvalidParameterValue, 'invalid value for column "label" of row 1 of the partition: NaN'),
        ("features, 7, 'el2n'", psycopg.errors.InvalidParameterValue, 'label "label" has only one class, "7"'),
        ("'{1,2}', side, 'el2n'", psycopg.errors.InvalidParameterValue, "the source has no features"),
        ("'{}', side, 'el2n'", psycopg.errors.InvalidParameterValue, "features of row 1 must not be empty"),
        ("'{1,NULL}', side, 'el2n'", psycopg.errors.InvalidParameterValue, "features of row 1 must not contain nulls"),
        ("'{1,Infinity}', side, 'el2n'", psycopg.errors.InvalidParameterValue, "features of row 1 must not contain inf"),
        ("'{1,NaN}', side, 'el2n'", psycopg.errors.InvalidParameterValue, "features of row 1 must not contain NaN"),
        (
            "CASE WHEN id = 2 THEN '{1,2,3}' ELSE features END, side, 'el2n'",
            psycopg.errors.InvalidParameterValue,
            'column "features" of row 3 of the partition has a vector of 3 dimensions, not 4 as before',
        ),
    ],
)
def test_what_cannot_be_scored_is_named(rows, samples, arguments, error, message):
    with pytest.raises(error) as raised:
        rows(f"SELECT reco.importance({arguments}) OVER (ORDER BY id) FROM sample")
    assert message in str(raised.value), raised.value
    assert rows("SELECT 1") == [(1,)]


def test_window_functions_need_a_window(rows, samples):
    for call in ("reco.importance(features, side)", "reco.importance_weights(number)"):
        with pytest.raises(psycopg.errors.WrongObjectType, match="requires an OVER clause"):
            rows(f"SELECT {call} FROM sample")


def test_an_error_in_an_argument_ends_the_query_and_not_the_connection(rows, samples):
    with pytest.raises(psycopg.errors.DivisionByZero):
        rows("SELECT reco.importance(ARRAY[1 / (300 - id)], side, 'el2n') OVER () FROM sample")
    assert rows("SELECT count(*) FROM sample") == [(600,)]


def test_a_window_can_be_cancelled(connect):
    connection, other = connect(), connect()
    pid = connection.info.backend_pid
    for after in (0.1, 1.5):
        timer = threading.Timer(after, lambda: other.execute("SELECT pg_cancel_backend(%s)", [pid]))
        timer.start()
        start = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute(
                """SELECT count(score) FROM (SELECT reco.importance(ARRAY[sin(i), cos(i * 7), sin(i * 11)]::real[], sin(i * 13) > 0, 'el2n') OVER () AS score
                                               FROM generate_series(1, 2000000) i) s"""
            )
        assert time.monotonic() - start < after + 5
        timer.join()
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_weights_rise_with_the_rank_or_the_score(rows):
    values = "(VALUES (1, 3.0), (2, -1.0), (3, 0.5), (4, 9.0), (5, 2.0), (6, NULL), (7, 'NaN')) AS s (id, score)"

    def weights(arguments):
        return [weight for _, weight in sorted(rows(f"SELECT id, reco.importance_weights({arguments}) OVER () FROM {values}"))]

    assert weights("score::float8, fraction => 0.5") == [1, 0, 0.5, 1, 1, None, None]
    assert weights("score::float8, 'rank', 0.5") == weights("score, fraction => 0.5")
    assert weights("score::float8, 'drop', 0.4") == [1, 0, 0, 1, 1, None, None]
    assert weights("score::float8, 'clip', 0") == pytest.approx([0.4, 0, 0.15, 1, 0.3, None, None])
    assert weights("score::float8") == [1, 0, 1, 1, 1, None, None]


def test_weights_are_of_each_partition(rows):
    got = rows("SELECT i % 2, i, reco.importance_weights(i, 'rank', 1) OVER (PARTITION BY i % 2) FROM generate_series(1, 6) i")
    assert sorted(got) == [(0, 2, 0), (0, 4, 0.5), (0, 6, 1), (1, 1, 0), (1, 3, 0.5), (1, 5, 1)]


def test_weights_of_scores_fit_in_one_query(rows, samples):
    got = rows(
        """SELECT avg(weight), avg(weight) FILTER (WHERE wrong)
             FROM (SELECT reco.importance_weights(score, 'drop', 0.1) OVER () AS weight, wrong
                     FROM (SELECT reco.importance(features, side, 'el2n') OVER () AS score, wrong FROM sample) s) w"""
    )
    assert got[0][0] == pytest.approx(0.9) and got[0][1] < 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("i, 'soft'", 'unknown method "soft"'),
        ("i, NULL", 'argument "method" must not be null'),
        ("i, fraction => NULL", 'argument "fraction" must not be null'),
        ("i, fraction => 1.5", "invalid value for fraction: 1.5"),
        ("i, fraction => 'NaN'", "invalid value for fraction: NaN"),
    ],
)
def test_weights_that_cannot_be_given_are_named(rows, arguments, message):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=message):
        rows(f"SELECT reco.importance_weights({arguments}) OVER () FROM generate_series(1, 3) i")


def test_a_large_partition_keeps_its_weights(rows):
    got = rows(
        """SELECT count(*), sum(weight), min(weight), max(weight)
             FROM (SELECT reco.importance_weights(i, 'drop', 0.25) OVER (PARTITION BY i % 2) AS weight FROM generate_series(1, 400000) i) s"""
    )
    assert got == [(400000, 300000, 0, 1)]


@pytest.fixture
def losses(db):
    db.execute("DROP TABLE IF EXISTS loss")
    db.execute(
        """CREATE TABLE loss AS
           SELECT i AS id, i % 4 AS part, CASE WHEN i % 50 = 0 THEN NULL ELSE sin(i) * 10.0 ^ (i % 40 - 20) END AS loss FROM generate_series(1, 50000) i"""
    )
    db.execute("ANALYZE loss")
    yield db
    db.execute("DROP TABLE loss")


def plan(db, query):
    return "\n".join(line for (line,) in db.execute(f"EXPLAIN (COSTS OFF) {query}").fetchall())


def test_statistics_are_postgresqls_own(losses):
    query = """SELECT part, count(loss), avg(loss), stddev_pop(loss), min(loss), max(loss), (reco.loss_stats(loss)).* FROM loss GROUP BY part"""
    for _, count, mean, deviation, least, greatest, *ours in losses.execute(query).fetchall():
        assert [ours[0], *ours[3:]] == [count, least, greatest]
        assert ours[1:3] == pytest.approx([mean, deviation], rel=1e-10)


def test_statistics_are_the_same_to_the_last_bit_in_any_order_and_any_plan(losses):
    queries = ["SELECT reco.loss_stats(loss) FROM loss", "SELECT part, reco.loss_stats(loss) FROM loss GROUP BY part ORDER BY part"]
    losses.execute("SET max_parallel_workers_per_gather = 0")
    expected = [losses.execute(query).fetchall() for query in queries]
    backwards = "SELECT reco.loss_stats(loss ORDER BY id DESC) FROM loss"
    assert losses.execute(backwards).fetchall() == expected[0]
    losses.execute(PARALLEL)
    for query, result in zip(queries, expected, strict=True):
        made = plan(losses, query)
        assert "Partial" in made and "Finalize" in made and "Gather" in made, made
        assert losses.execute(query).fetchall() == result


def test_statistics_lose_nothing_where_sums_of_doubles_do(rows):
    assert rows("SELECT (reco.loss_stats(x)).* FROM unnest(ARRAY[1e16, 1e16 + 2, 1e16 + 4]) x") == [
        (3, 1e16 + 2, pytest.approx(math.sqrt(8 / 3), rel=1e-15), 1e16, 1e16 + 4)
    ]
    assert rows("SELECT (reco.loss_stats(x)).mean FROM unnest(ARRAY[1e300, 1, -1e300]) x") == [(1 / 3,)]


def test_statistics_of_nothing_are_a_count_of_zero(rows):
    for source in ("unnest('{}'::float8[]) x", "unnest('{NULL,NULL}'::float8[]) x"):
        assert rows(f"SELECT (reco.loss_stats(x)).* FROM {source}") == [(0, None, None, None, None)]
    assert rows("SELECT (reco.loss_stats(x)).* FROM unnest('{-2.5}'::float8[]) x") == [(1, -2.5, 0, -2.5, -2.5)]


def test_a_histogram_counts_as_width_bucket_does_in_parallel_too(losses):
    query = "SELECT reco.importance_histogram(loss, -5, 5, 8) FROM loss"
    counts = dict(losses.execute("SELECT width_bucket(loss, -5, 5, 8), count(*) FROM loss WHERE loss IS NOT NULL GROUP BY 1").fetchall())
    expected = [counts.get(bucket, 0) for bucket in range(10)]
    losses.execute("SET max_parallel_workers_per_gather = 0")
    assert losses.execute(query).fetchone() == (expected,)
    losses.execute(PARALLEL)
    assert "Partial" in plan(losses, query) and "Gather" in plan(losses, query)
    assert losses.execute(query).fetchone() == (expected,)


def test_a_histogram_has_ten_parts_unless_said_and_what_lies_outside(rows, scalar):
    assert scalar("SELECT reco.importance_histogram(x, 0, 1) FROM generate_series(0, 0.999, 0.001) x") == [0, *[100] * 10, 0]
    ends = "unnest('{-Infinity,-0.1,0,0.5,1,Infinity,NULL}'::float8[]) x"
    assert scalar(f"SELECT reco.importance_histogram(x, 0, 1, 2) FROM {ends}") == [2, 1, 1, 2]
    assert scalar("SELECT reco.importance_histogram(x, 0, 1) FROM unnest('{}'::float8[]) x") is None
    assert scalar("SELECT reco.importance_histogram(NULL, 0, 1, 2)") == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("loss_stats(sqrt(i) / 'Infinity' * 'Infinity')", "invalid value for loss: NaN"),
        ("loss_stats('-Infinity'::float8)", "invalid value for loss: -inf"),
        ("importance_histogram('NaN'::float8, 0, 1)", "invalid value for score: NaN"),
        ("importance_histogram(i, 0, i)", "histogram has 10 buckets from 0 to 1 in one row and 10 from 0 to 2 in another"),
        ("importance_histogram(i, 1, 1)", "invalid histogram range: 1 to 1"),
        ("importance_histogram(i, 0, 'Infinity')", "invalid histogram range: 0 to inf"),
        ("importance_histogram(i, 0, NULL)", 'argument "high" must not be null'),
        ("importance_histogram(i, 0, 1, 0)", "invalid value for buckets: 0"),
        ("importance_histogram(i, 0, 1, 10001)", "invalid value for buckets: 10001"),
        ("importance_histogram(i, 0, 1, NULL)", 'argument "buckets" must not be null'),
    ],
)
def test_what_cannot_be_counted_is_named(rows, call, message):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=message):
        rows(f"SELECT reco.{call} FROM generate_series(1, 3) i")
