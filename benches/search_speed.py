"""How fast searches are: a shop's products and a million made rows, beside what PostgreSQL does with pgvector and tsvector, and beside Python."""

import random
import re
import struct
import time

import numpy
import psycopg

import data
from common import Unavailable, milliseconds, peer, quantile, scalar, table
from serving_load import pgbench

MODEL = "all-minilm-l6-v2"
K = 10
CLIENTS = (1, 16)
# What people type: words of products, one to three of them.
QUERIES = 500

# Reciprocal ranks over both lists, as their users write it.
CTE = """WITH semantic AS (
    SELECT id, row_number() OVER () AS rank
      FROM (SELECT id FROM listed ORDER BY near <=> (SELECT reco.embed($q$, '{model}')::vector({d})) LIMIT 100) AS nearest),
 lexical AS (
    SELECT id, row_number() OVER () AS rank
      FROM (SELECT id FROM listed WHERE words @@ (SELECT to_tsquery('english', $or$))
             ORDER BY ts_rank_cd(words, (SELECT to_tsquery('english', $or$))) DESC LIMIT 100) AS matching)
SELECT COALESCE(l.id, s.id), COALESCE(1.0 / (60 + l.rank), 0) + COALESCE(1.0 / (60 + s.rank), 0) AS score
  FROM lexical l FULL JOIN semantic s ON s.id = l.id ORDER BY score DESC LIMIT {k}"""
# pgvector looks at 40 rows by default, fewer than the list has.
EF_SEARCH = 100
# The oid of `real`.
FLOAT4 = 700
# Scores this near are the same: products of one name have one vector, and each of them is as good.
SAME = 1e-5


def texts_of(count):
    """(id, text) of `count` products: the shop's own, then made of their words."""
    products = data.product_texts()
    if count <= len(products):
        return products[:count]
    words = sorted({word for _, text in products for word in text.split()})
    draw = random.Random(1)
    # Each is one of the products with another word.
    made = [(100_000_000 + n, f"{products[n % len(products)][1]} {draw.choice(words)}") for n in range(len(products), count)]
    return products + made


def array_of(vector):
    """A `real[]` as COPY takes it: psycopg's own writer takes a quarter of an hour for a million."""
    elements = numpy.empty(len(vector), [("length", ">i4"), ("value", ">f4")])
    elements["length"], elements["value"] = 4, vector
    array = struct.pack("!iiIii", 1, 0, FLOAT4, len(vector), 1) + elements.tobytes()
    return struct.pack("!i", len(array)) + array


def fill(connection, products, vectors):
    """`listed`, with given vectors or those of the model."""
    connection.execute("DROP TABLE IF EXISTS listed")
    connection.execute("CREATE TABLE listed (id bigint PRIMARY KEY, title text, price int, embedding real[])")
    with connection.cursor() as cursor, cursor.copy("COPY listed (id, title, price, embedding) FROM STDIN WITH (FORMAT binary)") as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0))
        for n, (id, text) in enumerate(products):
            text = text.encode()
            row = struct.pack("!hiqi", 4, 8, id, len(text)) + text + struct.pack("!ii", 4, n % 1000)
            copy.write(row + (struct.pack("!i", -1) if vectors is None else array_of(vectors[n])))
        copy.write(struct.pack("!h", -1))
    seconds = None
    if vectors is None:
        started = time.perf_counter()
        connection.execute(
            f"UPDATE listed SET embedding = e.embedding FROM reco.embed_query('SELECT id, title AS text FROM listed', '{MODEL}') AS e WHERE listed.id = e.id::bigint"
        )
        seconds = time.perf_counter() - started
    # Filters ask for the price.
    connection.execute("CREATE INDEX ON listed (price) INCLUDE (id)")
    connection.execute("VACUUM ANALYZE listed")
    return seconds


def made_vectors(connection, count):
    """Those of the shop's products; and of each made one, at a cosine of about 0.94 with that of its product."""
    products = texts_of(min(count, len(data.product_texts())))
    connection.execute("CREATE TEMP TABLE product_text (id bigint, text text)")
    with connection.cursor() as cursor, cursor.copy("COPY product_text FROM STDIN") as copy:
        for row in products:
            copy.write_row(row)
    vectors = numpy.empty((count, 384), numpy.float32)
    place = {str(id): n for n, (id, _) in enumerate(products)}
    with connection.transaction(), connection.cursor("vectors", binary=True) as cursor:
        for id, vector in cursor.execute(f"SELECT id, embedding FROM reco.embed_query('TABLE product_text', '{MODEL}')"):
            vectors[place[id]] = vector
    draw = numpy.random.default_rng(1)
    for start in range(len(products), count, 100_000):
        part = vectors[start : start + 100_000]
        part[:] = vectors[numpy.arange(start, start + len(part)) % len(products)]
        part += 0.36 / 384**0.5 * draw.standard_normal(part.shape, dtype=numpy.float32)
        part /= numpy.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def queries_of(connection, products):
    draw = random.Random(2)
    texts = []
    for _ in range(QUERIES):
        words = draw.choice(products)[1].split()
        texts.append(" ".join(draw.sample(words, min(len(words), draw.randint(1, 3)))))
    connection.execute("CREATE TABLE IF NOT EXISTS asked (n int PRIMARY KEY, q text, any_word text)")
    connection.execute("TRUNCATE asked")
    with connection.cursor() as cursor:
        # Rows with any of the words, as BM25 takes them; to_tsquery wants letters and digits.
        rows = [(n, text, " | ".join(re.findall(r"\w+", text)) or "x") for n, text in enumerate(texts, 1)]
        cursor.executemany("INSERT INTO asked VALUES (%s, %s, %s)", rows)
    return texts


