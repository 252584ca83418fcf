"""`reco.recommend` over a prepared statement against implicit's `recommend` in process: one household at a time."""

import time

import numpy
import scipy.sparse

from common import THREADS, Side, alternate, machine, milliseconds, peer, quantile, ratio, scalar, table
from data import CATALOGUE_MODEL, CATALOGUE_SOURCE, catalogue

TITLE = "Ten recommendations for a household"
K = 10
BLOCKS = 4
RECOMMEND = f"SELECT rank, item_id, score FROM reco.recommend('{CATALOGUE_MODEL}', %s::bigint, k => {K}, history => '{{}}')"
ROUND_TRIP = "SELECT %s::bigint"
COVERING_INDEX = "CREATE INDEX purchase_covering ON purchase (household_id) INCLUDE (product_id, weight)"

TRAINED, LIVE = "pg_reco, trained factors", "pg_reco, live history"
COVERED = "pg_reco, live history, covering index"
PEER_TRAINED, PEER_LIVE = "implicit, trained factors", "implicit, factors recalculated"
PEERS = {TRAINED: PEER_TRAINED, LIVE: PEER_LIVE, COVERED: PEER_LIVE}


def measure(context):
    AlternatingLeastSquares = peer("implicit.als").AlternatingLeastSquares
    with context.connect() as connection:
        household, product, weight = catalogue(context, connection)
        items = scalar(connection, "SELECT metrics->'items' FROM reco.models WHERE name = %s", CATALOGUE_MODEL)
    households, row = numpy.unique(household, return_inverse=True)
    products, column = numpy.unique(product, return_inverse=True)
    matrix = scipy.sparse.csr_matrix((weight, (row, column)), shape=(len(households), len(products)))
    matrix.eliminate_zeros()
    model = AlternatingLeastSquares(
        factors=64, iterations=context.size(15, 2), num_threads=THREADS, alpha=10, regularization=10, random_state=0
    )
    model.fit(matrix, show_progress=False)

    def in_process(recalculate):
        def call(row):
            return model.recommend(row, matrix[row], N=K, recalculate_user=recalculate)[0]

        return Side(call)

    def prepared(connection, query):
        def call(row):
            return connection.execute(query, [int(households[row])], prepare=True).fetchall()

        return Side(call, connection.info.backend_pid)

    # Row 0 is household 0, which is none.
    sample = numpy.random.default_rng(1).choice(numpy.arange(1, len(households)), context.size(2000, 200), replace=False)
    with context.connect() as connection:
        sides = {
            TRAINED: prepared(connection, RECOMMEND.format("trained")),
            PEER_TRAINED: in_process(False),
            LIVE: prepared(connection, RECOMMEND.format("live")),
            PEER_LIVE: in_process(True),
            "`SELECT $1`, prepared": prepared(connection, ROUND_TRIP),
        }
        latencies = in_blocks(sides, sample)
    with context.connect() as connection:
        connection.execute(COVERING_INDEX)
        connection.execute("VACUUM ANALYZE purchase")
        latencies |= in_blocks({COVERED: prepared(connection, RECOMMEND.format("live"))}, sample)
        connection.execute("DROP INDEX purchase_covering")

    return "\n\n".join(
        [
            f"{items:,} items, {len(households) - 1:,} households, iALS with 64 factors; the {K} best for each of {len(sample):,} random "
            f"households, what they bought left out, in {BLOCKS} blocks in turn, each after a few calls to warm up. pg_reco is called by "
            "psycopg over the Unix socket, as a prepared statement, so a round trip (`SELECT $1`) is in its time; implicit is a call "
            f"inside the process. The source is `{CATALOGUE_SOURCE}`, {len(household):,} rows. With `history => 'live'` the household's "
            "rows are read anew, through an index on the household or, where it says so, one that covers product and weight as well. "
            "Each line of pg_reco is rated against implicit's of its kind. CPU is of the server's process or of Python's.",
            table(["", "median ms", "p99 ms", "CPU ms a call", "pg_reco faster by, median", "p99"], lines(latencies)),
            machine(context, "implicit", "psycopg", "numpy", "scipy"),
        ]
    )


def in_blocks(sides, sample):
    """{name: (seconds of each call, CPU seconds in all)}; each side takes its turn on every block of the sample."""
    latencies = {name: ([], 0.0) for name in sides}
    for block in numpy.array_split(sample, BLOCKS):
        for side in sides.values():
            timed(side.run, block[:5])
        turns = {name: Side(lambda call=side.run: timed(call, block), side.pid) for name, side in sides.items()}
        for name, timing in alternate(turns, 1).items():
            walls, cpu = latencies[name]
            latencies[name] = (walls + timing.results[0], cpu + timing.cpu[0])
    return latencies


def timed(call, rows):
    walls = []
    for row in rows.tolist():
        start = time.perf_counter()
        call(row)
        walls.append(time.perf_counter() - start)
    return walls


def lines(latencies):
    for name, (walls, cpu) in latencies.items():
        ratios = ["", ""]
        if name in PEERS:
            theirs, _ = latencies[PEERS[name]]
            ratios = [ratio(quantile(theirs, share), quantile(walls, share)) for share in (0.5, 0.99)]
        times = quantile(walls, 0.5), quantile(walls, 0.99), cpu / len(walls)
        yield [name, *map(milliseconds, times), *ratios]
