"""The data the figures are measured on, as arrays and as tables of the run's database."""

import gzip
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy
import pyarrow
import pyarrow.csv
import pyarrow.parquet

from common import ROOT, Unavailable, from_environment, scalar

SQL_TYPES = {"int64": "bigint", "float": "real", "string": "text"}


def load(connection, name, columns):
    """Makes the table `name` out of {column: array} and returns its number of rows."""
    rows = pyarrow.table(columns)
    definition = ", ".join(f"{column.name} {SQL_TYPES[str(column.type)]} NOT NULL" for column in rows.schema)
    connection.execute(f"DROP TABLE IF EXISTS {name}")
    connection.execute(f"CREATE TABLE {name} ({definition})")
    without_header = pyarrow.csv.WriteOptions(include_header=False)
    with connection.cursor() as cursor, cursor.copy(f"COPY {name} FROM STDIN (FORMAT csv)") as stream:
        for batch in rows.to_batches(200_000):
            buffer = io.BytesIO()
            pyarrow.csv.write_csv(batch, buffer, without_header)
            stream.write(buffer.getbuffer())
    connection.execute(f"VACUUM ANALYZE {name}")
    return rows.num_rows


# ------------------------------------------------------------------------------------ Complete Journey, a grocer's year


def complete_journey(file, columns):
    folder = Path(from_environment("PG_RECO_DEMO_DATA"))
    return pyarrow.parquet.read_table(folder / file, columns=columns)


def product_texts():
    """(id, text) of every product, by id: type, category, brand, size, department, as far as they are known."""
    columns = ["product_type", "product_category", "brand", "package_size", "department"]
    rows = complete_journey("products.parquet", ["product_id", *columns]).sort_by("product_id").to_pylist()
    return [(row["product_id"], " ".join(row[column] for column in columns if row[column])) for row in rows]


def product_ids():
    return complete_journey("products.parquet", ["product_id"])["product_id"].to_numpy()


def purchases():
    """household, product, time of every line of every receipt."""
    columns = ["household_id", "product_id", "transaction_timestamp"]
    rows = complete_journey("transactions.parquet", columns)
    household, product, bought_at = (rows[column].to_numpy() for column in columns)
    return household, product, bought_at.astype("datetime64[us]").astype(numpy.int64)


# ------------------------------------------------------------------------------- interactions, some of them held out


@dataclass
class Interactions:
    """(user, item) pairs, each once, numbered from 0; what is in `test` is not in `train`, but its users and items are."""

    name: str
    split: str
    users: int
    items: int
    train: tuple
    test: tuple


def interactions(quick):
    """Complete Journey always; the others where their files are. Gives the data sets and a line for each missing one."""
    found, missing = [retail(quick)], []
    for read in () if quick else (movielens, gowalla):
        try:
            found.append(read())
        except Unavailable as reason:
            missing.append(str(reason))
    return found, missing


def retail(quick):
    """First purchases only; the last fifth of the year held out, of households and products that were seen before."""
    household, product, time = purchases()
    if quick:
        some = household < 600
        household, product, time = household[some], product[some], time[some]
    order = numpy.lexsort((time, product, household))
    household, product, time = household[order], product[order], time[order]
    first = numpy.r_[True, (numpy.diff(household) != 0) | (numpy.diff(product) != 0)]
    household, product, time = household[first], product[first], time[first]
    train = time <= numpy.quantile(time, 0.8)
    users, items = numpy.unique(household[train]), numpy.unique(product[train])
    test = ~train & numpy.isin(household, users) & numpy.isin(product, items)

    def numbered(part):
        return numpy.searchsorted(users, household[part]), numpy.searchsorted(items, product[part])

    name = "Complete Journey" + (", a quarter of it" if quick else "")
    split = "first purchases, by time 80/20, cold rows dropped"
    return Interactions(name, split, len(users), len(items), numbered(train), numbered(test))


def file_of(folder, name):
    """A file of a public data set in its authors' format, gzipped."""
    path = Path(os.environ.get("RECO_DATASETS", ROOT.parent / "shared" / "data")) / folder / f"{name}.gz"
    if not path.exists():
        raise Unavailable(f"{folder}: skipped, since {path.name} is not in $RECO_DATASETS/{folder}")
    return gzip.open(path, "rt")


