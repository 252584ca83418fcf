"""Texts and images to vectors, against Python's ONNX Runtime on the same models."""

import struct
import zlib

import numpy
import onnxruntime
import pytest
from reference import MODELS, TextModel, cosine

ENGLISH = "all-minilm-l6-v2"
MULTILINGUAL = "use-multilingual-v3"
TEXTS = [
    "red wine",
    "RED WINE 750ml, dry",
    "Organic whole milk, 1 gallon",
    "a",
    "",
    "   ",
    "红葡萄酒 750毫升",
    "Ünïcödé — “quotes” and emoji 🍷🧀",
    "word " * 400,
    "牛奶" * 600,
    "x" * 3000,
    "line\nbreaks\tand tabs",
]


@pytest.mark.parametrize("model", [ENGLISH, MULTILINGUAL])
def test_vectors_equal_pythons_whatever_the_batch(rows, scalar, model):
    reference = TextModel(model)
    batched = dict(rows("SELECT ordinal, embedding FROM reco.embed(%s::text[], %s)", TEXTS, model))
    assert sorted(batched) == list(range(1, len(TEXTS) + 1))
    for ordinal, text in enumerate(TEXTS, 1):
        expected = reference.embed(text)
        alone = scalar("SELECT reco.embed(%s, %s)", text, model)
        assert len(alone) == reference.config["dimension"]
        assert cosine(alone, expected) > 0.99999, text
        assert cosine(batched[ordinal], expected) > 0.99999, text


def test_batch_size_and_threads_do_not_change_a_vector(db):
    texts = [f"product number {i} " + "with more words " * (i % 7) for i in range(60)]
    vectors = []
    for batch, threads in [(1, 1), (7, 2), (256, 2)]:
        db.execute(f"SET reco.max_batch = {batch}; SET reco.threads = {threads}")
        vectors.append([v for _, v in db.execute("SELECT * FROM reco.embed(%s::text[])", [texts]).fetchall()])
    for other in vectors[1:]:
        assert all(cosine(a, b) > 0.999999 for a, b in zip(vectors[0], other))


def test_null_texts_keep_their_place(rows, scalar):
    got = rows("SELECT ordinal, embedding IS NULL FROM reco.embed(ARRAY['a', NULL, 'b', NULL]) ORDER BY ordinal")
    assert got == [(1, False), (2, True), (3, False), (4, True)]
    assert scalar("SELECT reco.embed(NULL::text)") is None
    assert scalar("SELECT reco.embed_image(NULL)") is None
    assert rows("SELECT * FROM reco.embed('{}'::text[])") == []
    assert rows("SELECT * FROM reco.embed(NULL::text[])") == []


def test_embed_query_streams_every_row_with_its_id(db, scalar):
    db.execute(
        """CREATE TEMP TABLE item AS
           SELECT i AS id, CASE WHEN i % 100 = 0 THEN NULL ELSE 'product ' || i % 50 END AS text
             FROM generate_series(1, 20000) AS i"""
    )
    db.execute("CREATE TEMP TABLE vector AS SELECT id::int, embedding FROM reco.embed_query('TABLE item')")
    assert scalar("SELECT count(*) FROM vector JOIN item USING (id)") == 20000
    assert scalar("SELECT count(*) FROM vector JOIN item USING (id) WHERE (embedding IS NULL) <> (text IS NULL)") == 0
    db.execute("CREATE TEMP TABLE first AS SELECT DISTINCT ON (text) text, embedding FROM vector JOIN item USING (id)")
    assert scalar(
        """SELECT count(*) FROM vector v JOIN item USING (id) JOIN first f USING (text)
            WHERE reco.cosine_similarity(v.embedding, f.embedding) < 0.99999"""
    ) == 0
    reference = TextModel(ENGLISH)
    assert cosine(scalar("SELECT embedding FROM vector WHERE id = 17"), reference.embed("product 17")) > 0.99999


def test_embed_query_can_stop_early_and_take_a_trailing_semicolon(rows):
    got = rows("SELECT id FROM reco.embed_query('SELECT i AS id, ''x'' AS text FROM generate_series(1, 5) i;') LIMIT 2")
    assert got == [("1",), ("2",)]


