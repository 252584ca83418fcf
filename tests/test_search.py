"""Search: by words, by meaning, by both; filters, judgements, Chinese, and what goes wrong."""

import json
import random
import struct

import psycopg
import pytest

PRODUCTS = [
    (1, "Wireless mouse", "Ergonomic 2.4 GHz mouse with silent buttons", 19.9),
    (2, "Gaming keyboard", "Mechanical keyboard with RGB light, wired by USB-C", 89.0),
    (3, "USB-C cable 2m", "Charging cable, braided, 60 W", 9.5),
    (4, "Running shoes red", "Light shoes for women, size 38", 75.0),
    (5, "Trail running shoes", "Waterproof shoes for men", 110.0),
    (6, "Green tea 500g", "Organic loose leaf tea from Japan", 12.0),
    (7, "Coffee beans 1 kg", "Dark roasted espresso beans", 18.0),
    (8, "WH-1000XM5 headphones", "Noise cancelling over-ear headphones by Sony", 320.0),
    (9, "Water bottle 750ml", "Stainless steel bottle, keeps cold for a day", 22.0),
    (10, "Kids' rain jacket", "Waterproof jacket with hood", 35.0),
    (11, "无线鼠标 静音", "蓝牙 办公 鼠标", 15.0),
    (12, "女士跑步鞋", "透气 轻便 运动鞋", 60.0),
    (13, "有机绿茶 礼盒", "散装 茶叶 500克", 25.0),
]
SOURCE = "SELECT id, title, description, price FROM product"


@pytest.fixture
def shop(connect):
    connection = connect()
    connection.execute("CREATE TABLE product (id int PRIMARY KEY, title text, description text, price numeric, embedding real[])")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO product VALUES (%s, %s, %s, %s)", PRODUCTS)
    yield connection
    for (name,) in connection.execute("SELECT DISTINCT name FROM reco.models WHERE task = 'search'").fetchall():
        connection.execute("SELECT reco.drop_model(%s)", [name])
    connection.execute("DROP TABLE product")


def train(connection, model=None, options="{}", source=SOURCE, judgements=None):
    return connection.execute(
        "SELECT reco.train_search('shop', %s, %s, %s, judgements => %s)", [source, options, model, judgements]
    ).fetchone()[0]


def ids(connection, query, k=3, **more):
    named = "".join(f', "{name}" => %s' for name in more)
    rows = connection.execute(f"SELECT id FROM reco.search('shop', %s, %s{named})", [query, k, *more.values()]).fetchall()
    return [int(id) for (id,) in rows]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("wireless mouse", 1),
        ("mice wireless", 1),
        ("red runing shoes", 4),
        ("headfones", 8),
        ("wh1000xm5", 8),
        ("usb c cable", 3),
        ("500 g tea", 6),
        ("bottle 750 ml", 9),
        ("keyb", 2),
        ("无线鼠标", 11),
        ("跑步鞋", 12),
        ("绿茶", 13),
        ("ＭＯＵＳＥ", 1),
    ],
)
def test_words_find_what_has_them(shop, query, first):
    assert train(shop) == 1
    assert ids(shop, query)[0] == first


def test_meaning_finds_what_has_no_word_of_the_query(shop):
    train(shop, "all-minilm-l6-v2")
    assert 6 in ids(shop, "hot beverage", 3) or 7 in ids(shop, "hot beverage", 3)
    assert ids(shop, "footwear for jogging", 2) in ([4, 5], [5, 4])
    rows = shop.execute("SELECT rank, id, score, lexical_score, vector_score FROM reco.search('shop', 'wireless mouse', 13)").fetchall()
    assert [rank for rank, *_ in rows] == list(range(1, len(rows) + 1))
    scores = [score for _, _, score, *_ in rows]
    assert scores == sorted(scores, reverse=True)
    assert rows[0][1] == "1" and rows[0][3] > 0 and 0.5 < rows[0][4] <= 1.0001


def test_chinese_is_found_by_meaning_too(shop):
    train(shop, "use-multilingual-v3")
    assert 11 in ids(shop, "computer mouse", 3) and 1 in ids(shop, "鼠标", 3)


