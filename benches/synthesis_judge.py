"""What synthetic rows are worth, and what they give away: by SDMetrics' own code, scikit-learn's models and plain distances.

`judge(real, held_out, made)`: all three have the columns of `synthesis_data.NAMES`; the figures are named in `FIGURES`.
"""

import numpy
import pandas

from common import peer
from synthesis_data import CATEGORIES, LABEL, NUMBERS, POSITIVE

# {figure: what it is}
FIGURES = {
    "quality": "SDMetrics' QualityReport: the mean of the two below",
    "shapes": "column shapes: complements of the Kolmogorov-Smirnov statistic (numbers) and of the total variation distance (categories)",
    "pairs": "pair trends: similarity of correlations (two numbers), of contingency tables (else)",
    "auc": "area under the ROC curve of boosted trees that learned the label from these rows, on the held-out ones",
    "f1": "their F1",
    "linear_auc": "the area of logistic regression",
    "two_sample": "area under the curve of boosted trees that tell these rows from the real ones, out of fold; 0.5 is best",
    "copies": "share of rows that equal a real one",
    "held_out_copies": "the same of the held-out rows",
    "closer": "share of rows that are nearer to a training row than to a held-out one; 0.5 is best",
    "distance": "median distance (Gower's) to the closest real row",
    "held_out_distance": "the same of the held-out rows",
    "membership": "area under the curve of an attack that takes the rows nearest to synthetic ones for those trained on; 0.5 is chance",
}
ASKED = 2000
ATTACKED = 1500


def judge(real, held_out, made):
    real, held_out, made = (typed(rows) for rows in (real, held_out, made))
    found = sdmetrics_quality(real, made)
    found |= utility(made, held_out)
    found |= privacy(real, held_out, made)
    return {name: float(value) for name, value in (found | {"two_sample": two_sample(real, made)}).items()}


def typed(rows):
    return rows.astype({name: float for name in NUMBERS} | {name: str for name in CATEGORIES}).reset_index(drop=True)


def sdmetrics_quality(real, made):
    described = {"columns": {name: {"sdtype": "numerical" if name in NUMBERS else "categorical"} for name in real}}
    report = peer("sdmetrics.reports.single_table").QualityReport()
    report.generate(real, made, described, verbose=False)
    scores = report.get_properties().set_index("Property")["Score"]
    return {"quality": report.get_score(), "shapes": scores["Column Shapes"], "pairs": scores["Column Pair Trends"]}


def encoded(learned, asked):
    """[(features, labels)] of both: numbers standardised by the rows learned from, a column for each category of either."""
    whole = pandas.concat([learned, asked], keys=range(2))
    numbers = whole[NUMBERS].astype(float)
    spread = numbers.loc[0].std().replace(0, 1)
    features = [category for category in CATEGORIES if category != LABEL]
    x = pandas.concat([(numbers - numbers.loc[0].mean()) / spread, pandas.get_dummies(whole[features], dtype=float)], axis=1)
    return [(x.loc[place].to_numpy(), (whole.loc[place][LABEL] == POSITIVE).to_numpy(int)) for place in range(2)]


def learners(weights=None):
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    return {
        "boosting": HistGradientBoostingClassifier(random_state=0, class_weight=weights),
        "linear": LogisticRegression(max_iter=300, class_weight=weights),
    }


def tested(learned, asked, weights=None):
    """{learner: {"auc", "f1", "precision", "recall"}} of what learns the label from the first rows, on the second."""
    from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

    (x, labels), (x_asked, truth) = encoded(learned, asked)
    found = {}
    for name, model in learners(weights).items():
        if len(numpy.unique(labels)) < 2:
            found[name] = {"auc": 0.5, "f1": 0.0, "precision": 0.0, "recall": 0.0}
            continue
        likely = model.fit(x, labels).predict_proba(x_asked)[:, 1]
        said = likely > 0.5
        found[name] = {
            "auc": roc_auc_score(truth, likely),
            "f1": f1_score(truth, said),
            "precision": precision_score(truth, said, zero_division=0),
            "recall": recall_score(truth, said),
        }
    return found


def utility(made, held_out):
    found = tested(made, held_out)
    return {"auc": found["boosting"]["auc"], "f1": found["boosting"]["f1"], "linear_auc": found["linear"]["auc"]}


def two_sample(real, made):
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict

    count = min(len(real), len(made))
    both = pandas.concat([rows.sample(count, random_state=0) for rows in (real, made)], ignore_index=True)
    both = both.assign(**{name: both[name].astype("category").cat.codes for name in CATEGORIES})
    is_made = numpy.repeat([0, 1], count)
    model = HistGradientBoostingClassifier(random_state=0)
    likely = cross_val_predict(model, both[CATEGORIES + NUMBERS].to_numpy(), is_made, cv=3, method="predict_proba")[:, 1]
    return roc_auc_score(is_made, likely)


def privacy(real, held_out, made):
    from sklearn.metrics import roc_auc_score

    known = set(map(tuple, real.to_numpy()))
    half = min(len(real), len(held_out))
    asked = made.sample(min(ASKED, len(made)), random_state=0)
    trained_on, not_trained_on = (closest(asked, rows.sample(half, random_state=1), real) for rows in (real, held_out))
    chance = numpy.random.default_rng(0)
    attacked = min(ATTACKED, half)
    members, others = (rows.iloc[chance.choice(len(rows), attacked, replace=False)] for rows in (real, held_out))
    nearness = -closest(pandas.concat([members, others]), made, real)
    return {
        "copies": numpy.mean([row in known for row in map(tuple, made.to_numpy())]),
        "held_out_copies": numpy.mean([row in known for row in map(tuple, held_out.to_numpy())]),
        "closer": ((trained_on < not_trained_on) + 0.5 * (trained_on == not_trained_on)).mean(),
        "distance": numpy.median(closest(asked, real, real)),
        "held_out_distance": numpy.median(closest(held_out.sample(min(ASKED, len(held_out)), random_state=0), real, real)),
        "membership": roc_auc_score(numpy.repeat([1, 0], attacked), nearness),
    }


def closest(asked, rows, real):
    """Gower's distance to the nearest of `rows`: mean over columns of |a - b| in spans of the real rows, and of a ≠ b."""
    spans = (real[NUMBERS].max() - real[NUMBERS].min()).replace(0, 1)
    numbers, asked_numbers = ((part[NUMBERS] / spans).to_numpy(numpy.float32) for part in (rows, asked))
    joined = {name: pandas.factorize(pandas.concat([rows[name], asked[name]]))[0].astype(numpy.int16) for name in CATEGORIES}
    categories = numpy.stack(list(joined.values()), 1)
    held, looked_for = categories[: len(rows)], categories[len(rows) :]
    least = [
        (numpy.abs(numbers - number).sum(1) + (held != category).sum(1)).min()
        for number, category in zip(asked_numbers, looked_for)
    ]
    return numpy.array(least) / (len(NUMBERS) + len(CATEGORIES))
