"""Predictors by their defaults beside LightGBM's and scikit-learn's boosting: the same folds, two threads."""

import time

import numpy

from common import THREADS, Unavailable, machine, peer, table
from labelled import Labelled, data_sets

TITLE = "Prediction: boosted trees"
FOLDS = 5
SEED = 1


def measure(context):
    with context.connect() as connection:
        parts = [quality(context, connection), speed(context, connection)]
    return "\n\n".join([*parts, machine(context, "lightgbm", "scikit-learn")])


# ---------------------------------------------------------------------------------------------------------------- quality


def quality(context, connection):
    lines = []
    for name, load in data_sets().items():
        try:
            data = whole(load(SEED), context.size(None, 600))
        except Unavailable:
            continue
        lines.append([name, f"{len(data.labels):,}", str(data.classes), *(f"{found:.4f}" for found in scores(connection, data))])
    return (
        f"AUC over {FOLDS} folds, of more than two classes each against the rest; all by their defaults.\n\n"
        + table(["data", "rows", "classes", "`train_predictor`", "LightGBM", "scikit-learn's HistGradientBoosting"], lines)
    )


def whole(data, few):
    """All rows of a data set, or some."""
    rows = numpy.random.default_rng(SEED).permutation(len(data.labels))[:few]
    columns = {name: numpy.asarray(values)[rows] for name, values in data.columns.items()}
    return Labelled(data.name, columns, data.labels[rows], numpy.arange(len(rows)), numpy.array([], int), numpy.array([], int))


def scores(connection, data):
    """The AUC of each side on rows that it was not trained on."""
    lightgbm = peer("lightgbm")
    peer("sklearn")
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    frame = frame_of(data)
    found = [numpy.zeros((len(data.labels), data.classes)) for _ in range(3)]
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(frame, data.labels):
        found[0][test] = ours(connection, data, train, test)
        model = lightgbm.LGBMClassifier(n_jobs=THREADS, verbose=-1, random_state=SEED)
        found[1][test] = model.fit(frame.iloc[train], data.labels[train]).predict_proba(frame.iloc[test])
        model = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=SEED)
        found[2][test] = model.fit(frame.iloc[train], data.labels[train]).predict_proba(frame.iloc[test])
    return [roc_auc_score(data.labels, p[:, 1] if data.classes == 2 else p, multi_class="ovr") for p in found]


def frame_of(data):
    """The columns with texts as categories."""
    import pandas

    frame = pandas.DataFrame({name: numpy.asarray(values) for name, values in data.columns.items()})
    texts = [name for name in frame if frame[name].dtype == object or frame[name].dtype.kind in "UOS"]
    return frame.astype({name: "category" for name in texts})


def ours(connection, data, train, test):
    data.load(connection, "train", train, data.labels[train])
    data.load(connection, "test", test, data.labels[test])
    connection.execute("SELECT reco.train_predictor('judged', 'TABLE train', seed => 1, keep => 1)")
    rows = connection.execute("SELECT id, probabilities FROM reco.predict_query('judged', 'TABLE test')").fetchall()
    connection.execute("SELECT reco.drop_model('judged')")
    found = numpy.zeros((len(test), data.classes))
    for id, probabilities in rows:
        for name, probability in probabilities.items():
            found[int(id), int(name[1:])] = probability
    return found


# ------------------------------------------------------------------------------------------------------------------ speed


def speed(context, connection):
    """A table of made rows: from the table to the model, and from the table to the predictions."""
    lightgbm = peer("lightgbm")
    rows, columns = context.size(1_000_000, 20_000), 30
    names = [f"x{n}" for n in range(columns)]
    draws = ", ".join(f"(random() + sin(n * {place + 1}))::real AS {name}" for place, name in enumerate(names))
    connection.execute("DROP TABLE IF EXISTS made")
    connection.execute("SELECT setseed(0.5)")
    connection.execute(f"CREATE TABLE made AS SELECT n AS id, {draws} FROM generate_series(1, {rows}) AS n")
    connection.execute("ALTER TABLE made ADD COLUMN label boolean")
    connection.execute("UPDATE made SET label = x0 * x1 + x2 - x3 * x4 + random() > 1")
    connection.execute("VACUUM ANALYZE made")
    source = f"SELECT id, {', '.join(names)}, label FROM made"
    options = '{"rounds": 100, "learning_rate": 0.1, "folds": 1}'
    connection.execute("SET reco.training_memory = '12GB'")
    trained = timed(lambda: connection.execute("SELECT reco.train_predictor('made', %s, options => %s, keep => 1)", [source, options]))
    predicted = timed(lambda: connection.execute("SELECT count(prediction) FROM reco.predict_query('made', %s)", [source]).fetchone())

    def read():
        with connection.transaction(), connection.cursor(binary=True) as cursor:
            return numpy.array(cursor.execute(source).fetchall(), numpy.float32)

    matrix = read()
    reading = timed(read)
    model = lightgbm.LGBMClassifier(n_jobs=THREADS, verbose=-1, random_state=SEED)
    fitting = timed(lambda: model.fit(matrix[:, 1:-1], matrix[:, -1]))
    predicting = timed(lambda: model.predict_proba(matrix[:, 1:-1]))
    connection.execute("SELECT reco.drop_model('made')")
    connection.execute("DROP TABLE made")
    return (
        f"{rows:,} rows of {columns} numbers, 100 trees of 31 leaves, seconds. Ours holds a fifth of the rows out, to measure, and then trains on all.\n\n"
        + table(
            ["", "training", "rows predicted a second"],
            [
                ["`train_predictor`, `predict_query`", f"{trained:.1f}", f"{rows / predicted:,.0f}"],
                ["LightGBM, with reading the table", f"{reading + fitting:.1f}", f"{rows / (reading + predicting):,.0f}"],
                ["LightGBM, rows in memory", f"{fitting:.1f}", f"{rows / predicting:,.0f}"],
            ],
        )
    )


def timed(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
