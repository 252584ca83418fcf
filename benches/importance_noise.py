"""How well scores find flipped labels, and what is gained by leaving the lowest out, beside Python on the same data."""

import numpy

import importance_peers
from common import machine, table
from labelled import FLIPPED, data_sets
from peers import kept

TITLE = "Importance: finding flipped labels"
SEEDS = 3
METHODS = ["auto", "aum", "el2n", "self_confidence", "influence", "tracin", "grad_norm", "knn_shapley", "data_oob", "loss", "forgetting"]
# Which of them are given clean rows; tracin without is the self-influence.
WITH_CLEAN = ["influence", "knn_shapley"]
PEERS = {
    "aum": "NumPy",
    "el2n": "NumPy",
    "tracin": "NumPy",
    "grad_norm": "NumPy",
    "influence": "scikit-learn, NumPy",
    "knn_shapley": "NumPy",
    "self_confidence": "scikit-learn's boosting, out of fold",
    "data_oob": "scikit-learn's trees",
    "regularised out-of-fold boosting": "scikit-learn",
}


def measure(context):
    seeds = context.size(SEEDS, 1)
    names = list(data_sets())
    own, theirs, retrained = {}, {}, []
    with context.connect() as connection:
        for name, read in data_sets().items():
            peer = kept(context, f"importance on {name}", ["numpy", "scikit-learn"], lambda: peer_quality(read, seeds))
            theirs[name] = peer["quality"]
            found = [own_scores(connection, read(seed), seed) for seed in range(seeds)]
            own[name] = {method: mean_quality([(run[method], run["wrong"]) for run in found]) for method in METHODS}
            retrained.append([name, *gains(read, seeds, [run["auto"] for run in found])])
    rows = []
    for method in METHODS:
        cells = [cell(own[name].get(method)) + beside(theirs[name].get(method)) for name in names]
        rows.append([f"`{method}`", *cells])
    boosting = "regularised out-of-fold boosting"
    rows.append([f"{boosting} (scikit-learn)", *("–" + beside(theirs[name].get(boosting)) for name in names)])
    share = round(100 * FLIPPED)
    return "\n\n".join(
        [
            f"{share} % of the labels flipped; area under the ROC curve of finding them, and the share of them among the {share} % that score lowest; "
            f"means over {seeds} seeds. In brackets what Python finds with the same method on the same rows (NumPy and scikit-learn, "
            "`importance_peers.py`). Adult: 10,000 rows, two classes; digits: 1,000 rows, ten classes; breast cancer: 350 rows, two classes. "
            "`influence` and `knn_shapley` are given clean rows besides (2,000, 300, 100).",
            table(["method", *names], rows),
            f"What the lowest {share} % by `auto` are worth, judged by scikit-learn's boosted trees (100 rounds) on the test rows: area under the "
            "ROC curve (digits: each class against the rest) trained on the clean labels, on the noisy ones, without the lowest, and with `reco.importance_weights` by rank.",
            table(["data", "clean", "noisy", "without the lowest", "weighted"], retrained),
            machine(context, "numpy", "scikit-learn"),
        ]
    )


def own_scores(connection, data, seed):
    labels, wrong = data.flipped(seed)
    data.load(connection, "noisy", data.train, labels)
    data.load(connection, "clean", data.clean, data.labels[data.clean])
    found = {"wrong": wrong}
    for methods, validation in (
        ([method for method in METHODS if method not in WITH_CLEAN], None),
        (WITH_CLEAN, "TABLE clean"),
    ):
        rows = connection.execute(
            "SELECT method, id::int, score FROM reco.importance('TABLE noisy', %s::text[], validation => %s, seed => %s)",
            [methods, validation, seed],
        )
        for method, id, score in rows:
            found.setdefault(method, numpy.zeros(len(labels)))[id] = score
    return found


def peer_quality(read, seeds):
    runs = []
    for seed in range(seeds):
        data = read(seed)
        labels, wrong = data.flipped(seed)
        runs.append((importance_peers.scores(data, labels, seed), wrong))
    return {"quality": {name: mean_quality([(scores[name], wrong) for scores, wrong in runs]) for name in runs[0][0]}}


def mean_quality(runs):
    return [float(numpy.mean(values)) for values in zip(*(quality(scores, wrong) for scores, wrong in runs))]


def quality(scores, wrong):
    """How likely a wrong row scores below a right one, and the share of wrong ones among as many of the lowest."""
    from sklearn.metrics import roc_auc_score

    lowest = numpy.argsort(scores, kind="stable")[: wrong.sum()]
    return roc_auc_score(wrong, -scores), wrong[lowest].mean()


def gains(read, seeds, scores):
    """Areas under the curve of a model trained on clean labels, noisy ones, without the lowest, weighted by rank."""
    rows = []
    for seed in range(seeds):
        data = read(seed)
        labels, _ = data.flipped(seed)
        x = data.encoded()
        order = numpy.argsort(scores[seed], kind="stable")
        left_out = round(FLIPPED * len(labels))
        keep = numpy.ones(len(labels), bool)
        keep[order[:left_out]] = False
        weights = numpy.ones(len(labels))
        weights[order[:left_out]] = numpy.arange(left_out) / left_out
        train, clean = x[data.train], data.labels[data.train]
        fits = [(train, clean, None), (train, labels, None), (train[keep], labels[keep], None), (train, labels, weights)]
        rows.append([fitted(*fit, x[data.test], data.labels[data.test]) for fit in fits])
    return [f"{value:.4f}" for value in numpy.mean(rows, 0)]


def fitted(x, labels, weights, test, test_labels):
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    p = HistGradientBoostingClassifier(random_state=0, max_iter=100).fit(x, labels, sample_weight=weights).predict_proba(test)
    return roc_auc_score(test_labels, p[:, 1]) if p.shape[1] == 2 else roc_auc_score(test_labels, p, multi_class="ovr")


def cell(values):
    return f"{values[0]:.3f} / {values[1]:.3f}" if values else "–"


def beside(values):
    return f" ({cell(values)})" if values else ""
