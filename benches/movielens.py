"""MovieLens 1M by the NCF paper's protocol: one held-out item a user among 99 others, hit rate and NDCG at 10."""

import numpy

import metrics
import peers
from algorithms import MOVIELENS
from common import Unavailable, machine
from data import load, movielens_candidates
from own import MODEL, Own
from quality import IMPLICIT, IRSPACK, NUMERIC, Board, compete, contenders_of

TITLE = "Recommenders on MovieLens 1M"
# Users whose candidates are ranked here as well, from whole lists.
CHECKED = 300
PEERS = [
    ("popularity, NumPy", {"popularity"}, ["numpy"], peers.popularity),
    ("implicit cosine neighbours, K 100", {"item_knn"}, IMPLICIT, lambda data: peers.implicit_neighbours(data, "CosineRecommender", 100)),
    ("implicit ALS, alpha 5, regularization 50", {"ials", "neumf"}, IMPLICIT, lambda data: peers.implicit_als(data, 5, 50)),
    ("irspack iALS, alpha0 0.3, reg 0.007", {"ials", "neumf"}, IRSPACK, lambda data: peers.irspack_ials(data, 0.3, 0.007)),
    ("implicit BPR, learning rate 0.05", {"bpr"}, IMPLICIT, lambda data: peers.implicit_bpr(data, 0.05, 0.01)),
    ("EASE in NumPy, λ 1000", {"ease"}, NUMERIC, lambda data: peers.ease(data, 1000)),
]


def measure(context):
    data, k, names = movielens_candidates(), 10, ["hit_rate", "ndcg"]
    entries = PEERS[: context.size(None, 4)]
    contenders, missed = contenders_of(context, "MovieLens", entries, data, data, k, names)
    board = Board(names)
    users = numpy.arange(data.users)
    sample = numpy.sort(numpy.random.default_rng(1).choice(users, CHECKED, replace=False))
    differences = []
    with context.connect() as connection:
        load(connection, "ml_train", {"user_id": data.train[0], "item_id": data.train[1]})
        load(connection, "ml_test", {"user_id": users, "item_id": data.held_out})
        load(connection, "ml_negative", {"user_id": numpy.repeat(users, 99), "item_id": data.negatives.ravel()})
        load(connection, "ml_sample", {"user_id": sample})
        # A held-out item that training does not know is a miss; reco.evaluate leaves its row out.
        known = numpy.isin(data.held_out, data.train[1]).mean()
        known_sample = numpy.isin(data.held_out[sample], data.train[1]).mean()
        of_sample = "SELECT user_id, item_id FROM {} JOIN ml_sample USING (user_id)"

        def answer(own):
            found = own.evaluated("TABLE ml_test", k, "TABLE ml_negative")
            if "failed" in found:
                raise Unavailable(f"reco.evaluate with negatives: {found['failed']}")
            said = own.evaluated(of_sample.format("ml_test"), k, of_sample.format("ml_negative"))
            counted = ranked_here(connection, data, sample, k)
            differences.append(max(abs(said[name] * known_sample - counted[name]) for name in names))
            return [found[name] * known for name in names], None

        compete(context, board, MOVIELENS, Own(connection, "TABLE ml_train"), contenders, answer)
    checked = (
        f"For {CHECKED} random users the candidates were also ranked in NumPy, from whole lists of `reco.recommend`; the greatest difference "
        f"to what `reco.evaluate` says of these users is {max(differences):.4f}."
        if differences
        else ""
    )
    return "\n\n".join(
        filter(
            None,
            [
                f"The NCF paper's protocol: {len(data.train[0]):,} training pairs, {data.users:,} users, the last item of each user among 99 that "
                f"the user did not rate; two held-out items without a training row count as missed. pg_reco's figures are those of "
                f"`reco.evaluate(…, {k}, negatives => …)`. A peer's ties count against it. Times as on Gowalla. Where a user's held-out item is among the 99 as well, as for 156 users, it does not compete with itself, as in the paper's own evaluation. The figures to beat are of "
                "peers measured here and, for NeuMF, the paper's.",
                board.text([f"HR@{k}", f"NDCG@{k}"]),
                checked,
                *missed,
                *board.missed,
                machine(context, "implicit", "irspack", "numpy", "scipy"),
            ],
        )
    )


def ranked_here(connection, data, sample, k):
    """The protocol's metrics for a sample of users, from their lists of all items."""
    query = (
        "SELECT u.user_id::int, r.rank, r.item_id::int FROM ml_sample u, "
        f"LATERAL reco.recommend('{MODEL}', u.user_id, k => {data.items}, history => 'trained') r"
    )
    with connection.cursor(binary=True) as cursor:
        cursor.execute(query)
        users, ranks, items = numpy.array(cursor.fetchall(), dtype=numpy.int64).T
    # The higher a place, the higher the score; what is in no list comes last.
    scores = numpy.full((data.users, data.items), -numpy.inf)
    scores[users, items] = -ranks
    candidates = data.candidates[sample]
    return metrics.among_candidates(candidates, scores[sample[:, None], candidates], k)