def test_without_vectors_there_is_no_vector_score(shop):
    train(shop)
    assert {row[0] for row in shop.execute("SELECT vector_score FROM reco.search('shop', 'shoes')")} == {None}


def test_a_filter_is_answered_now_and_leaves_k_rows_where_there_are_k(shop):
    train(shop, "all-minilm-l6-v2")
    assert set(ids(shop, "shoes", 2, filter="price < 20")) <= {1, 3, 6, 7, 11}
    assert len(ids(shop, "shoes", 5, filter="price < 20")) == 5
    assert ids(shop, "shoes", 5, filter="SELECT id FROM product WHERE id = 10") == [10]
    shop.execute("UPDATE product SET price = 1 WHERE id = 5")
    assert ids(shop, "trail running shoes", 1, filter="price < 2") == [5]
    assert ids(shop, "shoes", 5, filter="false") == []


def test_pages_follow_each_other(shop):
    train(shop, "all-minilm-l6-v2")
    whole = ids(shop, "light shoes", 10)
    assert ids(shop, "light shoes", 4) + ids(shop, "light shoes", 6, offset=4) == whole
    ranks = shop.execute("SELECT min(rank) FROM reco.search('shop', 'light shoes', 3, \"offset\" => 4)").fetchone()
    assert ranks == (5,)


def test_given_embeddings_are_used_as_they_are(shop):
    shop.execute("UPDATE product SET embedding = ARRAY[id, 1, 0] WHERE id < 5")
    assert train(shop, source="SELECT id, title, embedding FROM product") == 1
    # Without a model there is nothing to embed a query with: words alone.
    assert ids(shop, "tea", 1) == [6]
    shop.execute("UPDATE product SET embedding = ARRAY[1, 2] WHERE id = 9")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="id \"9\" has 2 dimensions, others have 3"):
        train(shop, source="SELECT id, title, embedding FROM product")


JUDGEMENTS = """SELECT * FROM (VALUES ('footwear', 4, 3), ('footwear', 5, 3), ('footwear', 1, 0), ('hot drink', 6, 3), ('hot drink', 7, 2),
                                      ('rain coat', 10, 3), ('something to type on', 2, 3)) AS j (query, id, grade)"""


def test_judgements_choose_the_fusion_and_measure_it(shop):
    train(shop, "all-minilm-l6-v2", judgements=JUDGEMENTS)
    ((config, metrics),) = shop.execute("SELECT config, metrics FROM reco.model_version WHERE name = 'shop'").fetchall()
    measured = metrics["judgements"]
    assert measured["queries"] == 4
    # Too few queries to learn a ranking from.
    assert measured["learned"] is None and config["fusion"] == metrics["fusion"]
    assert 0 < measured["words"] < measured["meaning"] <= 1
    found = dict(shop.execute("SELECT metric, value FROM reco.evaluate_search('shop', %s)", [JUDGEMENTS]).fetchall())
    assert found["ndcg"] >= measured["reciprocal_ranks"] - 1e-9
    assert set(found) == {"ndcg", "mrr", "map", "recall", "precision", "zero_results"} and found["zero_results"] == 0
    train(shop, "all-minilm-l6-v2", '{"lexical_weight": 1}')
    words = dict(shop.execute("SELECT metric, value FROM reco.evaluate_search('shop', %s)", [JUDGEMENTS]).fetchall())
    assert words["ndcg"] < found["ndcg"]


def test_matches_suggestions_and_highlights(shop):
    train(shop)
    assert sorted(int(id) for (id,) in shop.execute("SELECT reco.search_matches('shop', 'shoes')")) == [4, 5]
    assert [int(id) for (id,) in shop.execute("SELECT reco.search_matches('shop', 'shoes', 'price > 100')")] == [5]
    words = shop.execute("SELECT suggestion, count, kind FROM reco.suggest('shop', 'sho', 5)").fetchall()
    assert words[0] == ("shoes", 2, "word")
    marked = shop.execute("SELECT reco.highlight('shop', 'running shoe', 'Red Shoes for runners')").fetchone()[0]
    assert marked == "Red <b>Shoes</b> for runners" or marked == "Red <b>Shoes</b> for <b>runners</b>"
    assert shop.execute("SELECT reco.highlight('shop', '鼠标', '静音鼠标', '[', ']')").fetchone() == ("静音[鼠标]",)


