"""Writes evaluation_golden.json: lists, and what ranx and scikit-learn say of them. The engine's tests and test_evaluation.py read it.

    pip install ranx==0.3.21 scikit-learn==1.9.1 && python tests/evaluation_golden.py
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy
import ranx
from ranx import Qrels, Run
from sklearn.metrics import accuracy_score, ndcg_score, roc_auc_score

ITEMS, CUTS = 60, [1, 5, 10]
FILE = Path(__file__).with_suffix(".json")


def user(random):
    relevant = sorted(random.choice(ITEMS, size=int(random.integers(1, 16)), replace=False).tolist())
    # Small whole numbers: many ties, for the AUC to count half. Relevant items score higher.
    scores = random.integers(1, 30, size=ITEMS)
    scores[relevant] += 8
    ranked = sorted(range(ITEMS), key=lambda item: (-scores[item], item))
    return {"scores": scores.tolist(), "ranked": ranked, "relevant": relevant}


def values(users, k):
    # The list's own order, since ranx breaks ties in another; names that sort as their numbers, since it sorts them.
    run = Run({f"{n:03}": {str(i): float(ITEMS - place) for place, i in enumerate(u["ranked"])} for n, u in enumerate(users)})
    qrels = Qrels({f"{n:03}": {str(i): 1 for i in u["relevant"]} for n, u in enumerate(users)})
    said = ranx.evaluate(qrels, run, [f"{m}@{k}" for m in ("precision", "recall", "f1", "ndcg", "map", "mrr", "hit_rate")], return_mean=False)
    found = {name.split("@")[0]: of_users for name, of_users in said.items()}
    # ranx divides the sum of precisions by all relevant items; RecBole, as reco.evaluate, by those that k places can hold.
    sizes = numpy.array([len(u["relevant"]) for u in users])
    found["map"] = found["map"] * sizes / numpy.minimum(sizes, k)
    truth = numpy.array([[i in u["relevant"] for i in range(ITEMS)] for u in users])
    scores = numpy.array([u["scores"] for u in users])
    listed = numpy.array([[i in u["ranked"][:k] for i in range(ITEMS)] for u in users])
    found["accuracy"] = [accuracy_score(t, p) for t, p in zip(truth, listed)]
    found["auc"] = [roc_auc_score(t, s) for t, s in zip(truth, scores)]
    # Two libraries agree on NDCG where the order has no ties.
    if k > 1:
        places = numpy.array([[-u["ranked"].index(i) for i in range(ITEMS)] for u in users])
        both = [ndcg_score([t], [p], k=k) for t, p in zip(truth, places)]
        assert numpy.allclose(both, found["ndcg"])
    return {name: [float(v) for v in of_users] for name, of_users in found.items()}


if __name__ == "__main__":
    random = numpy.random.default_rng(11)
    users = [user(random) for _ in range(24)]
    golden = {
        "made_by": f"ranx {version('ranx')}, scikit-learn {version('scikit-learn')}",
        "users": users,
        "values": {str(k): values(users, k) for k in CUTS},
    }
    FILE.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
