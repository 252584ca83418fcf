"""pgvector beside the extension: embeddings go into its columns as they are, and its index finds what reading all finds.

`make test-versions` runs these on servers that have pgvector.
"""

import numpy
import psycopg
import pytest
from reference import cosine
from test_embedding import gradient, png

MULTILINGUAL = "use-multilingual-v3"
KINDS = {
    "wine": ["dry red wine", "white wine from France", "sparkling rosé wine"],
    "milk": ["whole milk", "organic low-fat milk", "lactose-free milk"],
    "bread": ["sliced white bread", "rye bread loaf", "whole grain bread rolls"],
    "coffee": ["ground coffee beans", "espresso capsules", "instant coffee"],
    "diapers": ["baby diapers size 3", "newborn diapers", "overnight baby diapers"],
    "shampoo": ["shampoo for dry hair", "anti-dandruff shampoo", "baby shampoo"],
    "dog": ["dry dog food with chicken", "dog biscuits", "canned dog food"],
    "tent": ["tent for two persons", "family camping tent", "ultralight backpacking tent"],
    "boots": ["waterproof hiking boots", "leather winter boots", "trail running shoes"],
    "lamp": ["desk lamp with LED", "bedside reading lamp", "floor lamp"],
}
QUESTIONS = {
    "wine": "a bottle to drink with dinner, from grapes",
    "bread": "loaf for sandwiches and toast",
    "coffee": "hot caffeinated drink",
    "diapers": "nappies for an infant",
    "dog": "what to feed a puppy",
    "tent": "shelter for sleeping outdoors",
}
NEAREST = "SELECT kind, name FROM item ORDER BY v <=> reco.embed(%s, input => 'query')::vector LIMIT 5"


@pytest.fixture(scope="module", autouse=True)
def pgvector(server, database):
    """pgvector in the tests' database, and the items' names as vectors; gone again for the other tests."""
    with psycopg.connect(server, dbname=database, autocommit=True) as db:
        version = db.execute("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'").fetchone()
        if version is None:
            pytest.skip("this server has no pgvector (Debian: postgresql-<version>-pgvector)")
        if tuple(map(int, version[0].split("."))) < (0, 5):
            pytest.skip(f"this server's pgvector {version[0]} has no HNSW, which came with 0.5")
        db.execute("CREATE EXTENSION vector")
        db.execute("CREATE TABLE item (id integer PRIMARY KEY, kind text, name text, v vector(384))")
        names = [(kind, name) for kind, names in KINDS.items() for name in names]
        db.execute(
            """INSERT INTO item SELECT number, kind, name, reco.embed(name)
                 FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS named (kind, name, number)""",
            [[kind for kind, _ in names], [name for _, name in names]],
        )
        db.execute("CREATE INDEX item_v ON item USING hnsw (v vector_cosine_ops)")
        db.execute("ANALYZE item")
        yield
        db.execute("DROP TABLE item; DROP EXTENSION vector CASCADE")


def plan(db, query, *parameters):
    # As psycopg's own parameters would, but as literals: EXPLAIN takes none.
    with psycopg.ClientCursor(db) as cursor:
        return "\n".join(line for (line,) in cursor.execute(f"EXPLAIN (COSTS OFF) {query}", parameters).fetchall())


def test_an_embedding_is_stored_bit_for_bit(rows, scalar):
    assert scalar("SELECT count(*) FROM item WHERE v::real[] = reco.embed(name)") == 30
    assert scalar("SELECT count(DISTINCT vector_dims(v)) FROM item") == 1
    assert rows("SELECT round(vector_norm(v)::numeric, 5) FROM item GROUP BY 1") == [(1,)]


def test_a_column_of_real_arrays_becomes_one_of_vectors(db, scalar):
    db.execute("CREATE TEMP TABLE kept AS SELECT id, reco.embed(name) AS v FROM item")
    db.execute("ALTER TABLE kept ALTER v TYPE vector(384)")
    assert scalar("SELECT count(*) FROM kept JOIN item USING (id) WHERE kept.v = item.v") == 30


def test_embed_query_fills_a_vector_column(db, rows, scalar):
    db.execute("CREATE TEMP TABLE made (id integer, v vector(384))")
    db.execute("INSERT INTO made SELECT id::integer, embedding FROM reco.embed_query('SELECT id, name AS text FROM item')")
    # A batch's vectors differ from single ones in the last bits.
    assert scalar("SELECT count(*) FROM made JOIN item USING (id) WHERE made.v <=> item.v < 1e-6") == 30
    db.execute("UPDATE made SET v = NULL")
    db.execute(
        """UPDATE made SET v = embedding
             FROM reco.embed_query('SELECT id, nullif(name, ''floor lamp'') AS text FROM item') AS e WHERE made.id = e.id::integer"""
    )
    assert rows("SELECT name FROM made JOIN item USING (id) WHERE made.v IS NULL") == [("floor lamp",)]
    assert scalar("SELECT count(*) FROM made JOIN item USING (id) WHERE made.v <=> item.v < 1e-6") == 29


