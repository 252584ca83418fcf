"""How long the recommenders take, beside peers: training, lists of all users, one user's best of many items."""

import statistics

import numpy

import peers
from common import THREADS, Side, Unavailable, alternate, machine, milliseconds, peer, ratio, seconds, table
from data import gowalla, load
from own import MODEL, Own
from quality import not_measured

TITLE = "Speed of the recommenders"
K = 20
WIDTH = 64
# Epochs that pg_reco's LightGCN is trained for here, to divide by.
EPOCHS = 2
# As LightGCN-PyTorch: no contrastive term.
LIGHTGCN = {"factors": 64, "layers": 3, "batch_size": 2048, "contrastive_weight": 0}
# Ten million items of 64 factors are more than the 2 GB that an ONNX file can hold.
SCANNED = [100_000, 1_000_000]


def measure(context):
    data = gowalla()
    sections = []
    with context.connect() as connection:
        load(connection, "gowalla_train", {"user_id": data.train[0], "item_id": data.train[1]})
        for part in (training, lists_of_all, one_of_many):
            sections += part(context, connection, data)
    return "\n\n".join([*sections, machine(context, "implicit", "irspack", "numpy", "scipy")])


# ------------------------------------------------------------------------------------------------------------- training


class Named:
    """What own.train needs of an algorithm."""

    queries = {}

    def __init__(self, name):
        self.name = self.title = name


def training(context, connection, data):
    """iALS in turns; the slow peers' times are kept from their last measurement."""
    iterations = context.size(peers.ITERATIONS, 2)
    own = Own(connection, "TABLE gowalla_train")
    lines, missed = [], []

    def line(name, wall, cpu, note="", against=None):
        ratios = [ratio(wall, against[0]), ratio(cpu, against[1])] if against else ["", ""]
        lines.append([name, seconds(wall), seconds(cpu), *ratios, note])

    def fitted(fit, *setting):
        return lambda: fit(data, *setting)[0]

    options = {"factors": peers.FACTORS, "iterations": iterations}
    sides = {"pg_reco ials": Side(lambda: own.train(Named("ials"), "", options), connection.info.backend_pid)}
    if not context.quick:
        sides["implicit ALS"] = Side(fitted(peers.implicit_als, 40, 50))
        sides["irspack iALS, CG"] = Side(fitted(peers.irspack_ials, 0.01, 0.01))
        sides["irspack iALS++"] = Side(fitted(peers.irspack_ials, 0.01, 0.01, "IALSPP"))
    timings = alternate(sides, context.rounds)
    medians = {
        name: [statistics.median(result[clock] for result in timing.results) for clock in ("wall", "cpu")]
        for name, timing in timings.items()
    }
    mine = medians.pop("pg_reco ials")
    line(f"iALS, 64 factors, {iterations} iterations: pg_reco", *mine)
    for name, (wall, cpu) in medians.items():
        line(name, wall, cpu, f"in turns, {context.rounds} rounds", mine)

    for name, algorithm, options, divided, peer_name, packages, fit in (
        ("GF-CF, 256 components", "gf_cf", {}, 1, "SciPy's svds", ["numpy", "scipy"], lambda: peers.gf_cf(data, 256, 0.3)[0]),
        ("An epoch of LightGCN, 3 layers", "lightgcn", LIGHTGCN | {"epochs": EPOCHS}, EPOCHS, "PyTorch", ["torch"], epoch(context, data)),
        ("BPR", "bpr", {}, 1, "implicit BPR, 100 iterations", ["implicit"], lambda: peers.implicit_bpr(data, 0.05, 0.01)[0]),
    ):
        mine = None
        try:
            trained = own.train(Named(algorithm), "", options)
            mine = [trained["wall"] / divided, trained["cpu"] / divided]
            line(f"{name}: pg_reco", *mine, "reading and storing included" + (f", of {divided} epochs" if divided > 1 else ""))
        except Unavailable as reason:
            missed.append(not_measured(Named(algorithm), reason))
        if context.quick and algorithm != "lightgcn":
            continue
        try:
            kept = peers.kept(context, f"Gowalla, time: {peer_name}", packages, fit)
            steps = f", {kept['steps']} of {kept['steps_of_epoch']} steps" if "steps" in kept else ""
            line(peer_name, kept["wall"], kept["cpu"], f"{kept['date']}, load {kept['load']:.1f}{steps}", mine)
        except Unavailable as reason:
            missed.append(f"Not measured: {reason}")
    return [
        f"**Training on Gowalla**, {len(data.train[0]):,} pairs, {THREADS} threads. pg_reco is the whole statement `reco.train`, which reads, "
        "trains, writes the ONNX graph and stores it; a peer is its `fit`, the matrix given. PyTorch's epoch is counted from some of its "
        "steps (`lightgcn_torch.py`).",
        table(["", "seconds", "CPU s", "pg_reco faster by", "by CPU", "how a peer was measured"], lines),
        *missed,
    ]


