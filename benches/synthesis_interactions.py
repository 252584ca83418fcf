"""What pairs made for sparse users and cold items do to recommenders trained with them: by how much a user and an item really have."""

import json

import numpy

from common import Unavailable, machine, table
from data import load
from importance_interactions import DATA, read

TITLE = "Synthetic interactions: sparse users and cold items"
DRAWS = 3
K = 10
# Places of a list in which cold items are looked for.
DEEP = 50
# Pairs made, as a share of the real ones.
MADE = 0.1
ALGORITHMS = {"ials": {"factors": 32}, "item_knn": {}}
# {label: (method, algorithm of its model, options)}
METHODS = {
    "`mult_vae`": ("mult_vae", None, {}),
    "`model`, of `ials`": ("model", "ials", {}),
    "`neighbors`": ("neighbors", None, {}),
    "`neighbors`, all for items with fewer than 50 users, weight 0.9": ("neighbors", None, {"items": 1, "max_users": 50, "weight": 0.9}),
}
LEVELS = [(1, 3), (4, 10), (11, None)]


def measure(context):
    draws = context.size(DRAWS, 1)
    parts, missing = [], []
    with context.connect() as connection:
        for name in DATA:
            try:
                users, items = read(name)
            except Unavailable as reason:
                missing.append(str(reason))
                continue
            found, pairs = {}, []
            for seed in range(draws):
                real, held_out = draw(users, items, seed)
                pairs.append(len(real[0]))
                for line, figures in compared(connection, real, held_out, seed):
                    found.setdefault(line, []).append(figures)
            rows = [[*line, *(f"{mean:.4f}" for mean in numpy.nanmean(runs, 0))] for line, runs in found.items()]
            header = [f"NDCG@{K}, users with {level(*ends)}" for ends in LEVELS] + [f"all users"]
            header += [f"Recall@{DEEP}, items with {level(*ends)}" for ends in LEVELS]
            parts.append(f"**{name}**, {numpy.mean(pairs):,.0f} pairs to train on:\n\n" + table(["algorithm", "trained on", *header], rows))
    if not parts:
        raise Unavailable("; ".join(missing))
    return "\n\n".join(
        [
            f"A fifth of the pairs is held out; of the rest half of the users keep 1 to 10 pairs and a quarter of the items 1 to 6, the others all. "
            f"As many pairs as {MADE:.0%} of the real ones are made and trained on besides. Users and items stand by how many real pairs they have; means over {draws} draws. "
            f"Lists leave out what a user really has, and may hold what was made: `exclude_seen => false`, and real pairs denied. "
            f"“as seen” are lists that leave out both, as they come by default.",
            *parts,
            *missing,
            machine(context, "numpy"),
        ]
    )


def level(low, high):
    return f"{low}–{high}" if high else f"{low}+"


def draw(users, items, seed):
    """(users, items) to train on, made sparse, and {user: set of items held out}; all items are known."""
    chance = numpy.random.default_rng(seed)
    held_out = chance.random(len(users)) < 0.2
    few = numpy.where(chance.random(users.max() + 1) < 0.5, chance.integers(1, 11, users.max() + 1), len(users))
    cold = numpy.where(chance.random(items.max() + 1) < 0.25, chance.integers(1, 7, items.max() + 1), len(users))
    rows = chance.permutation(numpy.nonzero(~held_out)[0])
    for column, most in ((users, few), (items, cold)):
        rows = rows[place_within(column[rows]) < most[column[rows]]]
    real = users[rows].astype(numpy.int64), items[rows].astype(numpy.int64)
    wanted = {}
    known = set(real[1].tolist())
    for user, item in zip(users[held_out].tolist(), items[held_out].tolist()):
        if item in known:
            wanted.setdefault(user, set()).add(item)
    return real, {user: wanted[user] for user in numpy.unique(real[0]).tolist() if user in wanted}


def place_within(groups):
    """Of each row, how many rows before it are of its group."""
    order = numpy.argsort(groups, kind="stable")
    sizes = numpy.bincount(groups)
    place = numpy.empty(len(groups), int)
    place[order] = numpy.arange(len(groups)) - numpy.repeat(numpy.cumsum(sizes) - sizes, sizes)
    return place


