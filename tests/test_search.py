"""Search: by words, by meaning, by both; filters, judgements, Chinese, and what goes wrong."""

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
        "SELECT reco.train_search('shop', %s, %s, %s, %s)", [source, options, model, judgements]
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
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="different lengths"):
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
    words = shop.execute("SELECT suggestion, rows FROM reco.suggest('shop', 'sho', 5)").fetchall()
    assert words[0] == ("shoes", 2)
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