def test_an_update_takes_an_embedding_and_the_index_follows(db, rows):
    with db.transaction(force_rollback=True):
        db.execute("UPDATE item SET name = 'cordless power drill', v = reco.embed('cordless power drill') WHERE name = 'floor lamp'")
        assert "Index Scan using item_v" in plan(db, NEAREST, "tool for making holes")
        assert rows(NEAREST, "tool for making holes")[0] == ("lamp", "cordless power drill")


def test_the_planner_takes_the_index_rather_than_embed_the_question_for_each_row(db):
    assert "Index Scan using item_v on item" in plan(db, NEAREST, "to drink")


def test_the_index_finds_what_reading_all_finds(db, rows):
    for kind, question in QUESTIONS.items():
        db.execute("SET enable_indexscan = off")
        assert "Seq Scan" in plan(db, NEAREST, question)
        exact = rows(NEAREST, question)
        db.execute("RESET enable_indexscan")
        assert rows(NEAREST, question) == exact, question
        by_hand = rows(
            """SELECT kind, name FROM item, (SELECT reco.embed(%s, input => 'query') AS q OFFSET 0) AS asked
                ORDER BY reco.cosine_similarity(v, q) DESC LIMIT 5""",
            question,
        )
        assert by_hand == exact, question
        assert exact[0][0] == kind, question


def test_functions_of_embeddings_take_vectors(db, scalar):
    assert scalar("SELECT max(abs(reco.cosine_similarity(a.v, b.v) - (1 - (a.v <=> b.v)))) FROM item a, item b") < 1e-5
    assert scalar("SELECT max(abs(reco.dot_product(a.v, b.v) + (a.v <#> b.v))) FROM item a, item b") < 1e-5
    assert scalar("SELECT vector_dims(reco.fuse(v, v)::vector) FROM item LIMIT 1") == 768
    db.execute("CREATE TEMP TABLE taste (kind text, v vector(384))")
    db.execute("INSERT INTO taste SELECT kind, reco.mean_embedding(v) FROM item GROUP BY kind")
    # avg is pgvector's own aggregate.
    assert scalar("SELECT count(*) FROM taste JOIN (SELECT kind, avg(v) AS mean FROM item GROUP BY kind) t USING (kind) WHERE v <-> mean < 1e-5") == 10


def test_what_customers_like_finds_more_of_it_through_the_index(db, rows):
    query = """SELECT kind FROM item ORDER BY v <=> (SELECT reco.mean_embedding(v)::vector FROM item
                WHERE name IN ('tent for two persons', 'family camping tent')) LIMIT 3"""
    # Thirty rows are read sooner than an index.
    db.execute("SET enable_seqscan = off")
    assert "Index Scan using item_v" in plan(db, query)
    assert rows(query) == [("tent",)] * 3


def test_an_image_goes_into_a_vector_column(db, scalar):
    image = png(gradient(256))
    db.execute("CREATE TEMP TABLE picture (v vector(1280))")
    db.execute("INSERT INTO picture SELECT reco.embed_image(%b)", [image])
    db.execute("CREATE INDEX ON picture USING hnsw (v vector_cosine_ops)")
    stored = scalar("SELECT v::real[] FROM picture ORDER BY v <=> reco.embed_image(%b)::vector LIMIT 1", image)
    assert cosine(numpy.array(stored), numpy.array(scalar("SELECT reco.embed_image(%b)", image))) > 0.999999


def test_no_text_is_no_vector(db, scalar):
    db.execute("CREATE TEMP TABLE nothing (v vector(384))")
    db.execute("INSERT INTO nothing SELECT reco.embed(NULL::text)")
    assert scalar("SELECT v IS NULL FROM nothing") is True


def test_another_models_dimension_is_pgvectors_error(db, scalar):
    for statement in [
        "INSERT INTO item (id, v) SELECT 100, reco.embed('wine', %s)",
        "UPDATE item SET v = reco.embed(name, %s)",
        "SELECT v <=> reco.embed('wine', %s)::vector FROM item",
    ]:
        with pytest.raises(psycopg.errors.DataException, match="384.* 512") as raised:
            db.execute(statement, [MULTILINGUAL])
        assert raised.value.sqlstate == "22000"
    assert scalar("SELECT count(*) FROM item") == 30
