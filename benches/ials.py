"""`reco.train(…, 'ials')` against implicit's AlternatingLeastSquares: time, and quality on the same held-out rows."""

import json
import statistics
import time

import numpy
import scipy.sparse

from common import THREADS, Side, alternate, machine, peer, ratio, scalar, seconds, table
from data import interactions, load
from metrics import full_ranking

TITLE = "Training iALS"
FACTORS, ITERATIONS = 64, 15
K = 20
# alpha, regularization: implicit's default first. The best of them by NDCG is taken on the held-out rows themselves, which
# favours implicit.
DEFAULT = (1, 0.01)
GRID = [DEFAULT, (5, 10), (5, 50), (10, 10), (10, 50), (20, 50), (40, 10), (40, 50)]
MODEL = "bench_ials"


class Implicit:
    def __init__(self, data, setting):
        self.data, self.setting = data, setting
        self.AlternatingLeastSquares = peer("implicit.als").AlternatingLeastSquares

    def run(self):
        """Seconds of building the matrix and of fitting."""
        alpha, regularization = self.setting
        start = time.perf_counter()
        users, items = self.data.train
        ones = numpy.ones(len(users), numpy.float32)
        self.matrix = scipy.sparse.csr_matrix((ones, (users, items)), shape=(self.data.users, self.data.items))
        built = time.perf_counter()
        self.model = self.AlternatingLeastSquares(
            factors=FACTORS,
            iterations=ITERATIONS,
            alpha=alpha,
            regularization=regularization,
            num_threads=THREADS,
            random_state=0,
        )
        self.model.fit(self.matrix, show_progress=False)
        return {"matrix": built - start, "solver": time.perf_counter() - built}

    def lists(self):
        return self.model.recommend(numpy.arange(self.data.users), self.matrix, N=K)[0]


class PgReco:
    def __init__(self, connection, data):
        self.connection, self.data = connection, data
        for table_name, (users, items) in (("train", data.train), ("test", data.test)):
            load(connection, f"interaction_{table_name}", {"user_id": users, "item_id": items})

    def run(self):
        """Seconds by phase, as the model's metrics have them."""
        options = json.dumps({"factors": FACTORS, "iterations": ITERATIONS})
        # Each round leaves one model behind, the last.
        self.connection.execute("SELECT reco.drop_model(name) FROM reco.model WHERE name = %s", [MODEL])
        self.connection.execute("SELECT reco.train(%s, 'TABLE interaction_train', 'ials', %s)", [MODEL, options])
        phases = scalar(self.connection, "SELECT metrics->'seconds' FROM reco.models WHERE name = %s", MODEL)
        return {**phases, "solver": phases["train"]}

    def lists(self):
        with self.connection.cursor(binary=True) as cursor:
            cursor.execute(f"SELECT user_id::int, rank, item_id::int FROM reco.recommend_all('{MODEL}', {K})")
            users, ranks, items = numpy.array(cursor.fetchall()).T
        lists = numpy.full((self.data.users, K), -1)
        lists[users, ranks - 1] = items
        return lists

    def own_quality(self):
        query = f"SELECT metric, value FROM reco.evaluate('{MODEL}', 'TABLE interaction_test', {K})"
        return dict(self.connection.execute(query).fetchall())


def best_setting(data, grid):
    def ndcg(setting):
        implicit = Implicit(data, setting)
        implicit.run()
        return full_ranking(implicit.lists(), data, K)["ndcg"]

    return max(grid, key=ndcg)


def measure(context):
    peer("implicit.als")
    found, missing = interactions(context.quick)
    grid = GRID[: context.size(len(GRID), 2)]
    with context.connect() as connection:
        sections = [compare(context, connection, data, grid) for data in found]
    return "\n\n".join(
        [
            f"{FACTORS} factors, {ITERATIONS} iterations, {THREADS} threads, `OPENBLAS_NUM_THREADS=1`. `solver` is implicit's `fit()` and "
            "the phase `train` in `reco.models.metrics`. `whole` is building the sparse matrix from arrays and `fit()`, and the whole "
            "statement `reco.train`, which reads the rows from a table, trains, writes the ONNX graph and stores the model; CPU seconds "
            "are of the whole. pg_reco runs with its default options; implicit with its own, and with those that had the best "
            f"NDCG@{K} of {len(grid)} on the held-out rows. The same code rates both sides' lists of {K} for every user, items of the "
            f"training rows left out; in brackets what `reco.evaluate` says.",
            *sections,
            *missing,
            machine(context, "implicit", "numpy", "scipy"),
        ]
    )


def compare(context, connection, data, grid):
    best = best_setting(data, grid)
    pg_reco = PgReco(connection, data)
    contenders = {"pg_reco": pg_reco, f"implicit, alpha {best[0]}, regularization {best[1]}": Implicit(data, best)}
    if best != DEFAULT:
        contenders["implicit, default"] = Implicit(data, DEFAULT)
    sides = {name: Side(contender.run) for name, contender in contenders.items()}
    sides["pg_reco"].pid = connection.info.backend_pid
    timings = alternate(sides, context.rounds)

    own = timings["pg_reco"]
    checked = pg_reco.own_quality()
    lines = []
    for name, contender in contenders.items():
        timing, rated = timings[name], full_ranking(contender.lists(), data, K)
        mine = contender is pg_reco
        lines.append(
            [
                name,
                seconds(solver(timing)),
                seconds(timing.wall_median),
                seconds(timing.cpu_median),
                "" if mine else ratio(solver(timing), solver(own)),
                "" if mine else ratio(timing.wall_median, own.wall_median),
                "" if mine else ratio(timing.cpu_median, own.cpu_median),
                f"{rated['ndcg']:.4f}" + (f" ({checked['ndcg']:.4f})" if mine else ""),
                f"{rated['recall']:.4f}" + (f" ({checked['recall']:.4f})" if mine else ""),
            ]
        )
    phases = ", ".join(
        f"{name} {seconds(statistics.median(r[name] for r in own.results))}" for name in own.results[0] if name != "solver"
    )
    header = ["", "solver s", "whole s", "CPU s", "solver faster by", "whole by", "CPU by", f"NDCG@{K}", f"Recall@{K}"]
    return (
        f"**{data.name}** ({data.split}): {len(data.train[0]):,} training and {len(data.test[0]):,} held-out pairs, "
        f"{data.users:,} users, {data.items:,} items. Median of {context.rounds} rounds, in turn; pg_reco's phases, in seconds: "
        f"{phases}.\n\n{table(header, lines)}"
    )


def solver(timing):
    return statistics.median(result["solver"] for result in timing.results)