def epoch(context, data):
    return lambda: peers.lightgcn_epoch(data, context.size(10, 2))


# -------------------------------------------------------------------------------------------------- lists of all users


def lists_of_all(context, connection, data):
    options = {"factors": peers.FACTORS, "iterations": 2}
    Own(connection, "TABLE gowalla_train").train(Named("ials"), "", options)
    # Its rows go into a table: what such lists are for, and no client in the way.
    make = f"CREATE TEMP TABLE lists AS SELECT * FROM reco.recommend_all('{MODEL}', {K})"
    count = f"SELECT count(*) FROM reco.recommend_all('{MODEL}', {K})"

    def stored():
        connection.execute("DROP TABLE IF EXISTS lists")
        connection.execute(make)

    pid = connection.info.backend_pid
    sides = {
        f"pg_reco, `{count.removeprefix('SELECT ')}`": Side(lambda: connection.execute(count).fetchall(), pid),
        "pg_reco, into a table": Side(stored, pid),
    }
    timings = alternate(sides, context.rounds)
    runs = [peers.batch_recommend(data, K) for _ in range(context.rounds)]
    theirs = [statistics.median(run[clock] for run in runs) for clock in ("wall", "cpu")]
    lines = [
        [
            name,
            seconds(timing.wall_median),
            f"{data.users / timing.wall_median:,.0f}",
            seconds(timing.cpu_median),
            ratio(theirs[0], timing.wall_median),
            ratio(theirs[1], timing.cpu_median),
        ]
        for name, timing in timings.items()
    ]
    lines.append(["implicit, into an array", seconds(theirs[0]), f"{data.users / theirs[0]:,.0f}", seconds(theirs[1]), "", ""])
    return [
        f"**Lists of {K} for all {data.users:,} users of Gowalla**, {data.items:,} items, {WIDTH} factors, items of training left out, {THREADS} "
        f"threads; median of {context.rounds} rounds.",
        table(["", "seconds", "users/s", "CPU s", "pg_reco faster by", "by CPU"], lines),
    ]


# --------------------------------------------------------------------------------------------- one user, many items

RECOMMEND = f"SELECT item_id FROM reco.recommend('{MODEL}', %s::bigint, k => {K}, history => 'trained')"
# A power of two.
USERS = 2048


def one_of_many(context, connection, data):
    """An iALS model of random interactions: how good it is does not matter, only how many items it has."""
    lines, missed = [], []
    peer("implicit")
    for items in SCANNED[: context.size(None, 1)]:
        theirs = peers.top_k_kernel(items, WIDTH, K, 20)
        try:
            mine = recommend_of(context, connection, items)
            lines.append([f"{items:,} items: pg_reco, `reco.recommend`, prepared", *map(milliseconds, mine), "", ""])
        except Unavailable as reason:
            mine = None
            missed.append(f"Not measured: {items:,} items: {reason}")
        for name, timing in theirs.items():
            ratios = [ratio(timing["wall"], mine[0]), ratio(timing["cpu"], mine[1])] if mine else ["", ""]
            lines.append([f"{items:,} items: {name}", milliseconds(timing["wall"]), milliseconds(timing["cpu"]), *ratios])
    return [
        f"**One user's best {K} of many items**, {WIDTH} factors. pg_reco is the whole call over psycopg, median; implicit is its kernel `topk` on "
        "one thread, many users at once on two, NumPy the product of matrix and vector alone, with no best of it found; both in process.",
        table(["", "ms", "CPU ms", "pg_reco faster by", "by CPU"], lines),
        *missed,
    ]


def recommend_of(context, connection, items):
    # Every item once.
    connection.execute("DROP TABLE IF EXISTS many")
    connection.execute(
        f"CREATE TABLE many AS SELECT (hashint8(i) & {USERS - 1})::bigint AS user_id, i AS item_id FROM generate_series(1, {items}::bigint) i"
    )
    options = {"factors": WIDTH, "iterations": 1}
    Own(connection, "TABLE many").train(Named("ials"), "", options)
    users = numpy.random.default_rng(1).integers(0, USERS, 40)
    with context.connect() as served:
        for user in users[:5]:
            served.execute(RECOMMEND, [int(user)], prepare=True).fetchall()
        timings = []
        for user in users:
            timing = {}
            with peers.clock(timing, served.info.backend_pid):
                served.execute(RECOMMEND, [int(user)], prepare=True).fetchall()
            timings.append(timing)
    connection.execute("DROP TABLE many")
    return statistics.median(t["wall"] for t in timings), sum(t["cpu"] for t in timings) / len(timings)
