"""Writes prediction_golden.json: predictions, and what scikit-learn and SciPy say of them. The engine's tests and test_prediction_metrics.py read it.

    pip install scikit-learn==1.9.1 scipy && python tests/prediction_golden.py
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy
from scipy.stats import binomtest
from sklearn import metrics
from sklearn.calibration import calibration_curve

FILE = Path(__file__).with_suffix(".json")
BINS, CUTS = 7, [1, 5, 100]


def of_binary(random):
    labels = random.random(200) < 0.3
    # Few different numbers: many ties. Some are 0 and 1.
    probabilities = numpy.clip(numpy.round(0.3 * labels + 0.7 * random.random(200), 2) - 0.05, 0, 1)
    chosen = probabilities > 0.5
    rates, means = calibration_curve(labels, probabilities, n_bins=BINS)
    return {
        "probabilities": probabilities.tolist(),
        "labels": labels.tolist(),
        "values": {
            "auc": metrics.roc_auc_score(labels, probabilities),
            "average_precision": metrics.average_precision_score(labels, probabilities),
            "log_loss": metrics.log_loss(labels, probabilities),
            "brier": metrics.brier_score_loss(labels, probabilities),
            "accuracy": metrics.accuracy_score(labels, chosen),
            "precision_score": metrics.precision_score(labels, chosen),
            "recall_score": metrics.recall_score(labels, chosen),
            "f1": metrics.f1_score(labels, chosen),
        },
        "calibration": {"bins": BINS, "rates": rates.tolist(), "probabilities": means.tolist()},
    }


def of_numbers(random):
    labels = 1e6 + random.normal(size=150)
    predictions = labels + random.normal(size=150)
    return {
        "predictions": predictions.tolist(),
        "labels": labels.tolist(),
        "values": {
            "rmse": metrics.root_mean_squared_error(labels, predictions),
            "mae": metrics.mean_absolute_error(labels, predictions),
            "r2": metrics.r2_score(labels, predictions),
        },
    }


def of_classes(random):
    labels = random.choice(["茶", "coffee", "milk", "never predicted"], size=120)
    predictions = numpy.where(random.random(120) < 0.6, labels, random.choice(["茶", "coffee", "milk", "never a label"], size=120))
    predictions[predictions == "never predicted"] = "milk"
    averages = {}
    for average in ("macro", "weighted", "micro"):
        found = metrics.precision_recall_fscore_support(labels, predictions, average=average, zero_division=0)
        averages[average] = [float(value) for value in found[:3]]
    names = sorted({*labels, *predictions}, key=str.encode)
    return {
        "predictions": predictions.tolist(),
        "labels": labels.tolist(),
        "accuracy": metrics.accuracy_score(labels, predictions),
        "averages": averages,
        "confusion": {"names": names, "counts": metrics.confusion_matrix(labels, predictions, labels=names).tolist()},
    }


def of_gains(random):
    scores, gains = random.integers(0, 8, size=40).astype(float), random.integers(0, 4, size=40).astype(float)
    return {"scores": scores.tolist(), "gains": gains.tolist(), "ndcg": {str(k): metrics.ndcg_score([gains], [scores], k=k) for k in CUTS}}


def of_rates():
    found = []
    for hits, rows, confidence in [(0, 10, 0.95), (3, 10, 0.95), (10, 10, 0.9), (12345, 1000000, 0.99)]:
        interval = binomtest(hits, rows).proportion_ci(confidence, method="wilson")
        found.append([hits, rows, confidence, float(interval.low), float(interval.high)])
    return found


if __name__ == "__main__":
    random = numpy.random.default_rng(7)
    golden = {
        "made_by": f"scikit-learn {version('scikit-learn')}, SciPy {version('scipy')}",
        "binary": of_binary(random),
        "numbers": of_numbers(random),
        "classes": of_classes(random),
        "gains": of_gains(random),
        "rates": of_rates(),
    }
    FILE.write_text(json.dumps(golden, separators=(",", ":"), ensure_ascii=False) + "\n")
