"""Synthetic rows by Python's libraries, in a process of its own: what the extension's are measured beside.

    synthesis_peers.py METHOD ROWS.csv OUT.csv

Fits METHOD to the rows of a CSV file, writes as many new ones, and prints as JSON the seconds {"wall", "cpu"} of "fit", of "sample", and,
where it is no matter of minutes, of "many": 100,000 rows. One thread. AIM needs an environment of its own (requirements-dpmm.in).
"""

import json
import sys
import time
import warnings

import numpy
import pandas

LABEL = "income"
MANY = 100_000
EPOCHS = 50
# The least rows of a leaf of the trees.
LEAF = 100
EPSILON, DELTA = 1.0, 1e-9


class Clock:
    def __init__(self, into, name):
        self.into, self.name = into, name

    def __enter__(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *_):
        self.into[self.name] = {"wall": time.perf_counter() - self.wall, "cpu": time.process_time() - self.cpu}


def is_number(column):
    return pandas.api.types.is_numeric_dtype(column)


# ------------------------------------------------------------------------------------------------------ sequential trees


class Trees:
    """A column after the other from trees on those before it, as R's synthpop: a value is drawn from the leaf's rows and, where the
    column has many values, moved towards another of them. A category is known to a tree by the mean of what the tree explains."""

    def __init__(self, rows):
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        self.rows = rows
        others = [name for name in rows if name != LABEL]
        self.order = [LABEL, *sorted(others, key=lambda name: rows[name].nunique())]
        self.trees = {}
        for place, name in enumerate(self.order[1:], 1):
            before, column = self.order[:place], rows[name]
            number = is_number(column)
            explained = column if number else column.eq(column.mode()[0])
            means = {other: explained.groupby(rows[other]).mean() for other in before if not is_number(rows[other])}
            kind = DecisionTreeRegressor if number else DecisionTreeClassifier
            features = self.features(rows, before, means)
            tree = kind(min_samples_leaf=LEAF, random_state=0).fit(features, column)
            leaves = tree.apply(features)
            donors = numpy.argsort(leaves, kind="stable")
            counts = numpy.bincount(leaves, minlength=tree.tree_.node_count)
            self.trees[name] = before, means, tree, donors, numpy.cumsum(counts) - counts, counts

    @staticmethod
    def features(rows, names, means):
        columns = [rows[name].map(means[name]) if name in means else rows[name] for name in names]
        return numpy.column_stack([column.to_numpy(numpy.float32) for column in columns])

    def sample(self, count):
        chance = numpy.random.default_rng(1)
        drawn = {LABEL: self.rows[LABEL].to_numpy()[chance.integers(len(self.rows), size=count)]}
        for name, (before, means, tree, donors, starts, counts) in self.trees.items():
            leaves = tree.apply(self.features(pandas.DataFrame(drawn), before, means))
            held = self.rows[name].to_numpy()

            def donated():
                return held[donors[starts[leaves] + (chance.random(count) * counts[leaves]).astype(int)]]

            drawn[name] = donated()
            if is_number(self.rows[name]) and self.rows[name].nunique() > 50:
                drawn[name] = self.smoothed(name, drawn[name], donated(), chance)
        return pandas.DataFrame(drawn)[list(self.rows)]

    def smoothed(self, name, values, others, chance):
        """Up to half way to another donor; values that a hundredth of the rows have stay as they are."""
        shares = self.rows[name].value_counts(normalize=True)
        spikes = shares.index[shares >= 0.01]
        kept = numpy.isin(values, spikes) | numpy.isin(others, spikes)
        moved = values + (others - values) * chance.random(len(values)) / 2
        return numpy.where(kept, values, numpy.round(moved) if values.dtype.kind == "i" else moved).astype(values.dtype)


# ------------------------------------------------------------------------------------------------------------ libraries


