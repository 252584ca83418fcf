"""A recommender of the extension in the run's database: trained, asked for lists, evaluated."""

import json

import numpy
import psycopg

from common import Unavailable, scalar
from peers import clock

MODEL = "bench_recommender"


class Own:
    """`source` is the query to train on; the last model trained is the one that answers."""

    def __init__(self, connection, source):
        self.connection, self.source = connection, source

    def train(self, algorithm, data, options):
        """Seconds of the statement, and of its phases, as `reco.models` has them."""
        queries = algorithm.queries.get(data, {})
        named = "".join(f", {argument} => %s" for argument in queries)
        self.connection.execute("SELECT reco.drop_model(name) FROM reco.model WHERE name = %s", [MODEL])
        result = {}
        try:
            with clock(result, self.connection.info.backend_pid):
                self.connection.execute(
                    f"SELECT reco.train(%s, %s, %s, %s{named})",
                    [MODEL, self.source, algorithm.name, json.dumps(options), *queries.values()],
                )
        except psycopg.Error as error:
            raise Unavailable(error.diag.message_primary) from None
        phases = scalar(self.connection, "SELECT metrics->'seconds' FROM reco.models WHERE name = %s", MODEL)
        return result | {"phases": phases}

    def lists(self, users, k, filter=None):
        """[users, k] items, −1 where a list ends; users and items are numbers from 0."""
        named = ", filter => %s" if filter else ""
        query = f"SELECT user_id::int, rank, item_id::int FROM reco.recommend_all('{MODEL}', {k}{named})"
        with self.connection.cursor(binary=True) as cursor:
            cursor.execute(query, [filter] if filter else None)
            rows = numpy.array(cursor.fetchall(), dtype=numpy.int64).reshape(-1, 3)
        lists = numpy.full((users, k), -1)
        lists[rows[:, 0], rows[:, 1] - 1] = rows[:, 2]
        return lists

    def evaluated(self, test, k, negatives=None):
        """{metric: value} of `reco.evaluate`; None where this build has no such evaluation."""
        named = ", negatives => %s" if negatives else ""
        query = f"SELECT metric, value FROM reco.evaluate('{MODEL}', %s, {k}{named})"
        try:
            return dict(self.connection.execute(query, [test, negatives] if negatives else [test]).fetchall())
        except psycopg.Error as error:
            return {"failed": error.diag.message_primary}