@pytest.mark.parametrize("query", ["", "   ", "a", "the of and", "\"", "- - -", "((", "😀", "'; DROP TABLE product; --", "x" * 500, "shoes " * 1000])
def test_any_text_is_answered(shop, query):
    train(shop, "all-minilm-l6-v2")
    assert isinstance(ids(shop, query, 3), list)


def test_the_same_source_gives_the_same_bytes(shop):
    train(shop, "all-minilm-l6-v2")
    train(shop, "all-minilm-l6-v2")
    hashes = "SELECT version, array_agg(file || sha256 ORDER BY file) FROM reco.model_file WHERE name = 'shop' GROUP BY version"
    (first, second) = (files for _, files in sorted(shop.execute(hashes).fetchall()))
    assert first == second
    # The second shares the segments of the first.
    assert shop.execute("SELECT DISTINCT stored_in FROM reco.model_file WHERE version = 2 AND name = 'shop' AND file LIKE '%/%'").fetchall() == [(1,)]


def test_whoever_may_search_needs_no_privilege_on_the_embedding_model(shop, role):
    train(shop, "all-minilm-l6-v2")
    reader = role("search_reader")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute("SELECT * FROM reco.search('shop', 'shoes')")
    shop.execute("SELECT reco.grant_model('shop', 'search_reader')")
    assert len(reader.execute("SELECT * FROM reco.search('shop', 'shoes')").fetchall()) == 10
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="filter"):
        reader.execute("SELECT * FROM reco.search('shop', 'shoes', filter => 'price < 20')")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(source="SELECT title FROM product"), psycopg.errors.UndefinedColumn, "id"),
        (dict(source="SELECT id, price FROM product"), psycopg.errors.InvalidParameterValue, "no text column"),
        (dict(source="SELECT id, title FROM product WHERE false"), psycopg.Error, "no rows"),
        (dict(source="SELECT 1 AS id, title FROM product"), psycopg.errors.InvalidParameterValue, 'duplicate id "1"'),
        (dict(source="SELECT NULL::int AS id, title FROM product"), psycopg.errors.NullValueNotAllowed, "id"),
        (dict(options='{"fields": {"nothing": 1}}'), psycopg.errors.UndefinedColumn, "nothing"),
        (dict(options='{"fields": {"title": -1}}'), psycopg.errors.InvalidParameterValue, "title"),
        (dict(options='{"fields": {}}'), psycopg.errors.InvalidParameterValue, "empty"),
        (dict(options='{"fields": {"id": 1}}'), psycopg.errors.DatatypeMismatch, "id"),
        (dict(options='{"language": "klingon"}'), psycopg.errors.InvalidParameterValue, "klingon"),
        (dict(options='{"lexical_weight": 2}'), psycopg.errors.InvalidParameterValue, "lexical_weight"),
        (dict(options='{"langage": "english"}'), psycopg.errors.InvalidParameterValue, "langage"),
        (dict(model="no such model"), psycopg.errors.UndefinedObject, "no such model"),
        (dict(judgements="SELECT 'a' AS query, 1 AS id, -1 AS grade"), psycopg.errors.InvalidParameterValue, "grade"),
        (dict(judgements="SELECT 'a' AS query"), psycopg.errors.UndefinedColumn, "id"),
        (dict(judgements="SELECT 'a' AS query, 1 AS id WHERE false"), psycopg.Error, "no rows"),
    ],
)
def test_what_cannot_be_an_index_is_refused(shop, arguments, error, message):
    with pytest.raises(error, match=message):
        train(shop, **arguments)
    assert shop.execute("SELECT count(*) FROM reco.models WHERE name = 'shop'").fetchone() == (0,)


