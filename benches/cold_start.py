"""Cold start on Complete Journey, by time: users of whom three purchases are known, and items of which only the text is.

The year is cut where 80 % of the receipts' lines lie before. Each household counts with its first purchase of each product.

New users: of the households that bought at least 3 + 5 different products after the cut, 500 are drawn. Nothing of theirs is
trained on. What is known of each at the time of asking are the first three different products that it bought after the cut
(by time, then by product), as far as training knows the product; to be found are all others that it bought after those.

New items: products whose first purchase of anyone is after the cut. Candidates are these only; to be found are those that a
household, one that training knows, bought after the cut. The model knows of them what the products' table says.
"""

from dataclasses import dataclass

import numpy
import psycopg

import metrics
import peers
from algorithms import COLD, measured_on
from common import THREADS, Unavailable, machine, table
from data import complete_journey, load, product_texts, purchases
from own import MODEL, Own
from quality import not_measured

TITLE = "Cold start on Complete Journey"
K = 20
KNOWN, WANTED, NEW_USERS = 3, 5, 500
TEXT_MODEL = "all-minilm-l6-v2"


@dataclass
class Split:
    """Products and households by number; pairs are (household, product), each once."""

    users: numpy.ndarray
    items: numpy.ndarray
    train: tuple
    # [new users, KNOWN] known products, and (row of a new user, product) to be found.
    histories: numpy.ndarray
    wanted: tuple
    # Numbers of the new products, and (household, product) to be found.
    new_items: numpy.ndarray
    new_pairs: tuple

    def test(self, pairs, rows):
        """In the form that metrics.full_ranking takes."""
        return Pairs(rows, len(self.items), pairs)


@dataclass
class Pairs:
    users: int
    items: int
    test: tuple


