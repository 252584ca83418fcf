"""How good rankings of graded results are, by words, by meaning and by both: a shop's in English, a search engine's in Chinese."""

import csv
import gzip
import io
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy

from common import ROOT, Unavailable, peer, table

ENGLISH = "all-minilm-l6-v2"
MULTILINGUAL = "use-multilingual-v3"
FOLDS = 5
K = 10
# Queries that search all titles, and that LightGBM learns from in each fold: drawn where there are more.
MAX_QUERIES = 2000


@dataclass
class Graded:
    """Results of queries, graded by people: rows of (id, query, title, description, grade)."""

    rows: list

    def __post_init__(self):
        self.queries = sorted({row[1] for row in self.rows})
        self.grades = {query: {} for query in self.queries}
        for id, query, *_, grade in self.rows:
            self.grades[query][id] = grade
        folds = numpy.random.default_rng(1).permutation(len(self.queries)) % FOLDS
        self.fold = dict(zip(self.queries, folds.tolist()))
        self.drawn = set(numpy.random.default_rng(2).permutation(self.queries)[:MAX_QUERIES].tolist())

    def ndcg(self, rank, fold=None):
        """
        Mean NDCG of `rank(query, ids or None)`, which gives ids, best first: of each query's own titles, where people preferred
        one, and of all titles, where people found one worth something.
        """
        own, whole = [], []
        for query in self.queries:
            grades = self.grades[query]
            if fold is not None and self.fold[query] != fold:
                continue
            if len(set(grades.values())) > 1:
                own.append(ndcg([grades[id] for id in rank(query, sorted(grades))], list(grades.values())))
            if query in self.drawn and max(grades.values()) > 0:
                whole.append(ndcg([grades.get(id, 0) for id in rank(query, None)], list(grades.values())))
        return own, whole

    def folded(self, fit):
        """NDCG of what `fit(fold)` has learned from the other folds."""
        own, whole = [], []
        for fold in range(FOLDS):
            measured = self.ndcg(fit(fold), fold)
            own += measured[0]
            whole += measured[1]
        return own, whole


def ndcg(grades, ideal):
    """With the gain 2^grade − 1."""
    discount = 1 / numpy.log2(numpy.arange(2, K + 2))
    gain = lambda values: float(((numpy.exp2(numpy.array(values[:K], float)) - 1) * discount[: len(values[:K])]).sum())
    best = gain(sorted(ideal, reverse=True))
    return gain(grades) / best if best > 0 else 0.0


def file_of(name):
    path = Path(os.environ.get("RECO_DATASETS", ROOT.parent / "shared" / "data")) / "search" / name
    if not path.exists():
        raise Unavailable(f"{name} is not in $RECO_DATASETS/search")
    return gzip.open(path, "rt", encoding="utf-8", newline="").read().replace("\0", "")


class Index:
    """Graded titles as a table and a search index over them."""

    def __init__(self, connection, graded, model, options):
        self.connection, self.graded, self.model, self.options = connection, graded, model, options
        connection.execute("CREATE TABLE title (id int PRIMARY KEY, query text, title text, description text, grade int, fold int, embedding real[])")
        with connection.cursor() as cursor, cursor.copy("COPY title (id, query, title, description, grade, fold) FROM STDIN") as copy:
            for row in graded.rows:
                copy.write_row([*row, graded.fold[row[1]]])
        connection.execute(
            f"""UPDATE title SET embedding = e.embedding
                  FROM reco.embed_query('SELECT id, concat_ws(E''\\n'', title, nullif(left(description, 2000), '''')) AS text FROM title', '{model}') AS e
                 WHERE title.id = e.id::int"""
        )

    def train(self, options="{}", held=None):
        """Trains on the judgements outside the fold `held`, or on none."""
        judgements = held is not None and f"SELECT query, id, grade - (SELECT min(grade) FROM title) AS grade FROM title WHERE fold <> {held}" or None
        self.connection.execute(
            "SELECT reco.train_search('titles', 'SELECT id, title, description, embedding FROM title', %s::jsonb || %s::jsonb, %s, judgements => %s, seed => 1, keep => 1)",
            [self.options, options, self.model, judgements],
        )

    def rank(self, query, ids):
        only = None if ids is None else f"SELECT id FROM unnest(ARRAY{ids}) AS id"
        found = self.connection.execute("SELECT id FROM reco.search('titles', %s, %s, %s)", [query, K if ids is None else len(ids), only]).fetchall()
        found = [int(id) for (id,) in found]
        # What no leg ranks comes last, in the order of ids.
        return found + [id for id in ids or [] if id not in found]

    def fitted(self, fold):
        self.train(held=fold)
        return self.rank

    def scores(self):
        """(lexical_score, vector_score) of every pair of query and title, by the rows' order."""
        self.train()
        found = self.connection.execute(
            """SELECT t.id, f.lexical_score, f.vector_score
                 FROM title t LEFT JOIN LATERAL reco.search('titles', t.query, 1, 'SELECT ' || t.id || ' AS id') f ON true"""
        ).fetchall()
        by_id = {id: [value or 0.0 for value in values] for id, *values in found}
        return numpy.array([by_id[row[0]] for row in self.graded.rows])

    def close(self):
        self.connection.execute("SELECT reco.drop_model('titles')")
        self.connection.execute("DROP TABLE title")