@pytest.mark.parametrize(
    "call",
    [
        "SELECT * FROM reco.search('shop', 'a', 0)",
        "SELECT * FROM reco.search('shop', 'a', 10001)",
        "SELECT * FROM reco.search('shop', 'a', \"offset\" => -1)",
        "SELECT * FROM reco.search('shop', 'a', \"offset\" => 10001)",
        "SELECT * FROM reco.search('shop', 'a', NULL)",
        "SELECT * FROM reco.suggest('shop', 'a', 0)",
        "SELECT * FROM reco.search('shop', repeat('x', 9000))",
    ],
)
def test_arguments_out_of_range_are_named(shop, call):
    train(shop)
    with pytest.raises((psycopg.DataError, psycopg.errors.ProgramLimitExceeded)):
        shop.execute(call)


def test_all_texts_null_is_an_index_that_finds_nothing(shop):
    shop.execute("UPDATE product SET title = NULL, description = NULL")
    train(shop)
    assert ids(shop, "mouse") == []


def test_another_version_of_the_embedding_model_is_named(shop):
    train(shop, "all-minilm-l6-v2")
    shop.execute("UPDATE reco.model_version SET config = jsonb_set(config, '{embedding_version}', '7') WHERE name = 'shop'")
    shop.execute("SELECT reco.unload('shop')")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="another version") as error:
        ids(shop, "mouse")
    assert "reco.train_search" in error.value.diag.message_hint


def test_excluded_and_quoted_words_bind_what_is_found_by_meaning(shop):
    train(shop, "all-minilm-l6-v2")
    assert {4, 5} <= set(ids(shop, "shoes", 13))
    assert ids(shop, "shoes -trail", 13) == [4]
    assert ids(shop, '"trail running"', 13) == [5]


def metrics(connection):
    return connection.execute("SELECT metrics FROM reco.models WHERE name = 'shop' AND in_use").fetchone()[0]


def stored(connection, version):
    """Bytes that the catalog keeps with a version."""
    return connection.execute("SELECT sum(length(data)) FROM reco.model_part WHERE name = 'shop' AND version = %s", [version]).fetchone()[0]


@pytest.mark.parametrize("model", [None, "all-minilm-l6-v2"])
def test_a_refresh_takes_in_what_is_new_changed_and_deleted(shop, model):
    train(shop, model)
    shop.execute("INSERT INTO product VALUES (20, 'Acoustic guitar', 'Six strings', 200)")
    shop.execute("UPDATE product SET title = 'Silent typewriter' WHERE id = 2")
    shop.execute("UPDATE product SET price = 1 WHERE id = 3")
    shop.execute("DELETE FROM product WHERE id IN (4, 5)")
    assert shop.execute("SELECT reco.refresh('shop')").fetchone() == (2,)
    found = metrics(shop)
    assert {key: found[key] for key in ("rows", "written", "removed", "segments")} == {"rows": 12, "written": 3, "removed": 2, "segments": 2}
    # The price is no part of what is embedded.
    assert found["embedded"] == (2 if model else 0)
    assert ids(shop, "guitar", 1) == [20] and ids(shop, "typewriter", 1) == [2] and ids(shop, "usb c cable", 1) == [3]
    assert not {4, 5} & set(ids(shop, "running shoes", 13))
    # As a new index of the same rows, but for what the words of deleted rows still weigh.
    refreshed = ids(shop, "wireless mouse tea", 12)
    train(shop, model)
    assert set(ids(shop, "wireless mouse tea", 12)) == set(refreshed)
    assert metrics(shop)["embedded"] == 0


def test_an_index_beyond_the_budget_is_not_loaded_again_in_each_search(shop):
    train(shop, "all-minilm-l6-v2")
    shop.execute("SET reco.cache_size = 0")
    loads = "SELECT loads FROM reco.stat_models WHERE model = 'shop'"
    assert ids(shop, "green tea", 1) == [6]
    before = shop.execute(loads).fetchone()
    assert [ids(shop, query, 1) for query in ("coffee", "wireless mouse", "green tea")] == [[7], [1], [6]]
    assert shop.execute(loads).fetchone() == before