def compared(connection, real, held_out, seed):
    """((algorithm, trained on), figures) of real pairs, and of them with those that each method makes."""
    load(connection, "real_pairs", {"user_id": real[0], "item_id": real[1]})
    source = "SELECT user_id, item_id, 1::real AS weight FROM real_pairs"
    judge = Judge(real, held_out)
    for algorithm, options in ALGORITHMS.items():
        yield (f"`{algorithm}`", "real pairs"), judge.figures(lists(connection, source, algorithm, options), False)
    for label, (method, of_model, options) in METHODS.items():
        if of_model:
            connection.execute("SELECT reco.train('source_of_pairs', %s, %s, %s)", [source, of_model, json.dumps(ALGORITHMS.get(of_model, {}))])
        connection.execute("DROP TABLE IF EXISTS made_pairs")
        connection.execute(
            "CREATE TABLE made_pairs AS SELECT user_id::bigint, item_id::bigint, weight FROM reco.augment_interactions(%s, %s, %s, %s, %s, %s)",
            [source, round(MADE * len(real[0])), method, "source_of_pairs" if of_model else None, json.dumps(options), seed],
        )
        if of_model:
            connection.execute("SELECT reco.drop_model('source_of_pairs')")
        made = connection.execute("SELECT user_id, item_id FROM made_pairs").fetchall()
        for algorithm, options in ALGORITHMS.items():
            found = lists(connection, f"{source} UNION ALL TABLE made_pairs", algorithm, options)
            yield (f"`{algorithm}`", f"and {label}"), judge.figures(found, False)
            yield (f"`{algorithm}`", f"and {label}, as seen"), judge.figures(found, made)


def lists(connection, source, algorithm, options):
    """{user: items, best first}, whether seen or not, long enough to leave real and made ones out."""
    connection.execute("SELECT reco.train('with_pairs', %s, %s, %s)", [source, algorithm, json.dumps(options)])
    longest = connection.execute(f"SELECT max(n) FROM (SELECT count(*) AS n FROM ({source}) AS s GROUP BY user_id) AS c").fetchone()[0]
    found = {}
    for user, item in connection.execute(
        "SELECT user_id::bigint, item_id::bigint FROM reco.recommend_all('with_pairs', k => %s, exclude_seen => false) ORDER BY user_id, rank",
        [DEEP + longest],
    ):
        found.setdefault(user, []).append(item)
    connection.execute("SELECT reco.drop_model('with_pairs')")
    return found


class Judge:
    def __init__(self, real, held_out):
        self.held_out = held_out
        self.seen = {}
        for user, item in zip(real[0].tolist(), real[1].tolist()):
            self.seen.setdefault(user, set()).add(item)
        self.users_of = numpy.bincount(real[1])

    def figures(self, found, made):
        """NDCG by users and of all, recall by items; `made` pairs are left out besides the real ones."""
        left_out = {user: set(items) for user, items in self.seen.items()}
        for user, item in made or []:
            left_out[user].add(item)
        ndcg = [[] for _ in range(len(LEVELS) + 1)]
        recall = [[] for _ in LEVELS]
        discounts = 1 / numpy.log2(numpy.arange(2, K + 2))
        for user, wanted in self.held_out.items():
            best = [item for item in found[user] if item not in left_out[user]][:DEEP]
            hits = numpy.array([item in wanted for item in best[:K]], bool)
            value = discounts[: len(hits)][hits].sum() / discounts[: len(wanted)].sum()
            ndcg[place(len(self.seen[user]))].append(value)
            ndcg[-1].append(value)
            for number, (low, high) in enumerate(LEVELS):
                of_level = {item for item in wanted if place(self.users_of[item]) == number}
                if of_level:
                    recall[number].append(len(of_level.intersection(best)) / len(of_level))
        return [numpy.mean(values) if values else numpy.nan for values in ndcg + recall]


def place(count):
    return next(number for number, (_, high) in enumerate(LEVELS) if high is None or count <= high)