def script(statement):
    """A pgbench script that asks one of the queries."""
    statement = statement.replace("$q$", "(SELECT q FROM asked WHERE n = :n)").replace("$or$", "(SELECT any_word FROM asked WHERE n = :n)")
    return f"\\set n random(1, {QUERIES})\n" + " ".join(statement.split()) + ";\n"


def speed(context, connection, count, vectors=None):
    products = texts_of(count)
    embedded = fill(connection, products, vectors)
    queries = queries_of(connection, products)
    started = time.perf_counter()
    connection.execute(
        "SELECT reco.train_search('products', 'SELECT id, title, embedding FROM listed', embedding_model => %s, keep => 1)", [MODEL]
    )
    trained = time.perf_counter() - started
    # The first search lays the index out in the cache.
    started = time.perf_counter()
    connection.execute("SELECT id FROM reco.search('products', %s, 10)", [queries[0]]).fetchall()
    first = time.perf_counter() - started
    (metrics,) = connection.execute("SELECT metrics FROM reco.models WHERE name = 'products' AND in_use").fetchone()
    stored = scalar(connection, "SELECT sum(size) FROM reco.model_file WHERE name = 'products'")
    sides = {"reco.search": "SELECT id FROM reco.search('products', $q$, 10)"}
    lines, notes = [], [f"Vectors: {metrics.get('vectors')}."]
    try:
        notes.append(pgvector(connection))
        sides["pgvector and tsvector, reciprocal ranks"] = CTE.format(model=MODEL, d=384, k=K)
    except Unavailable as reason:
        notes.append(f"pgvector: {reason}.")
    for clients in CLIENTS:
        for name, statement in sides.items():
            load = pgbench(context, script(statement), clients)
            lines.append([name, str(clients), f"{load.rate:,.0f}", milliseconds(load.median / 1000), milliseconds(load.p99 / 1000)])
    lines += python_peers(context, connection, products, queries, notes)
    parts = [
        f"{len(products):,} products, vectors of 384 numbers" + (f", embedded in {embedded:.0f} s" if embedded else " (made)")
        + f": indexed in {trained:.1f} s, {stored / 2**20:,.0f} MiB; the first search after that, {first:.1f} s. The best {K}; the embedding of the query is part of each search.",
        table(["", "clients", "searches a second", "median", "p99"], lines),
        *notes,
        refresh(connection, len(products)),
        filters(context, connection, queries),
    ]
    connection.execute("SELECT reco.drop_model('products')")
    connection.execute("DROP TABLE listed")
    return parts


def pgvector(connection):
    """Makes pgvector's and PostgreSQL's own indexes on `listed`."""
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except psycopg.Error as error:
        raise Unavailable(str(error).splitlines()[0]) from None
    started = time.perf_counter()
    connection.execute("ALTER TABLE listed ADD COLUMN near vector(384), ADD COLUMN words tsvector")
    connection.execute("UPDATE listed SET near = embedding::vector(384), words = to_tsvector('english', title)")
    connection.execute(f"ALTER DATABASE {connection.info.dbname} SET hnsw.ef_search = {EF_SEARCH}")
    connection.execute(f"SET hnsw.ef_search = {EF_SEARCH}")
    connection.execute("SET maintenance_work_mem = '4GB'")
    connection.execute("CREATE INDEX listed_near ON listed USING hnsw (near vector_cosine_ops)")
    connection.execute("CREATE INDEX listed_words ON listed USING gin (words)")
    seconds = time.perf_counter() - started
    connection.execute("VACUUM ANALYZE listed")
    size = scalar(connection, "SELECT pg_relation_size('listed_near') + pg_relation_size('listed_words')")
    return f"pgvector {scalar(connection, 'SELECT extversion FROM pg_extension WHERE extname = %s', 'vector')}: both indexes in {seconds:.0f} s, {size / 2**20:,.0f} MiB."