def movielens():
    """MovieLens 1M as the NCF paper split it: the last item of each user held out."""
    with file_of("ncf", "ml-1m.train.pairs") as train, file_of("ncf", "ml-1m.test.rating") as test:
        train = numpy.loadtxt(train, dtype=numpy.int64, usecols=(0, 1)).T
        test = numpy.loadtxt(test, dtype=numpy.int64, usecols=(0, 1)).T
    return numbered_interactions("MovieLens 1M", "the NCF paper's, one item a user", train, test)


@dataclass
class Candidates:
    """The NCF paper's protocol: each user's held-out item is ranked among 99 items that the user did not rate."""

    users: int
    items: int
    train: tuple
    # [users]: the held-out item; [users, 99]: the others.
    held_out: numpy.ndarray
    negatives: numpy.ndarray

    @property
    def candidates(self):
        """[users, 100]: the held-out item first."""
        return numpy.concatenate([self.held_out[:, None], self.negatives], axis=1)


def movielens_candidates():
    """MovieLens 1M by the NCF paper's protocol, in its own numbers. Two of the held-out items have no training row."""
    with file_of("ncf", "ml-1m.train.pairs") as train, file_of("ncf", "ml-1m.test.rating") as test:
        train = numpy.loadtxt(train, dtype=numpy.int64, usecols=(0, 1)).T
        test = numpy.loadtxt(test, dtype=numpy.int64, usecols=(0, 1)).T
    with file_of("ncf", "ml-1m.test.negative") as lines:
        negatives = numpy.loadtxt(lines, dtype=numpy.int64, delimiter="\t", usecols=range(1, 100))
    items = int(max(train[1].max(), test[1].max(), negatives.max())) + 1
    assert (test[0] == numpy.arange(len(test[0]))).all()
    return Candidates(len(test[0]), items, tuple(train), test[1], negatives)


def gowalla():
    """Gowalla as the LightGCN paper split it: a line is a user and its items."""

    def pairs(lines):
        rows = [line.split() for line in lines]
        users = numpy.repeat([int(row[0]) for row in rows if row], [len(row) - 1 for row in rows if row])
        return users, numpy.array([int(item) for row in rows for item in row[1:]])

    with file_of("gowalla", "train.txt") as train, file_of("gowalla", "test.txt") as test:
        return numbered_interactions("Gowalla", "the LightGCN paper's", pairs(train), pairs(test))


def numbered_interactions(name, split, train, test):
    """Numbers users and items as training knows them and drops what it does not know."""
    users, items = numpy.unique(train[0]), numpy.unique(train[1])
    known = numpy.isin(test[0], users) & numpy.isin(test[1], items)
    numbered = [
        (numpy.searchsorted(users, part[0]), numpy.searchsorted(items, part[1]))
        for part in (train, (test[0][known], test[1][known]))
    ]
    return Interactions(name, split, len(users), len(items), *numbered)


# ------------------------------------------------------------------------------------- the whole catalogue, for serving

CATALOGUE_MODEL = "catalogue"
CATALOGUE_SOURCE = "SELECT household_id AS user_id, product_id AS item_id, weight FROM purchase"


def catalogue(context, connection):
    """Every purchase, and every product with weight 0, in the table `purchase`, indexed by household.

    A row of weight 0 makes an item known without an interaction; those rows belong to a household 0. Returns households,
    products and weights.
    """
    household, product, _ = purchases()
    known = product_ids()
    household = numpy.concatenate([household, numpy.zeros(len(known), numpy.int64)])
    weight = numpy.concatenate([numpy.ones(len(product), numpy.float32), numpy.zeros(len(known), numpy.float32)])
    product = numpy.concatenate([product, known])
    if scalar(connection, "SELECT to_regclass('purchase') IS NULL"):
        load(connection, "purchase", {"household_id": household, "product_id": product, "weight": weight})
        connection.execute("CREATE INDEX purchase_by_household ON purchase (household_id)")
    if not scalar(connection, "SELECT EXISTS (SELECT FROM reco.models WHERE name = %s)", CATALOGUE_MODEL):
        options = f'{{"factors": 64, "iterations": {context.size(15, 2)}}}'
        train = "SELECT reco.train(%s, %s, 'ials', %s)"
        connection.execute(train, [CATALOGUE_MODEL, CATALOGUE_SOURCE, options])
    return household, product, weight
