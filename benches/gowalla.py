"""Gowalla by the LightGCN paper's protocol: every item ranked, recall and NDCG at 20."""

import metrics
import peers
from algorithms import GOWALLA
from common import THREADS, machine
from data import gowalla, load
from own import Own
from quality import IMPLICIT, IRSPACK, NUMERIC, Board, compete, contenders_of

TITLE = "Recommenders on Gowalla"
PEERS = [
    ("popularity, NumPy", {"popularity"}, ["numpy"], peers.popularity),
    ("implicit cosine neighbours, K 100", {"item_knn"}, IMPLICIT, lambda data: peers.implicit_neighbours(data, "CosineRecommender", 100)),
    ("implicit ALS, alpha 40, regularization 50", {"ials"}, IMPLICIT, lambda data: peers.implicit_als(data, 40, 50)),
    ("irspack iALS, alpha0 0.01, reg 0.01", {"ials"}, IRSPACK, lambda data: peers.irspack_ials(data, 0.01, 0.01)),
    ("implicit BPR, learning rate 0.05", {"bpr"}, IMPLICIT, lambda data: peers.implicit_bpr(data, 0.05, 0.01)),
    ("GF-CF with SciPy's svds, 256 components", {"gf_cf"}, NUMERIC, lambda data: peers.gf_cf(data, 256, 0.3)),
]


def measure(context):
    data, k, names = gowalla(), 20, ["recall", "ndcg"]
    entries = PEERS[: context.size(None, 3)]
    contenders, missed = contenders_of(context, "Gowalla", entries, data, None, k, names)
    board = Board(names)
    with context.connect() as connection:
        load(connection, "gowalla_train", {"user_id": data.train[0], "item_id": data.train[1]})
        load(connection, "gowalla_test", {"user_id": data.test[0], "item_id": data.test[1]})

        def answer(own):
            found = metrics.full_ranking(own.lists(data.users, k), data, k)
            return [found[name] for name in names], own.evaluated("TABLE gowalla_test", k)

        own = Own(connection, "TABLE gowalla_train")
        compete(context, board, GOWALLA, own, contenders, answer)
        single = best_single(board)
    return "\n\n".join(
        [
            f"T{data.split[1:]} split: {len(data.train[0]):,} training and {len(data.test[0]):,} held-out pairs, {data.users:,} users, "
            f"{data.items:,} items; each user's {k} best of all items that the user does not have yet. The figures are computed in NumPy "
            "from the lists of `reco.recommend_all`; in brackets what `reco.evaluate` says. `whole` is the statement `reco.train`, reading "
            f"and storing included, and a peer's `fit`, its matrix given; {THREADS} threads each. Peers run with 64 factors and 15 iterations "
            "where they have such. A peer's figures are kept from when they were measured (`--fresh` measures them anew).",
            board.text([f"Recall@{k}", f"NDCG@{k}"]),
            *single,
            *missed,
            *board.missed,
            machine(context, "implicit", "irspack", "numpy", "scipy"),
        ]
    )


def best_single(board):
    """A hybrid is to beat the best single algorithm of the extension itself."""
    own = [line for line in board.lines if line[0].startswith("pg_reco, ")]
    singles = [line for line in own if "hybrid" not in line[0]]
    if len(singles) < 2 or len(own) == len(singles):
        return []
    best = max(singles, key=lambda line: float(line[3].split()[0]))
    return [f"The hybrid is to beat the best single algorithm, by NDCG: {best[0]}, {best[1].split()[0]} and {best[3].split()[0]}."]