def python_peers(context, connection, products, queries, notes):
    """tantivy and usearch in one process of Python, which embeds no query: their searches alone."""
    lines = []
    try:
        tantivy = peer("tantivy")
        schema = tantivy.SchemaBuilder().add_integer_field("id", stored=True).add_text_field("title", tokenizer_name="en_stem").build()
        index = tantivy.Index(schema)
        writer = index.writer(heap_size=256_000_000, num_threads=1)
        for id, text in products:
            writer.add_document(tantivy.Document(id=id, title=text))
        writer.commit()
        index.reload()
        searcher = index.searcher()
        search = lambda text: searcher.search(index.parse_query_lenient(text, ["title"])[0], K)
        lines.append(["tantivy in Python, words alone", "1", *timed(search, queries)])
    except Unavailable as reason:
        notes.append(f"{reason}.")
    rows = connection.execute("SELECT q, reco.embed(q, %s) FROM asked ORDER BY n", [MODEL]).fetchall()
    vectors = numpy.array([vector for _, vector in rows], numpy.float32)
    try:
        usearch = peer("usearch.index")
        ids = numpy.array([id for id, _ in products])
        matrix = numpy.empty((len(products), 384), numpy.float32)
        place = {id: n for n, id in enumerate(ids.tolist())}
        with connection.transaction(), connection.cursor("vectors", binary=True) as cursor:
            for id, vector in cursor.execute("SELECT id, embedding FROM listed"):
                matrix[place[id]] = vector
        index = usearch.Index(ndim=384, metric="cos", dtype="f32")
        started = time.perf_counter()
        index.add(ids, matrix, threads=2)
        built = time.perf_counter() - started
        if len(ids) <= 200_000:
            recall = []
            for vector in vectors:
                cosines = matrix @ vector
                least = numpy.partition(cosines, -K)[-K]
                found = index.search(vector, K).keys
                recall.append((cosines[[place[id] for id in found.tolist()]] >= least - SAME).mean())
            notes.append(f"usearch: built in {built:.0f} s, recall@{K} {numpy.mean(recall):.3f}.")
        lines.append(["usearch in Python, vectors alone", "1", *timed(lambda vector: index.search(vector, K), list(vectors))])
    except Unavailable as reason:
        notes.append(f"{reason}.")
    return lines


def timed(search, queries):
    times = []
    for turn in range(2):
        for query in queries:
            started = time.perf_counter()
            search(query)
            if turn:
                times.append(time.perf_counter() - started)
    return f"{1 / numpy.mean(times):,.0f}", milliseconds(quantile(times, 0.5)), milliseconds(quantile(times, 0.99))


def refresh(connection, count):
    """Ten rows change of all."""
    ids = [id for (id,) in connection.execute("SELECT id FROM listed ORDER BY hashint8(id) LIMIT 10").fetchall()]
    took, sizes = [], []
    for turn in range(3):
        connection.execute("UPDATE listed SET title = title || ' new' WHERE id = ANY (%s)", [ids])
        started = time.perf_counter()
        version = scalar(connection, "SELECT reco.refresh('products', keep => 2)")
        took.append(time.perf_counter() - started)
        sizes.append(scalar(connection, "SELECT COALESCE(sum(length(data)), 0) FROM reco.model_part WHERE name = 'products' AND version = %s", version))
    return f"`reco.refresh` after 10 of {count:,} rows have changed: {quantile(took, 0.5):.2f} s, {max(sizes) / 1024:,.0f} KiB stored."


def filters(context, connection, queries):
    """What a filter leaves, beside the best rows of an exact scan with the same filter."""
    lines = []
    has_pgvector = scalar(connection, "SELECT count(*) FROM pg_extension WHERE extname = 'vector'") > 0
    best = f"SELECT reco.cosine_similarity(embedding, %s::real[]) AS near FROM listed WHERE price < %s ORDER BY near DESC LIMIT {K}"
    for share, below in [("none", 1_000), ("10 %", 100), ("1 %", 10), ("0.1 %", 1)]:
        times, recall, other = [], [], []
        only = None if below == 1_000 else f"SELECT id FROM listed WHERE price < {below}"
        for query in queries[:: max(1, len(queries) // context.size(40, 5))]:
            vector = scalar(connection, "SELECT reco.embed(%s, %s)", query, MODEL)
            least = min(near for (near,) in connection.execute(best, [vector, below]).fetchall()) - SAME
            started = time.perf_counter()
            connection.execute("SELECT id FROM reco.search('products', %s, 10, %s)", [query, only]).fetchall()
            times.append(time.perf_counter() - started)
            found = connection.execute(
                "SELECT vector_score FROM reco.search('products', %s, 300, %s) ORDER BY vector_score DESC LIMIT 10", [query, only]
            ).fetchall()
            recall.append(sum(near >= least for (near,) in found) / K)
            if has_pgvector:
                found = connection.execute(
                    f"""SELECT reco.cosine_similarity(embedding, %s::real[]) FROM (
                            SELECT embedding FROM listed WHERE price < {below} ORDER BY near <=> %s::real[]::vector(384) LIMIT {K}) AS found""",
                    [vector, vector],
                ).fetchall()
                other.append(sum(near >= least for (near,) in found) / K)
        lines.append([share, f"{numpy.mean(recall):.3f}", milliseconds(quantile(times, 0.5)), f"{numpy.mean(other):.3f}" if other else "–"])
    return "Recall@10 of the vectors against an exact scan with the same filter, and a search's milliseconds with it.\n\n" + table(
        ["filter leaves", "recall", "median", "recall of pgvector's HNSW with WHERE"], lines)
