"""Search: how good rankings are by words, by meaning and by both, and how long a search takes."""

from common import machine
from search_quality import chinese_pages, shop_titles
from search_speed import made_vectors, speed

TITLE = "Search: words, meaning, both"


def measure(context):
    with context.connect() as connection:
        parts = [*shop_titles(context, connection), *chinese_pages(context, connection)]
        parts += speed(context, connection, context.size(92_331, 5_000))
        count = context.size(1_000_000, 30_000)
        connection.execute("SET reco.training_memory = '12GB'")
        parts += speed(context, connection, count, made_vectors(connection, count))
    return "\n\n".join([*parts, machine(context, "psycopg", "bm25s", "lightgbm", "tantivy", "usearch", "scikit-learn")])
