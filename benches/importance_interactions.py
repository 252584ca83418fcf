"""How well scores find interactions that nobody had, and whether a recommender trained with them as weights is better for it."""

import gzip
import json
import os
from pathlib import Path

import numpy
import pyarrow.csv
import scipy.sparse
import scipy.stats

from common import ROOT, Unavailable, machine, table
from data import load
from importance_noise import cell, mean_quality
from peers import kept

TITLE = "Importance: finding false interactions"
SHARE = 0.2
DRAWS = 3
K = 10
METHODS = ["auto", "mean_loss", "leave_self_out", "grad_norm"]
# {name: (file in $RECO_DATASETS, columns of user, item and rating)}; a user and an item have three rows at least.
DATA = {
    "MovieLens 100K, ratings of 4 and 5": ("ml-100k/ml-100k.inter.gz", (0, 1, 2)),
    "Instacart, sessions": ("instacart/train.csv.gz", (0, 1, None)),
    "#nowplaying, sessions, 100,000 rows": ("nowplaying/train.csv.gz", (0, 1, None)),
}
ROWS = 100_000
EASE_ITEMS = 4_000
ALGORITHMS = {"item_knn": {}, "ials": {"factors": 32}, "ease": {"regularization": 200}}
WEIGHTS = {
    "(1 + rank) / 2": "(1 + reco.importance_weights(score, 'rank', 1.0) OVER ()) / 2",
    "clip, fraction 0.4": "reco.importance_weights(score, 'clip', 0.4) OVER ()",
    "drop, fraction 0.2": "reco.importance_weights(score, 'drop', 0.2) OVER ()",
}


def measure(context):
    draws = context.size(DRAWS, 1)
    found, gains, missing = {}, [], []
    with context.connect() as connection:
        for name in DATA:
            try:
                users, items = read(name)
            except Unavailable as reason:
                missing.append(str(reason))
                continue
            peer = kept(context, f"false interactions in {name}", ["numpy", "scipy"], lambda: {"quality": peers(users, items, draws)})
            found[name] = own(context, connection, users, items, draws), peer["quality"], len(users)
            gains += [[name, *line] for line in retrained(connection, users, items, draws)]
    if not found:
        raise Unavailable("; ".join(missing))
    rows = []
    for method in METHODS:
        of_peer = [f" ({cell(theirs[method])})" if method in theirs else "" for _, theirs, _ in found.values()]
        rows.append([f"`{method}`", *(cell(mine[method]) + beside for (mine, _, _), beside in zip(found.values(), of_peer))])
    return "\n\n".join(
        [
            f"To each source pairs that nobody had are added, a fifth of the log, and a fifth of the true pairs is held out first. Area under the ROC curve of finding "
            f"them, and their share among as many of the lowest scores, of equal scores the true pairs first; means over {draws} draws. In brackets Python on the same pairs: mean loss of "
            "one matrix factorisation over 20 epochs, cosine of items without the pair itself (NumPy, SciPy).",
            table(["method", *(f"{name}: {size:,} pairs" for name, (_, _, size) in found.items())], rows),
            f"NDCG@{K} on the held-out pairs of what is trained on the noisy log, and with weights of the scores by `auto` "
            f"(`reco.compare_training`, {draws} draws of false pairs by 3 seeds; 95 % interval of the difference):",
            table(["data", "algorithm", "noisy", *WEIGHTS, "without the false pairs"], gains),
            *missing,
            machine(context, "numpy", "scipy"),
        ]
    )