class Python:
    """The same legs in Python: `bm25s`, cosines in numpy, and LightGBM's `lambdarank` over both."""

    # As many rows of each leg as a learned ranking looks at.
    CANDIDATES = 100

    def __init__(self, index, words):
        bm25s = peer("bm25s")
        self.graded, self.words = index.graded, words
        self.ids = numpy.array([row[0] for row in self.graded.rows])
        self.place = {id: n for n, id in enumerate(self.ids.tolist())}
        self.titles = [set(words(row[2])) for row in self.graded.rows]
        self.bm25 = bm25s.BM25()
        self.bm25.index([words(f"{row[2]} {row[3]}") for row in self.graded.rows], show_progress=False)
        vectors = dict(index.connection.execute("SELECT id, embedding FROM title").fetchall())
        self.vectors = numpy.array([vectors[id] for id in self.ids.tolist()], numpy.float32)
        embedded = index.connection.execute("SELECT q, reco.embed(q, %s) FROM unnest(%s::text[]) AS q", [index.model, self.graded.queries]).fetchall()
        self.known = {}
        self.embedded = {query: numpy.array(vector, numpy.float32) for query, vector in embedded}

    def scores(self, query):
        words = [word for word in self.words(query) if word in self.bm25.vocab_dict]
        lexical = self.bm25.get_scores(words) if words else numpy.zeros(len(self.ids), numpy.float32)
        return lexical, self.vectors @ self.embedded[query]

    def among(self, ids):
        return numpy.arange(len(self.ids)) if ids is None else numpy.array([self.place[id] for id in ids])

    def best(self, rows, scores, ids):
        found = self.ids[rows[numpy.argsort(-scores, kind="stable")]].tolist()
        return found[:K] if ids is None else found

    def by_words(self, query, ids):
        rows = self.among(ids)
        return self.best(rows, self.scores(query)[0][rows], ids)

    def by_both(self, query, ids):
        rows = self.among(ids)
        lexical, near = (ranks_of(scores[rows]) for scores in self.scores(query))
        return self.best(rows, 1 / (60 + lexical) + 1 / (60 + near), ids)

    def features(self, query, ids):
        """The rows of a query that are ranked, its own titles or the best of each leg, and their features."""
        key = (query, ids is None)
        if key not in self.known:
            rows = self.candidates(query) if ids is None else self.among(ids)
            self.known[key] = rows, self.described(query, rows)
        return self.known[key]

    def described(self, query, rows):
        """Of each row: both scores, and each less the best one, both ranks' reciprocals, the share of the query's words, lengths."""
        lexical, near = (scores[rows] for scores in self.scores(query))
        words = set(self.words(query))
        share = numpy.array([len(words & self.titles[row]) / max(1, len(words)) for row in rows])
        length = numpy.log1p([len(self.titles[row]) for row in rows])
        relative = [score - score.max() for score in (lexical, near)] + [1 / ranks_of(score) for score in (lexical, near)]
        return numpy.column_stack([lexical, near, *relative, share, length, numpy.full(len(rows), len(words))])

    def lambdarank(self, fold):
        """A model of the graded titles for the graded ones; and one for all, which takes what nobody graded for worse than these."""
        lightgbm = peer("lightgbm")
        queries = [query for query in self.graded.queries if self.graded.fold[query] != fold and (query in self.graded.drawn or self.several(query))]
        least = min(row[4] for row in self.graded.rows)

        def fit(ids_of):
            groups = [(query, *self.features(query, ids_of(query))) for query in queries]
            groups = [group for group in groups if len(group[1]) > 1]
            if not groups:
                raise Unavailable("no query has two titles")
            grades = [[self.graded.grades[query].get(id, least - 1) for id in self.ids[rows]] for query, rows, _ in groups]
            lowest = min(map(min, grades))
            model = lightgbm.LGBMRanker(n_estimators=100, num_leaves=7, learning_rate=0.05, min_child_samples=20, n_jobs=2, verbose=-1, random_state=1)
            features = numpy.concatenate([features for *_, features in groups])
            model.fit(features, numpy.concatenate(grades) - lowest, group=[len(rows) for _, rows, _ in groups])
            return model

        own = fit(lambda query: sorted(self.graded.grades[query]))
        whole = fit(lambda query: None)

        def rank(query, ids):
            rows, features = self.features(query, ids)
            return self.best(rows, (whole if ids is None else own).predict(features), ids)

        return rank

    def several(self, query):
        return len(self.graded.grades[query]) > 1

    def candidates(self, query):
        return numpy.unique(numpy.concatenate([numpy.argsort(-scores, kind="stable")[: self.CANDIDATES] for scores in self.scores(query)]))


