"""A window function reads its arguments out of rows that are freed as it goes: what it has read stays what it was."""

import pytest

# Labels and features of one row, in bytes or so: within what the allocator keeps for the next of the same size, and past it.
SIZES = [10, 3_000, 9_000]
ROWS = """
    SELECT i, ARRAY(SELECT ((i * j) % 17)::real FROM generate_series(1, {0}) j) AS features, (i % 2 = 0)::text || repeat('x', {0}) AS text,
           i % 2 = 0 AS truth
      FROM generate_series(1, 12) i OFFSET 0"""


@pytest.mark.parametrize("size", SIZES)
def test_wide_rows_are_scored_like_narrow_ones(connect, bystander, size):
    """Two classes are two classes, whatever their names take."""
    connection = connect("plain_victim")
    query = "SELECT i, reco.importance(features, {1}, 'el2n') OVER () FROM ({0}) s ORDER BY i"
    by_text = connection.execute(query.format(ROWS.format(size), "text")).fetchall()
    by_truth = connection.execute(query.format(ROWS.format(size), "truth")).fetchall()
    assert by_text == by_truth
    assert bystander.crashes() == []


def test_a_method_out_of_a_wide_row_is_read_whole(connect, bystander):
    connection = connect("plain_victim")
    query = """SELECT reco.importance_weights(x, method, fraction) OVER ()
                 FROM (SELECT i::float8 AS x, {0} AS method, 0.5::float8 AS fraction, repeat('x', 200000) AS filling FROM generate_series(1, 9) i OFFSET 0) s
                WHERE filling <> ''"""
    expected = connection.execute(query.format("'rank'")).fetchall()
    assert connection.execute(query.format("substr('rank' || repeat('y', 3), 1, 4)")).fetchall() == expected
    assert bystander.crashes() == []