def test_an_index_that_grows_by_refreshes_is_searched_by_clusters(shop):
    shop.execute("UPDATE product SET embedding = ARRAY[1, id, 0, 0]")
    train(shop, source="SELECT id, title, embedding FROM product")
    assert "vectors" not in metrics(shop)
    shop.execute(
        """INSERT INTO product (id, title, embedding)
           SELECT n, 'Product', ARRAY[sin(n), cos(n), sin(1.7 * n), cos(1.3 * n)]::real[] FROM generate_series(100, 21000) AS n"""
    )
    assert shop.execute("SELECT reco.refresh('shop')").fetchone() == (2,)
    found = metrics(shop)["vectors"]
    assert 0 < found["probes"] < found["clusters"] and found["recall@10"] >= 0.97
    shop.execute("INSERT INTO product (id, title, embedding) VALUES (20, 'Guitar', '{0, 0, 1, 0}')")
    assert shop.execute("SELECT reco.refresh('shop')").fetchone() == (3,)
    assert ids(shop, "guitar", 1) == [20]


def test_a_refresh_without_changes_makes_no_version(shop):
    train(shop, "all-minilm-l6-v2")
    assert shop.execute("SELECT reco.refresh('shop'), reco.refresh('shop')").fetchone() == (1, 1)


def test_a_refresh_stores_what_has_changed_and_survives_the_versions_before(shop):
    shop.execute("INSERT INTO product SELECT n, 'Product number ' || n, md5(n::text), n FROM generate_series(100, 3099) AS n")
    train(shop)
    for turn in range(6):
        shop.execute("UPDATE product SET title = title || ' again' WHERE id = %s", [100 + turn])
        assert shop.execute("SELECT reco.refresh('shop', keep => 2)").fetchone() == (turn + 2,)
        assert stored(shop, turn + 2) < stored(shop, 1) / 20
    versions = shop.execute("SELECT array_agg(version ORDER BY version) FROM reco.models WHERE name = 'shop'").fetchone()[0]
    assert versions == [6, 7] and metrics(shop)["segments"] <= 4
    # The first segment is still that of version 1.
    shop.execute("SELECT reco.unload('shop')")
    assert ids(shop, "number 3000", 1) == [3000] and 103 in ids(shop, "again", 10)
    shop.execute("SELECT reco.drop_model('shop')")
    assert shop.execute("SELECT count(*) FROM reco.model_part WHERE name = 'shop'").fetchone() == (0,)


def test_a_version_with_other_columns_is_written_anew(shop):
    train(shop, source="SELECT * FROM product")
    shop.execute("ALTER TABLE product ADD COLUMN brand text DEFAULT 'Zebra'")
    assert shop.execute("SELECT reco.refresh('shop')").fetchone() == (2,)
    assert metrics(shop)["written"] == 13 and len(ids(shop, "zebra", 13)) == 13


def test_a_refresh_runs_in_the_name_of_the_owner_and_is_for_its_members(shop, role):
    train(shop, "all-minilm-l6-v2")
    stranger = role("search_stranger")
    shop.execute("SELECT reco.grant_model('shop', 'search_stranger')")
    shop.execute("GRANT reco_trainer TO search_stranger")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        stranger.execute("SELECT reco.refresh('shop')")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="if_better"):
        shop.execute("SELECT reco.refresh('shop', 'if_better')")
    shop.execute("UPDATE product SET title = 'Typewriter' WHERE id = 2")
    shop.execute("SELECT reco.refresh('shop', 'never')")
    assert ids(shop, "typewriter", 1) != [2]
    shop.execute("SELECT reco.promote_model('shop', 2)")
    assert ids(shop, "typewriter", 1) == [2]


EVENTS = """SELECT * FROM (VALUES ('footwear', 5, 'click', 9), ('footwear', 5, 'purchase', 9), ('footwear', 4, 'click', 1), ('warm', 7, 'click', 2),
                                  ('warm', 99, 'click', 1)) AS e (query, id, event, position)"""