def read(name):
    """users, items, each pair once, numbered from 0; those with three rows at least, as far as three rounds find them."""
    file, (user, item, rating) = DATA[name]
    path = Path(os.environ.get("RECO_DATASETS", ROOT.parent / "shared" / "data")) / file
    if not path.exists():
        raise Unavailable(f"{name}: skipped, since {path.name} is not in $RECO_DATASETS/{path.parent.name}")
    with gzip.open(path) as stream:
        rows = pyarrow.csv.read_csv(stream, parse_options=pyarrow.csv.ParseOptions(delimiter="\t"))
    users, items = rows.column(user).to_numpy(), rows.column(item).to_numpy()
    if rating is not None:
        liked = rows.column(rating).to_numpy() >= 4
        users, items = users[liked], items[liked]
    elif len(users) > 4 * ROWS:
        order = numpy.argsort(users, kind="stable")[:ROWS]
        users, items = users[order], items[order]
    pairs = numpy.unique(numpy.stack([numpy.unique(users, return_inverse=True)[1], numpy.unique(items, return_inverse=True)[1]], 1), axis=0)
    for _ in range(3):
        for column in (1, 0):
            pairs = pairs[numpy.bincount(pairs[:, column])[pairs[:, column]] >= 3]
    return tuple(numpy.unique(pairs[:, column], return_inverse=True)[1] for column in (0, 1))


