"""Every algorithm, with options that suit a few dozen users and items, for tests that hold for all of them."""

import json

OPTIONS = {
    "popularity": {},
    "item_knn": {},
    "ease": {"regularization": 5},
    # Two kinds of customers: two factors tell them apart, and more would learn each one's gaps by heart.
    "ials": {"factors": 2, "iterations": 10},
    "bpr": {"factors": 4, "iterations": 60},
    "gf_cf": {"factors": 2},
    "lightgcn": {"factors": 8, "epochs": 60, "batch_size": 256, "learning_rate": 0.02},
    "neumf": {"factors": 4, "epochs": 30, "batch_size": 256, "learning_rate": 0.01},
    "mult_vae": {"factors": 4, "hidden": 32, "epochs": 200, "batch_size": 32, "learning_rate": 0.01},
    "two_tower": {"factors": 8, "epochs": 40, "batch_size": 64, "learning_rate": 0.01},
    "hybrid": {"components": ["item_knn", {"algorithm": "ials", "options": {"factors": 2, "iterations": 10}}]},
}
ALGORITHMS = list(OPTIONS)
PERSONAL = [algorithm for algorithm in ALGORITHMS if algorithm != "popularity"]
# Of a few dozen users, networks learn each one's gaps by heart: what they make of kinds is tested on more data, in the engine.
SHALLOW = [algorithm for algorithm in PERSONAL if algorithm not in ("neumf", "mult_vae", "two_tower")]


def train(db, name, source, algorithm, items, **arguments):
    """Trains with the family's options; `items` is the query of attributes for those who cannot do without."""
    arguments.setdefault("options", json.dumps(OPTIONS[algorithm]))
    if algorithm == "two_tower":
        arguments.setdefault("items", items)
    named = "".join(f", {name} => %s" for name in arguments)
    return db.execute(f"SELECT reco.train(%s, %s, %s{named})", [name, source, algorithm, *arguments.values()]).fetchone()[0]