def test_events_become_grades_corrected_for_position(shop):
    notices = []
    shop.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    shop.execute("SELECT reco.train_search('shop', %s, embedding_model => 'all-minilm-l6-v2', events => %s)", [SOURCE, EVENTS])
    assert notices == ["1 of 5 events are of ids that the index does not have"]
    assert metrics(shop)["judgements"]["queries"] == 2
    shop.execute("SELECT reco.train_search('shop', %s, events => 'SELECT ''a'' AS query, 1 AS id')", [SOURCE])
    assert "no column" in notices[-1]


def test_an_unknown_event_and_a_position_of_zero_are_named(shop):
    call = "SELECT reco.train_search('shop', %s, %s, events => %s)"
    with pytest.raises(psycopg.errors.InvalidParameterValue, match='unknown event "look"') as error:
        shop.execute(call, [SOURCE, "{}", "SELECT 'a' AS query, 1 AS id, 'look' AS event, 1 AS position"])
    assert "event_weights" in error.value.diag.message_hint
    shop.execute(call, [SOURCE, '{"event_weights": {"look": 0.5}}', "SELECT 'a' AS query, 1 AS id, 'look' AS event, 1 AS position"])
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="invalid position 0"):
        shop.execute(call, [SOURCE, "{}", "SELECT 'a' AS query, 1 AS id, 0 AS position"])


def test_a_recommender_ranks_for_a_person(shop):
    shop.execute("CREATE TABLE bought AS SELECT u AS user_id, i AS item_id FROM generate_series(1, 20) u, unnest(ARRAY[4, 5, 8, 10]) i WHERE i <> 4 OR u > 18")
    try:
        shop.execute("SELECT reco.train('taste', 'TABLE bought', 'popularity')")
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="has no recommender"):
            train(shop)
            ids(shop, "shoes", user_id="1")
        shop.execute("SELECT reco.train_search('shop', %s, recommender => 'taste')", [SOURCE])
        plain = ids(shop, "red running shoes", 2)
        assert plain == [4, 5]
        assert ids(shop, "red running shoes", 2, user_id="1", personalize=0.9) == [5, 4]
        assert ids(shop, "red running shoes", 2, user_id="1", personalize=0) == plain
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="personalize"):
            ids(shop, "shoes", user_id="1", personalize=2)
    finally:
        shop.execute("SELECT reco.drop_model('taste')")
        shop.execute("DROP TABLE bought")


def test_evaluation_by_segment_with_intervals(shop):
    train(shop, "all-minilm-l6-v2")
    rows = shop.execute(
        """SELECT metric, value, low, high, segment, queries
             FROM reco.evaluate_search('shop', %s, metrics => '{ndcg,mrr}', segments => %s, bootstrap => 200)""",
        [JUDGEMENTS, "SELECT query, CASE WHEN query LIKE '%% %%' THEN 'long' ELSE 'short' END AS segment FROM (" + JUDGEMENTS + ") AS j"],
    ).fetchall()
    assert [(metric, segment, queries) for metric, *_, segment, queries in rows] == [
        ("ndcg", "all", 4), ("mrr", "all", 4), ("ndcg", "long", 3), ("mrr", "long", 3), ("ndcg", "short", 1), ("mrr", "short", 1)
    ]
    assert all(low <= value <= high for _, value, low, high, *_ in rows)
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="quality"):
        shop.execute("SELECT * FROM reco.evaluate_search('shop', %s, metrics => '{quality}')", [JUDGEMENTS])


def test_two_indexes_are_compared_on_the_same_queries(shop):
    train(shop, "all-minilm-l6-v2")
    shop.execute("SELECT reco.train_search('words', %s)", [SOURCE])
    rows = shop.execute("SELECT metric, a, b, difference, low, high, p_value FROM reco.compare_search('shop', 'words', %s)", [JUDGEMENTS]).fetchall()
    for metric, a, b, difference, low, high, p in rows:
        assert abs(a - b - difference) < 1e-12 and low <= difference <= high and 0 <= p <= 1, metric
    assert rows[0][0] == "ndcg" and rows[0][3] > 0