def draw(users, items, seed):
    """(users, items, false) to train on, and (users, items) held out."""
    chance = numpy.random.default_rng(seed)
    held_out = chance.random(len(users)) < 0.2
    true = users[~held_out].astype(numpy.int64), items[~held_out].astype(numpy.int64)
    most = int(items.max()) + 1
    known = users.astype(numpy.int64) * most + items
    wanted = round(SHARE * len(true[0]) / (1 - SHARE))
    false = numpy.zeros(0, numpy.int64)
    while len(false) < wanted:
        drawn = chance.choice(true[0], 2 * wanted) * most + chance.integers(most, size=2 * wanted)
        new = numpy.concatenate([false, drawn[~numpy.isin(drawn, known)]])
        false = new[numpy.sort(numpy.unique(new, return_index=True)[1])]
    false = false[:wanted]
    is_false = numpy.r_[numpy.zeros(len(true[0]), bool), numpy.ones(wanted, bool)]
    return (numpy.r_[true[0], false // most], numpy.r_[true[1], false % most], is_false), (users[held_out], items[held_out])


def own(context, connection, users, items, draws):
    runs = {method: [] for method in METHODS}
    for seed in range(draws):
        (user, item, false), _ = draw(users, items, seed)
        load(connection, "noisy_pairs", {"user_id": user, "item_id": item})
        place = {pair: number for number, pair in enumerate(zip(user.tolist(), item.tolist()))}
        for method in METHODS:
            scores = numpy.zeros(len(user))
            for u, i, score in connection.execute(
                "SELECT user_id::int, item_id::int, score FROM reco.interaction_importance(method => %s, source => 'TABLE noisy_pairs')", [method]
            ):
                scores[place[u, i]] = score
            runs[method].append((scores, false))
    return {method: mean_quality(found) for method, found in runs.items()}


def retrained(connection, users, items, draws):
    """A line for each algorithm: noisy, differences with each kind of weights, difference without the false pairs."""
    cells = {}
    for seed in range(draws):
        (user, item, false), held_out = draw(users, items, seed)
        load(connection, "noisy_pairs", {"user_id": user, "item_id": item})
        load(connection, "held_out", {"user_id": held_out[0], "item_id": held_out[1]})
        load(connection, "true_pairs", {"user_id": user[~false], "item_id": item[~false]})
        connection.execute(
            """DROP TABLE IF EXISTS pair_score;
               CREATE TABLE pair_score AS SELECT user_id, item_id, score FROM reco.interaction_importance(source => 'TABLE noisy_pairs')"""
        )
        queries = {name: f"SELECT user_id, item_id, {weight} AS weight FROM pair_score" for name, weight in WEIGHTS.items()}
        queries["without"] = "SELECT user_id, item_id, 1 AS weight FROM true_pairs"
        for algorithm, options in ALGORITHMS.items():
            # Eighteen inverses of a larger matrix would take most of an hour.
            if algorithm == "ease" and items.max() >= EASE_ITEMS:
                continue
            for name, query in queries.items():
                for repeat in range(3):
                    ((noisy, difference),) = connection.execute(
                        """SELECT unweighted, difference
                             FROM reco.compare_training('TABLE noisy_pairs', %s, algorithm => %s, options => %s, test => 'TABLE held_out',
                                                        k => %s, seeds => 1, held_out => 0.05, seed => %s)
                            WHERE metric = 'ndcg'""",
                        [query, algorithm, json.dumps(options), K, repeat],
                    ).fetchall()
                    cells.setdefault(algorithm, {}).setdefault(name, []).append((noisy, difference))
    for algorithm, found in cells.items():
        noisy = numpy.mean([noisy for noisy, _ in found["without"]])
        yield [f"`{algorithm}`", f"{noisy:.4f}", *(gain([d for _, d in pairs]) for pairs in found.values())]


def gain(differences):
    mean = numpy.mean(differences)
    half = scipy.stats.t.ppf(0.975, len(differences) - 1) * scipy.stats.sem(differences)
    return f"{mean:+.4f} ± {half:.4f}"


# ------------------------------------------------------------------------------------------------------------- Python


def peers(users, items, draws):
    runs = {"mean_loss": [], "leave_self_out": []}
    for seed in range(draws):
        (user, item, false), _ = draw(users, items, seed)
        runs["mean_loss"].append((-mean_loss(user, item, seed), false))
        runs["leave_self_out"].append((cosine_without_self(user, item), false))
    return {name: mean_quality(found) for name, found in runs.items()}


def mean_loss(users, items, seed, epochs=20, width=32, rate=0.05, decay=1e-4, negatives=4):
    """Mean cross entropy of each pair over the epochs of a matrix factorisation with drawn negatives, by Adagrad."""
    chance = numpy.random.default_rng(seed)
    sizes = (int(users.max()) + 1, int(items.max()) + 1)
    factors = [chance.normal(0, 0.1, (size, width)) for size in sizes] + [numpy.zeros((sizes[1], 1))]
    squares = [numpy.full(matrix.shape, 1e-8) for matrix in factors]
    losses = numpy.zeros(len(users))
    for _ in range(epochs):
        order = chance.permutation(len(users))
        for start in range(0, len(order), 2048):
            rows = order[start : start + 2048]
            u = numpy.r_[users[rows], numpy.repeat(users[rows], negatives)]
            i = numpy.r_[items[rows], chance.integers(0, sizes[1], negatives * len(rows))]
            y = numpy.r_[numpy.ones(len(rows)), numpy.zeros(negatives * len(rows))]
            scores = (factors[0][u] * factors[1][i]).sum(1) + factors[2][i, 0]
            pull = (1 / (1 + numpy.exp(-scores)) - y)[:, None]
            steps = [pull * factors[1][i] + decay * factors[0][u], pull * factors[0][u] + decay * factors[1][i], pull]
            for matrix, square, places, step in zip(factors, squares, (u, i, i), steps):
                gradient = scipy.sparse.csr_matrix((numpy.ones(len(places)), (places, numpy.arange(len(places)))), (len(matrix), len(places))) @ step
                square += gradient**2
                matrix -= rate * gradient / numpy.sqrt(square)
        losses += numpy.log1p(numpy.exp(-((factors[0][users] * factors[1][items]).sum(1) + factors[2][items, 0])))
    return losses / epochs


def cosine_without_self(users, items):
    """Mean cosine of a pair's item with the user's others, counted without the user."""
    matrix = scipy.sparse.csr_matrix((numpy.ones(len(users)), (users, items)))
    together = (matrix.T @ matrix).tocsr()
    counts = together.diagonal()
    order = numpy.argsort(users, kind="stable")
    ends = numpy.r_[0, numpy.cumsum(numpy.bincount(users))]
    scores = numpy.zeros(len(users))
    for first, last in zip(ends[:-1], ends[1:]):
        rows = order[first:last]
        own = items[rows]
        both = together[own][:, own].toarray() - 1
        numpy.fill_diagonal(both, 0)
        norms = numpy.sqrt(numpy.maximum(counts[own] - 1, 1))[:, None] * numpy.sqrt(counts[own])[None]
        scores[rows] = (both / norms).sum(1) / max(len(own) - 1, 1)
    return scores
