"""Search: how good rankings are by words, by meaning and by both, and how long a search takes."""

import csv
import gzip
import io
import os
from pathlib import Path

import numpy

from common import ROOT, Unavailable, machine, peer, table
from search_speed import made_vectors, speed

TITLE = "Search: words, meaning, both"
MODEL = "all-minilm-l6-v2"
FOLDS = 5
K = 10


def measure(context):
    parts = []
    with context.connect() as connection:
        try:
            parts += quality(context, connection)
        except Unavailable as reason:
            parts.append(f"Quality: {reason}.")
        parts += speed(context, connection, context.size(92_331, 5_000))
        count = context.size(1_000_000, 30_000)
        connection.execute("SET reco.training_memory = '12GB'")
        parts += speed(context, connection, count, made_vectors(count))
    return "\n\n".join([*parts, machine(context, "psycopg", "bm25s", "tantivy", "usearch")])


# ---------------------------------------------------------------------------------------------------------------- quality


def judged_titles(context):
    """(id, query, title, description, grade) of a shop's graded results."""
    path = Path(os.environ.get("RECO_DATASETS", ROOT.parent / "shared" / "data")) / "search" / "crowdflower_half.csv.gz"
    if not path.exists():
        raise Unavailable(f"search: skipped, since {path.name} is not in $RECO_DATASETS/search")
    rows = csv.DictReader(io.TextIOWrapper(gzip.open(path), encoding="utf-8", newline=""))
    rows = [(int(row["id"]), row["query"], row["title"], row["description"], int(row["grade"])) for row in rows]
    return rows[: context.size(len(rows), 600)]


def ndcg(grades, ideal):
    """With the gain 2^grade − 1."""
    discount = 1 / numpy.log2(numpy.arange(2, K + 2))
    gain = lambda values: float(((numpy.exp2(numpy.array(values[:K], float)) - 1) * discount[: len(values[:K])]).sum())
    best = gain(sorted(ideal, reverse=True))
    return gain(grades) / best if best > 0 else 0.0


class Rankings:
    """NDCG of rankings of each query's own graded titles, and of searches of all titles."""

    def __init__(self, rows):
        self.rows = rows
        self.queries = sorted({row[1] for row in rows})
        self.grades = {query: {id: grade for id, other, *_, grade in rows if other == query} for query in self.queries}

    def measure(self, rank, queries=None):
        """`rank(query, ids or None)` gives ids, best first; the mean NDCG of own titles and of all."""
        own, whole = [], []
        for query in queries or self.queries:
            grades = self.grades[query]
            own.append(ndcg([grades[id] for id in rank(query, list(grades))], list(grades.values())))
            whole.append(ndcg([grades.get(id, 0) for id in rank(query, None)], list(grades.values())))
        return numpy.array(own), numpy.array(whole)


def quality(context, connection):
    rows = judged_titles(context)
    rankings = Rankings(rows)
    connection.execute("CREATE TABLE title (id int PRIMARY KEY, query text, title text, description text, grade int, embedding real[])")
    with connection.cursor() as cursor, cursor.copy("COPY title (id, query, title, description, grade) FROM STDIN") as copy:
        for row in rows:
            copy.write_row([row[0], row[1], *(text.replace("\0", "") for text in row[2:4]), row[4]])
    connection.execute(
        f"""UPDATE title SET embedding = e.embedding
              FROM reco.embed_query('SELECT id, title || E''\\n'' || left(description, 2000) AS text FROM title', '{MODEL}') AS e
             WHERE title.id = e.id::int"""
    )
    source = "SELECT id, title, description, embedding FROM title"
    judgements = "SELECT query, id, grade - 1 AS grade FROM title"

    def train(options="{}", judged=None):
        connection.execute("SELECT reco.train_search('titles', %s, %s, %s, judgements => %s, seed => 1, keep => 1)", [source, options, MODEL, judged])

    def rank(query, ids):
        only = None if ids is None else f"SELECT id FROM unnest(ARRAY{ids}) AS id"
        k = K if ids is None else len(ids)
        found = connection.execute("SELECT id FROM reco.search('titles', %s, %s, %s)", [query, k, only]).fetchall()
        found = [int(id) for (id,) in found]
        # What no leg ranks comes last, in the order of ids.
        return found + [id for id in sorted(ids or []) if id not in found]

    lines = []

    def line(name, measured):
        own, whole = measured
        lines.append([name, f"{own.mean():.4f}", f"{whole.mean():.4f}"])

    line("words, `bm25s`, titles and descriptions joined", rankings.measure(bm25s_ranking(rows)))
    for name, options in [("words", '{"lexical_weight": 1}'), ("meaning", '{"lexical_weight": 0}'), ("both, reciprocal ranks", "{}")]:
        train(options)
        line(name, rankings.measure(rank))
    folds = numpy.random.default_rng(1).permutation(len(rankings.queries)) % FOLDS
    own, whole = [], []
    for fold in range(FOLDS):
        held = {query for query, of in zip(rankings.queries, folds) if of == fold}
        named = ", ".join(f"$q${query}$q$" for query in sorted(held))
        train(judged=f"{judgements} WHERE query NOT IN ({named})")
        measured = rankings.measure(rank, sorted(held))
        own.extend(measured[0])
        whole.extend(measured[1])
    line("both, fitted on judgements of other queries", (numpy.array(own), numpy.array(whole)))
    connection.execute("SELECT reco.drop_model('titles')")
    return [
        f"{len(rows):,} graded titles with descriptions of {len(rankings.queries)} shop queries; mean NDCG@{K}, gain 2^grade − 1. Vectors of "
        f"{MODEL}. Fitted in {FOLDS} folds by query.",
        table(["ranking", "each query's own titles", "all titles"], lines),
    ]


def bm25s_ranking(rows):
    bm25s = peer("bm25s")
    texts = [f"{title} {description}" for _, _, title, description, _ in rows]
    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
    ids = numpy.array([row[0] for row in rows])
    place = {id: n for n, id in enumerate(ids.tolist())}

    def rank(query, among):
        scores = index.get_scores(bm25s.tokenize(query, stopwords="en", show_progress=False, return_ids=False)[0])
        if among is None:
            return ids[numpy.argsort(-scores, kind="stable")[:K]].tolist()
        return sorted(among, key=lambda id: (-scores[place[id]], id))

    return rank