def test_a_function_for_services_has_ids_of_their_own_type(shop):
    train(shop, "all-minilm-l6-v2")
    shop.execute("SELECT reco.create_search_function('shop', 'find_product', 4)")
    try:
        rows = shop.execute("SELECT rank, id, score FROM find_product('running shoes')").fetchall()
        assert [rank for rank, *_ in rows] == [1, 2, 3, 4] and {rows[0][1], rows[1][1]} == {4, 5}
        assert shop.execute("SELECT pg_typeof(id)::text FROM find_product('shoes', 1)").fetchone() == ("integer",)
    finally:
        shop.execute("DROP FUNCTION find_product")


def test_the_graph_is_the_ranking(shop):
    """What serves and the stored graph give the same scores."""
    train(shop, "all-minilm-l6-v2", '{"lexical_weight": 0.4}')
    rows = shop.execute("SELECT lexical_score, vector_score, score FROM reco.search('shop', 'wireless mouse', 13)").fetchall()
    inputs = {"lexical": [row[0] for row in rows], "cosine": [row[1] for row in rows]}
    got = shop.execute("SELECT reco.predict('shop', %s)", [psycopg.types.json.Jsonb(inputs)]).fetchone()[0]["scores"]
    assert got == pytest.approx([row[2] for row in rows], abs=1e-5)


def test_synonyms_come_from_a_table(shop):
    shop.execute("CREATE TABLE synonym (word text, synonym text)")
    shop.execute("INSERT INTO synonym VALUES ('sneakers', 'running shoes'), ('mug', 'bottle')")
    try:
        train(shop, options='{"synonyms": "TABLE synonym"}')
        assert set(ids(shop, "sneakers", 2)) == {4, 5} and ids(shop, "mug", 1) == [9]
        shop.execute("INSERT INTO synonym VALUES ('anorak', 'jacket')")
        shop.execute("SELECT reco.refresh('shop')")
        assert ids(shop, "anorak", 1) == [10]
        shop.execute("INSERT INTO synonym VALUES ('mug', NULL)")
        with pytest.raises(psycopg.errors.NullValueNotAllowed, match="synonym"):
            shop.execute("SELECT reco.refresh('shop')")
    finally:
        shop.execute("DROP TABLE synonym")


def test_past_queries_are_suggested_and_related(shop):
    train(shop, "all-minilm-l6-v2", judgements=JUDGEMENTS)
    assert shop.execute("SELECT suggestion, count, kind FROM reco.suggest('shop', 'Rain', 5)").fetchall()[0] == ("rain coat", 1, "query")
    related = shop.execute("SELECT rank, related, similarity FROM reco.related_queries('shop', 'sneakers', 2)").fetchall()
    assert related[0][:2] == (1, "footwear") and related[0][2] > 0.4
    # They survive a refresh, which does not store them again.
    shop.execute("UPDATE product SET title = 'Typewriter' WHERE id = 2")
    assert shop.execute("SELECT reco.refresh('shop')").fetchone() == (2,)
    assert shop.execute("SELECT related FROM reco.related_queries('shop', 'sneakers', 1)").fetchone() == ("footwear",)
    assert shop.execute("SELECT stored_in FROM reco.model_file WHERE name = 'shop' AND version = 2 AND file LIKE 'queries%'").fetchone() == (1,)
    train(shop)
    assert shop.execute("SELECT * FROM reco.related_queries('shop', 'sneakers')").fetchall() == []