def ranks_of(scores):
    """1 for the highest."""
    ranks = numpy.empty(len(scores))
    ranks[numpy.argsort(-scores, kind="stable")] = numpy.arange(1, len(scores) + 1)
    return ranks


class Lines:
    def __init__(self):
        self.lines = []

    def add(self, name, measured):
        own, whole = measured
        self.lines.append([name, f"{numpy.mean(own):.4f}", f"{numpy.mean(whole):.4f}"])

    def table(self):
        return table(["ranking", "each query's own titles", "all titles"], self.lines)


def rankings(index, words, peers):
    """The table of all rankings; `words` cuts a text for Python's side and `peers` says how."""
    graded, lines = index.graded, Lines()
    try:
        python = Python(index, words)
        lines.add(f"words, `bm25s`, {peers}", graded.ndcg(python.by_words))
    except Unavailable:
        python = None
    for name, options in [("words", '{"lexical_weight": 1}'), ("meaning", '{"lexical_weight": 0}'), ("both, reciprocal ranks", "{}")]:
        index.train(options)
        lines.add(name, graded.ndcg(index.rank))
    lines.add("both, learned from judgements of other queries", graded.folded(index.fitted))
    if python:
        lines.add("both, reciprocal ranks, in Python", graded.ndcg(python.by_both))
        try:
            lines.add("both, LightGBM's `lambdarank` on judgements of other queries", graded.folded(python.lambdarank))
        except Unavailable:
            pass
    return lines.table()


def shop_titles(context, connection):
    try:
        rows = csv.DictReader(io.StringIO(file_of("crowdflower_half.csv.gz")))
    except Unavailable as reason:
        return [f"Titles of a shop: {reason}."]
    rows = [(int(row["id"]), row["query"], row["title"], row["description"], int(row["grade"])) for row in rows]
    graded = Graded(rows[: context.size(len(rows), 600)])
    index = Index(connection, graded, ENGLISH, "{}")
    bm25s = peer("bm25s")

    def words(text):
        return bm25s.tokenize(text, stopwords="en", show_progress=False, return_ids=False)[0]

    lines = rankings(index, words, "titles and descriptions joined")
    index.close()
    return [
        f"{len(graded.rows):,} graded titles with descriptions of {len(graded.queries)} shop queries; mean NDCG@{K}, gain 2^grade − 1. Vectors of {ENGLISH}. "
        f"Learned in {FOLDS} folds by query.",
        lines,
    ]


def chinese_pages(context, connection):
    try:
        rows = map(json.loads, file_of("qbqtc_dev.json.gz").splitlines())
    except Unavailable as reason:
        return [f"Pages in Chinese: {reason}."]
    rows = [(row["id"], row["query"], row["title"], "", int(row["label"])) for row in rows]
    # Few queries have several titles: a short run takes these.
    titles = Counter(row[1] for row in rows)
    rows.sort(key=lambda row: -titles[row[1]])
    graded = Graded(rows[: context.size(len(rows), 600)])
    index = Index(connection, graded, MULTILINGUAL, '{"fields": {"title": 1}}')
    lines = rankings(index, list, "characters")
    accuracy, f1 = classes(index)
    index.close()
    return [
        f"{len(graded.rows):,} pairs of a query in Chinese and the title of a page, graded 0 to 2 (QBQTC's development set); mean NDCG@{K}, gain 2^grade − 1. "
        f"Vectors of {MULTILINGUAL}. Learned in {FOLDS} folds by query. Few queries have more than one title: own titles are those of "
        f"{sum(len(set(grades.values())) > 1 for grades in graded.grades.values())} queries; all titles are searched for {len(graded.drawn):,}.",
        lines,
        f"The grade of a pair by multinomial logistic regression on the two legs' scores that `reco.search` gives, learned from the other four fifths of these pairs: "
        f"accuracy {accuracy:.3f}, mean F1 of the grades {f1:.3f}. (BERT-base trained on the set's 180,000 other pairs: 0.724 and 0.649 by its paper.)",
    ]


def classes(index):
    """Accuracy and macro F1 of grades from a pair's scores, in the same folds."""
    peer("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, f1_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    grades = numpy.array([row[4] for row in index.graded.rows])
    folds = numpy.array([index.graded.fold[row[1]] for row in index.graded.rows])
    found = numpy.empty_like(grades)
    features = index.scores()
    for fold in range(FOLDS):
        model = make_pipeline(PolynomialFeatures(2), StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(features[folds != fold], grades[folds != fold])
        found[folds == fold] = model.predict(features[folds == fold])
    return accuracy_score(grades, found), f1_score(grades, found, average="macro")
