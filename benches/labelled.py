"""Rows with labels, a fifth of which are flipped: what importance is measured on. Loaded into tables of the run's database."""

import csv
import io
from dataclasses import dataclass

import numpy
from data import file_of

FLIPPED = 0.2


@dataclass
class Labelled:
    """`columns` {name: list}, numbers or texts; rows `train`, `clean` (for methods that need some) and `test`."""

    name: str
    columns: dict
    labels: numpy.ndarray
    train: numpy.ndarray
    clean: numpy.ndarray
    test: numpy.ndarray

    @property
    def classes(self):
        return int(self.labels.max()) + 1

    def flipped(self, seed):
        """Labels of the training rows, a fifth of them wrong, and which."""
        chance = numpy.random.default_rng(1000 + seed)
        labels = self.labels[self.train]
        places = chance.choice(len(labels), round(FLIPPED * len(labels)), replace=False)
        wrong = numpy.zeros(len(labels), bool)
        wrong[places] = True
        noisy = labels.copy()
        noisy[places] = (labels[places] + chance.integers(1, self.classes, size=len(places))) % self.classes
        return noisy, wrong

    def encoded(self):
        """The features of all rows as Python's peers take them: standardised by the training rows and cut at 10 deviations, a column for each category."""
        parts = []
        for values in self.columns.values():
            array = numpy.asarray(values)
            if array.dtype.kind in "fi":
                train = array[self.train].astype(float)
                parts.append(numpy.clip((array - train.mean()) / (train.std() or 1.0), -10, 10)[:, None])
            else:
                parts.append((array[:, None] == numpy.unique(array)[None]).astype(float))
        return numpy.hstack(parts)

    def load(self, connection, table, rows, labels):
        """A table of these rows with `id` and `label`; ids count from 0."""
        types = ["double precision" if numpy.asarray(values).dtype.kind in "fi" else "text" for values in self.columns.values()]
        names = [f'"{name}"' for name in self.columns]
        definition = ", ".join(f"{name} {type}" for name, type in zip(names, types))
        connection.execute(f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (id integer, {definition}, label text)")
        text = io.StringIO()
        writer = csv.writer(text)
        columns = [numpy.asarray(values)[rows] for values in self.columns.values()]
        writer.writerows(zip(range(len(rows)), *columns, (f"c{label}" for label in labels)))
        with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN (FORMAT csv)") as stream:
            stream.write(text.getvalue())
        connection.execute(f"VACUUM ANALYZE {table}")


def adult(seed):
    """UCI Adult: 10,000 rows to train on, 2,000 clean ones, the test file."""
    rows, ends = [], []
    for name in ("adult.csv", "adult.test"):
        with file_of("adult", name) as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file)]
        rows += [line for line in lines[1:] if len(line) == 15]
        ends.append(len(rows))
    names = ["age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship"]
    names += ["race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country"]
    numbers = {"age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week"}
    columns = {}
    for place, name in enumerate(names):
        values = [row[place] for row in rows]
        columns[name] = numpy.array(values, float) if name in numbers else numpy.array(values)
    labels = numpy.array([row[14].startswith(">50K") for row in rows], int)
    order = numpy.random.default_rng(seed).permutation(ends[0])
    return Labelled("Adult", columns, labels, order[:10000], order[10000:12000], numpy.arange(ends[0], ends[1]))


def packaged(name, read, train, clean):
    """A data set that scikit-learn ships."""

    def load(seed):
        bunch = read()
        columns = {f"x{place}": bunch.data[:, place].astype(float) for place in range(bunch.data.shape[1])}
        order = numpy.random.default_rng(seed).permutation(len(bunch.target))
        return Labelled(name, columns, bunch.target, order[:train], order[train : train + clean], order[train + clean :])

    return load


def data_sets():
    from sklearn.datasets import load_breast_cancer, load_digits

    return {
        "Adult": adult,
        "digits": packaged("digits", load_digits, 1000, 300),
        "breast cancer": packaged("breast cancer", load_breast_cancer, 350, 100),
    }