def test_options_are_tried_on_judgements_best_first(shop):
    grid = '{"fields": [{"title": 1}, {"title": 3, "description": 1}], "lexical_weight": [0, 1]}'
    rows = shop.execute(
        "SELECT rank, options, value, queries FROM reco.tune_search(%s, %s, %s, 'all-minilm-l6-v2')", [SOURCE, JUDGEMENTS, grid]
    ).fetchall()
    assert [rank for rank, *_ in rows] == [1, 2, 3, 4] and {queries for *_, queries in rows} == {4}
    values = [value for _, _, value, _ in rows]
    assert values == sorted(values, reverse=True) and rows[0][1]["lexical_weight"] == 0
    best = rows[0]
    train(shop, "all-minilm-l6-v2", psycopg.types.json.Jsonb(best[1]))
    assert shop.execute("SELECT value FROM reco.evaluate_search('shop', %s) WHERE metric = 'ndcg'", [JUDGEMENTS]).fetchone()[0] == pytest.approx(best[2])
    for grid, message in [("[]", "object"), ('{"lexical_weight": 1}', "list"), ('{"lexical_weight": [2]}', "lexical_weight"), ('{"x": [1]}', "x")]:
        with pytest.raises(psycopg.errors.InvalidParameterValue, match=message):
            shop.execute("SELECT * FROM reco.tune_search(%s, %s, %s)", [SOURCE, JUDGEMENTS, grid])


WORDS = "mouse keyboard cable shoe tea coffee bottle jacket lamp chair table phone camera guitar drum paper pencil knife spoon towel soap brush candle clock".split()


def tensors(connection, file):
    """The tensors of a stored safetensors file, as lists."""
    bytes_ = b"".join(row[0] for row in connection.execute(
        "SELECT data FROM reco.model_part WHERE name = 'shop' AND file = %s ORDER BY part", [file]).fetchall())
    length = int.from_bytes(bytes_[:8], "little")
    header = json.loads(bytes_[8 : 8 + length])
    kinds = {"U32": "I", "F32": "f"}
    return {
        name: struct.unpack(f"<{(end - start) // 4}{kinds[about['dtype']]}", bytes_[8 + length + start : 8 + length + end])
        for name, about in header.items()
        for start, end in [about["data_offsets"]]
    }


def test_a_learned_ranking_is_its_graph(shop):
    """Titles decide, descriptions say nothing: that is learned, and the ONNX graph scores as the stored trees and weights do."""
    draw = random.Random(3)
    rows = [(n, " ".join(draw.choices(WORDS, k=2)), " ".join(draw.choices(WORDS, k=8))) for n in range(100, 500)]
    with shop.cursor() as cursor:
        cursor.executemany("INSERT INTO product (id, title, description, price) VALUES (%s, %s, %s, 1)", rows)
    shop.execute("CREATE TABLE graded (query text, id int, grade int)")
    try:
        graded = [(word, id, title.split().count(word)) for word in WORDS for id, title, description in rows if word in f"{title} {description}".split()]
        with shop.cursor() as cursor:
            cursor.executemany("INSERT INTO graded VALUES (%s, %s, %s)", graded)
        train(shop, options='{"fields": {"title": 1, "description": 1}}', source="SELECT * FROM product", judgements="TABLE graded")
    finally:
        shop.execute("DROP TABLE graded")
    (fusion,) = shop.execute("SELECT config ->> 'fusion' FROM reco.models WHERE name = 'shop'").fetchone()
    assert fusion == "learned"
    assert all("guitar" in dict((id, title) for id, title, _ in rows)[id].split() for id in ids(shop, "guitar", 5))
    ranker = tensors(shop, "ranker.safetensors")
    width = max(len(ranker["linear"]), 1 + max((column for column in ranker["columns"] if column < 2**32 - 1), default=0))
    features = [[draw.gauss(0, 2) for _ in range(width)] for _ in range(20)]

    def score(row):
        total = ranker["base"][0] + sum(weight * x for weight, x in zip(ranker["linear"], row))
        for node in ranker["roots"]:
            while ranker["columns"][node] < 2**32 - 1:
                node = ranker["left"][node] + (0 if row[ranker["columns"][node]] <= ranker["numbers"][node] else 1)
            total += ranker["numbers"][node]
        return total

    got = shop.execute("SELECT reco.predict('shop', %s)", [psycopg.types.json.Jsonb({"features": features})]).fetchone()[0]["scores"]
    assert got == pytest.approx([score(row) for row in features], abs=1e-3)