def test_chinese_queries_find_chinese_and_english_products(db):
    products = {
        "wine": ("red wine 750 ml", "红葡萄酒 750毫升"),
        "milk": ("fresh whole milk", "全脂鲜牛奶"),
        "diapers": ("baby diapers size 3", "婴儿纸尿裤 3号"),
        "shampoo": ("shampoo for dry hair", "干性发质洗发水"),
        "bread": ("sliced white bread", "切片白面包"),
        "coffee": ("ground coffee beans", "研磨咖啡豆"),
        "dog food": ("dry dog food chicken", "鸡肉味干狗粮"),
        "toothpaste": ("whitening toothpaste", "美白牙膏"),
        "detergent": ("laundry detergent liquid", "洗衣液"),
        "ice cream": ("vanilla ice cream", "香草冰淇淋"),
    }
    queries = {
        "wine": "葡萄酒", "milk": "牛奶", "diapers": "尿布", "shampoo": "洗头", "bread": "面包",
        "coffee": "咖啡", "dog food": "狗吃的", "toothpaste": "刷牙", "detergent": "洗衣服", "ice cream": "冰激凌",
    }  # fmt: skip
    db.execute(
        "CREATE TEMP TABLE product AS SELECT kind, language, reco.embed(text, %s) AS embedding "
        "FROM unnest(%s::text[], %s::text[], %s::text[]) AS p(kind, language, text)",
        [
            MULTILINGUAL,
            [kind for kind in products for _ in range(2)],
            ["en", "zh"] * len(products),
            [text for both in products.values() for text in both],
        ],
    )
    for language in ("en", "zh"):
        found = 0
        for kind, query in queries.items():
            ((best,),) = db.execute(
                """SELECT kind FROM product WHERE language = %s
                    ORDER BY reco.cosine_similarity(embedding, (SELECT reco.embed(%s, %s))) DESC LIMIT 1""",
                [language, query, MULTILINGUAL],
            ).fetchall()
            found += best == kind
        assert found >= 9, language


def png(pixels):
    """A PNG file of an array [height, width, 3]."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def gradient(size):
    x, y = numpy.meshgrid(numpy.linspace(0, 1, size), numpy.linspace(0, 1, size))
    rings = (numpy.sin(12 * numpy.hypot(x - 0.4, y - 0.6)) + 1) / 2
    return (numpy.stack([x, y, rings], -1) * 255).astype(numpy.uint8)


def test_an_image_vector_equals_pythons(scalar):
    # 256 pixels are the size that images are resized to: only the cut from the middle is left to do.
    pixels = gradient(256)
    cut = pixels[16:240, 16:240].astype(numpy.float32)
    session = onnxruntime.InferenceSession(
        MODELS / "efficientnet-lite0" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    feed = {"pixel_values": ((cut - 127) / 128).transpose(2, 0, 1)[None]}
    (expected,) = session.run(["image_embedding"], feed)[0]
    assert cosine(scalar("SELECT reco.embed_image(%b)", png(pixels)), expected) > 0.99999


def test_an_image_keeps_its_vector_at_another_size(scalar):
    small, large = png(gradient(256)), png(gradient(700))
    a, b = (scalar("SELECT reco.embed_image(%b)", image) for image in (small, large))
    other = scalar("SELECT reco.embed_image(%b)", png(numpy.full((300, 200, 3), 255, numpy.uint8)))
    assert cosine(a, b) > 0.98 > cosine(a, other)


def test_images_of_a_query_have_the_vectors_that_each_has_alone(db):
    images = [png(gradient(size)) for size in (60, 256, 300)] * 24
    db.execute("CREATE TEMP TABLE picture (id integer, image bytea)")
    with db.cursor() as cursor:
        cursor.executemany("INSERT INTO picture VALUES (%s, %b)", list(enumerate(images)))
    db.execute("INSERT INTO picture VALUES (1000, NULL)")
    got = db.execute("SELECT id, embedding FROM reco.embed_images('TABLE picture ORDER BY id')").fetchall()
    assert [id for id, _ in got] == [str(i) for i in [*range(len(images)), 1000]] and got[-1][1] is None
    for image, (_, vector) in list(zip(images, got))[:6]:
        assert cosine(vector, db.execute("SELECT reco.embed_image(%b)", [image]).fetchone()[0]) > 0.999999
    assert db.execute("SELECT count(*) FROM reco.embed_images('SELECT 1 AS id, NULL::bytea AS image WHERE false')").fetchone() == (0,)


def test_embeddings_are_of_the_calls_model(scalar, db):
    assert scalar("SELECT array_length(reco.embed('wine'), 1)") == 384
    db.execute(f"SET reco.embedding_model = '{MULTILINGUAL}'")
    assert scalar("SELECT array_length(reco.embed('wine'), 1)") == 512