def split(quick):
    household, product, time = purchases()
    if quick:
        some = household < 150
        household, product, time = household[some], product[some], time[some]
    cut = numpy.quantile(time, 0.8)
    order = numpy.lexsort((product, time, household))
    household, product, time = household[order], product[order], time[order]
    # The first purchase of each product by each household, still by time within the household.
    keys = household * (product.max() + 1) + product
    first = numpy.sort(numpy.unique(keys, return_index=True)[1])
    # New users bought anything before or not: their rows before the cut are not used, so what they bought then is bought anew.
    late = time > cut
    late_first = numpy.flatnonzero(late)[numpy.sort(numpy.unique(keys[late], return_index=True)[1])]
    household_late, product_late = household[late_first], product[late_first]
    bought, counts = numpy.unique(household_late, return_counts=True)
    able = bought[counts >= KNOWN + WANTED]
    chance = numpy.random.default_rng(1)
    new_users = numpy.sort(chance.choice(able, min(NEW_USERS, len(able) // 4), replace=False))

    early = first[(time[first] <= cut) & ~numpy.isin(household[first], new_users)]
    users = numpy.unique(household[early])
    trained_items = numpy.unique(product[early])
    # New to all: a product that only the new users bought before is neither trained on nor new.
    ever_early = numpy.unique(product[time <= cut])
    new_products = numpy.setdiff1d(product[late], ever_early)
    texts = numpy.array([product_id for product_id, text in product_texts() if text])
    new_products = new_products[numpy.isin(new_products, texts)]
    items = numpy.union1d(trained_items, new_products)

    def number(products):
        return numpy.searchsorted(items, products)

    histories, wanted = [], ([], [])
    for row, user in enumerate(new_users):
        theirs = product_late[household_late == user]
        theirs = number(theirs[numpy.isin(theirs, trained_items)])
        histories.append(numpy.pad(theirs[:KNOWN], (0, max(0, KNOWN - len(theirs))), constant_values=-1))
        wanted[0].extend([row] * len(theirs[KNOWN:]))
        wanted[1].extend(theirs[KNOWN:])
    rows = late_first[numpy.isin(product[late_first], new_products) & numpy.isin(household[late_first], users)]
    return Split(
        users,
        items,
        (numpy.searchsorted(users, household[early]), number(product[early])),
        numpy.array(histories),
        (numpy.array(wanted[0]), numpy.array(wanted[1])),
        number(new_products),
        (numpy.searchsorted(users, household[rows]), number(product[rows])),
    )


# ------------------------------------------------------------------------------------------------- what is to be beaten


def popular(data):
    """Scores of all items: in how many households training has them."""
    return numpy.bincount(data.train[1], minlength=len(data.items)).astype(numpy.float32)


def popularity_of_users(data):
    scores = numpy.tile(popular(data), (len(data.histories), 1))
    scores[:, data.new_items] = -numpy.inf
    return without_known(scores, data)


def neighbours_of_users(data, vectors):
    """The items whose text is nearest, by cosine, to the mean of the known ones' texts."""
    means = numpy.stack([vectors[history[history >= 0]].sum(0) for history in data.histories])
    scores = means @ vectors.T
    scores[:, data.new_items] = -numpy.inf
    return without_known(scores, data)


def without_known(scores, data):
    for row, history in zip(scores, data.histories):
        row[history[history >= 0]] = -numpy.inf
    return metrics.best(scores, K)


def neighbours_of_items(data, vectors):
    """The new items whose text is nearest to the mean of the household's products' texts."""
    means = numpy.zeros((len(data.users), vectors.shape[1]), numpy.float32)
    numpy.add.at(means, data.train[0], vectors[data.train[1]])
    return data.new_items[metrics.best(means @ vectors[data.new_items].T, K)]


def popularity_of_items(data, kinds):
    """New items were bought by nobody: in place of their own popularity that of their kind, the product's type; ties by number."""
    of_kind = numpy.bincount(kinds[data.train[1]], minlength=kinds.max() + 1)
    order = numpy.argsort(-of_kind[kinds[data.new_items]], kind="stable")
    return numpy.tile(data.new_items[order[:K]], (len(data.users), 1))


# ------------------------------------------------------------------------------------------------------- the extension


def describe(connection, data):
    """Tables: what is trained on, what is known of products, their texts' vectors; returns the vectors, of length 1."""
    texts = dict(product_texts())
    load(
        connection,
        "cold_text",
        {"id": numpy.arange(len(data.items)), "text": [texts.get(int(product), "") or "unknown" for product in data.items]},
    )
    load(connection, "cold_train", {"user_id": data.train[0], "item_id": data.train[1]})
    load(connection, "cold_new", {"item_id": data.new_items})
    connection.execute("DROP TABLE IF EXISTS cold_item")
    connection.execute(
        "CREATE TABLE cold_item AS SELECT id AS item_id, embedding FROM reco.embed_query('TABLE cold_text', %s)", [TEXT_MODEL]
    )
    rows = connection.execute("SELECT item_id::int, embedding FROM cold_item ORDER BY item_id").fetchall()
    vectors = numpy.array([vector for _, vector in rows], numpy.float32)
    return vectors / numpy.maximum(numpy.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def lists_of_new_users(connection, data, described):
    load_histories = {
        "user_id": numpy.arange(len(data.histories)),
        **{f"item_{place}": data.histories[:, place] for place in range(KNOWN)},
    }
    load(connection, "cold_history", load_histories)
    items = ", ".join(f"item_{place}" for place in range(KNOWN))
    query = (
        f"SELECT h.user_id::int, r.rank, r.item_id::int FROM cold_history h, LATERAL reco.recommend_for_items('{MODEL}', "
        f"array_remove(ARRAY[{items}], -1::bigint), k => {K}{{}}) r"
    )
    # Where items are described, the new ones are known to the model as well; they are not what these users are asked for.
    named = ", filter => 'SELECT DISTINCT item_id FROM cold_train'" if described else ""
    rows = numpy.array(connection.execute(query.format(named)).fetchall(), dtype=numpy.int64).reshape(-1, 3)
    lists = numpy.full((len(data.histories), K), -1)
    lists[rows[:, 0], rows[:, 1] - 1] = rows[:, 2]
    return lists


def kinds_of(data):
    """A number for each item's type of product, as the products' table has it."""
    rows = complete_journey("products.parquet", ["product_id", "product_type"])
    types = dict(zip(rows["product_id"].to_pylist(), rows["product_type"].to_pylist()))
    return numpy.unique([types.get(int(product)) or "" for product in data.items], return_inverse=True)[1]


def measure(context):
    data = split(context.quick)
    new_users, new_items = data.test(data.wanted, len(data.histories)), data.test(data.new_pairs, len(data.users))
    lines, missed = [], []

    def line(title, of_users, of_items):
        cells = [title]
        for lists, test in ((of_users, new_users), (of_items, new_items)):
            rated = metrics.full_ranking(lists, test, K) if lists is not None else None
            cells += ["", ""] if rated is None else [f"{rated['recall']:.4f}", f"{rated['ndcg']:.4f}"]
        lines.append(cells)

    with context.connect() as connection:
        vectors = describe(connection, data)
        with peers.blas_threads(THREADS):
            line("popularity; for new items that of their type of product", popularity_of_users(data), popularity_of_items(data, kinds_of(data)))
            line("nearest texts", neighbours_of_users(data, vectors), neighbours_of_items(data, vectors))
        own = Own(connection, "TABLE cold_train")
        for algorithm, options in measured_on(COLD, context.quick):
            try:
                own.train(algorithm, COLD, options)
                of_users = lists_of_new_users(connection, data, bool(algorithm.queries))
                of_items = own.lists(len(data.users), K, "TABLE cold_new") if algorithm.queries else None
            except (Unavailable, psycopg.Error) as reason:
                missed.append(not_measured(algorithm, reason))
                continue
            line(f"pg_reco, {algorithm.title}" + (f" {options}" if options else ""), of_users, of_items)
    return "\n\n".join(
        [
            f"{len(data.train[0]):,} purchases of {len(data.users):,} households train; the year is cut where 80 % of it are past. **New users**: "
            f"{len(data.histories)} households of whom training has nothing and asking has {KNOWN} products; to be found, among all products "
            f"of training, is what else they bought after the cut ({len(data.wanted[0]):,} pairs). **New items**: {len(data.new_items):,} products that "
            f"nobody bought before the cut, known by their text only, ranked among themselves for each household that training knows "
            f"({len(data.new_pairs[0]):,} pairs). To beat are the two lines above: what is popular, and the products whose texts ({TEXT_MODEL}) are "
            "nearest to the mean of the household's. The protocol to the letter is in `cold_start.py`.",
            table(["", f"new users: Recall@{K}", f"NDCG@{K}", f"new items: Recall@{K}", f"NDCG@{K}"], lines),
            *missed,
            machine(context, "numpy"),
        ]
    )