class Sdv:
    """SDV's GaussianCopulaSynthesizer, TVAESynthesizer or CTGANSynthesizer, with its defaults and 50 epochs."""

    def __init__(self, rows, kind):
        import sdv.single_table
        from sdv.metadata import Metadata

        columns = {name: {"sdtype": "numerical" if is_number(rows[name]) else "categorical"} for name in rows}
        described = {"METADATA_SPEC_VERSION": "V1", "tables": {"rows": {"columns": columns}}, "relationships": []}
        options = {}
        if kind != "GaussianCopula":
            import torch

            torch.set_num_threads(1)
            torch.manual_seed(0)
            options = {"epochs": EPOCHS, "enable_gpu": False}
        self.model = getattr(sdv.single_table, f"{kind}Synthesizer")(Metadata.load_from_dict(described), **options)
        self.model.fit({"rows": rows})

    def sample(self, count):
        return self.model.sample(count)["rows"]


class SmoteNc:
    """imbalanced-learn's SMOTENC, as many new rows of each label as its share."""

    def __init__(self, rows):
        self.rows = rows

    def sample(self, count):
        shares = self.rows[LABEL].value_counts(normalize=True)
        return smote_nc(self.rows, {label: round(count * share) for label, share in shares.items()}, 0)


def smote_nc(rows, wanted, seed):
    """New rows only: {label: number}."""
    from imblearn.over_sampling import SMOTENC

    features, labels = rows.drop(columns=LABEL), rows[LABEL]
    totals = labels.value_counts().add(pandas.Series(wanted), fill_value=0).astype(int).to_dict()
    categories = [name for name in features if not is_number(features[name])]
    smote = SMOTENC(categories, sampling_strategy=totals, k_neighbors=5, random_state=seed)
    more, more_labels = smote.fit_resample(features, labels)
    new = more.assign(**{LABEL: more_labels}).iloc[len(rows) :].reset_index(drop=True)
    whole = [name for name in features if is_number(features[name]) and features[name].dtype.kind == "i"]
    return new.assign(**{name: new[name].round().astype(int) for name in whole})


class Aim:
    """dpmm's AIM; the domain is that of the rows, as if it had been known beforehand."""

    def __init__(self, rows):
        from dpmm.pipelines import AIMPipeline

        domain, typed = {}, rows.copy()
        for name, column in rows.items():
            if is_number(column):
                domain[name] = {"lower": float(column.min()), "upper": float(column.max())}
            else:
                typed[name] = column.astype("category")
                domain[name] = {"categories": list(typed[name].cat.categories)}
        self.names = list(rows)
        self.model = AIMPipeline(epsilon=EPSILON, delta=DELTA, n_jobs=1, max_model_size=80)
        self.model.fit(typed, domain=domain, random_state=0)

    def sample(self, count):
        return self.model.generate(n_records=count, random_state=0)[self.names]


METHODS = {
    "cart": Trees,
    "tvae": lambda rows: Sdv(rows, "TVAE"),
    "ctgan": lambda rows: Sdv(rows, "CTGAN"),
    "gaussian_copula": lambda rows: Sdv(rows, "GaussianCopula"),
    "smote_nc": SmoteNc,
    "aim": Aim,
}


def main(method, source, target):
    warnings.simplefilter("ignore")
    rows = pandas.read_csv(source, keep_default_na=False)
    taken = {}
    # Imports are in no one's time.
    if method in ("tvae", "ctgan", "gaussian_copula"):
        import sdv.single_table  # noqa: F401
    elif method == "aim":
        import dpmm.pipelines  # noqa: F401
    elif method == "cart":
        import sklearn.tree  # noqa: F401
    else:
        import imblearn.over_sampling  # noqa: F401
    with Clock(taken, "fit"):
        model = METHODS[method](rows)
    with Clock(taken, "sample"):
        drawn = model.sample(len(rows))
    drawn.to_csv(target, index=False)
    if method != "smote_nc":
        with Clock(taken, "many"):
            model.sample(MANY)
    print(json.dumps(taken))


if __name__ == "__main__":
    main(*sys.argv[1:])
