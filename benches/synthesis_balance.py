"""Whether evening a label out with synthetic rows makes a better model: F1 on real rows held out, beside weights and SMOTENC."""

import numpy
import pandas
import psycopg
import scipy.stats

from common import Unavailable, machine, table
from peers import kept
from synthesis_data import LABEL, POSITIVE, adult
from synthesis_judge import tested
from synthesis_own import own
from synthesis_peers import smote_nc

TITLE = "Synthetic rows: evening out a label"
SIZES = [500, 2000, 9000]
SEEDS = 5
ALONE, WEIGHTS, SMOTE = "the rows alone", "class weights", "SMOTENC (imbalanced-learn)"
LEARNERS = {"boosting": "Boosted trees", "linear": "Logistic regression"}


def measure(context):
    sizes, seeds = context.size(SIZES, SIZES[:1]), context.size(SEEDS, 1)
    real, held_out = adult(context.quick)
    packages = ["scikit-learn", "imbalanced-learn", "pandas"]
    theirs = kept(context, "Adult's label evened out", packages, lambda: {"found": of_peers(real, held_out, sizes, seeds)})
    extension, mine, missing = own(context), {}, []
    ways = {"`cart`, rows conditioned on the label": conditioned, "`smote_nc`": balanced}
    for name, more in ways.items():

        def prepared(rows, seed):
            return pandas.concat([rows, more(extension, rows, seed)], ignore_index=True), None

        try:
            mine[name] = runs(real, held_out, sizes, seeds, prepared)
        except psycopg.Error as error:
            missing.append(f"{name}: {error.diag.message_primary or error}")
        except Unavailable as reason:
            missing.append(f"{name}: {reason}")
    if not mine:
        raise Unavailable("; ".join(missing))
    tables = []
    for learner, title in LEARNERS.items():
        alone = theirs["found"][ALONE]
        rows = [
            [name, *(cell for size in map(str, sizes) for cell in cells(found[size][learner], None if found is alone else alone[size][learner]))]
            for name, found in ({way: theirs["found"][way] for way in (ALONE, WEIGHTS, SMOTE)} | mine).items()
        ]
        header = ["", *(name for size in sizes for name in (f"{size:,} rows", "gained"))]
        tables.append(f"{title}:\n\n{table(header, rows)}")
    share = (real[LABEL] == POSITIVE).mean()
    return "\n\n".join(
        [
            f"Adult, {100 * share:.0f} % `{POSITIVE}`: some of its rows train, alone or with as many synthetic ones as make both values of the label equally many, "
            f"and the {len(held_out):,} rows held out test: F1 (area under the ROC curve) of `{POSITIVE}`, means over {seeds} draws of the training rows, and what is "
            "gained in F1 over the rows alone, with the 95 % interval of the mean of the draws' differences. The first lines, to SMOTENC, are scikit-learn's and "
            "imbalanced-learn's.",
            *tables,
            *missing,
            machine(context, "scikit-learn", "imbalanced-learn"),
        ]
    )


def cells(found, alone):
    """F1 (area) and what is gained over the rows alone."""
    means = f"{numpy.mean(found['f1']):.3f} ({numpy.mean(found['auc']):.3f})"
    if alone is None:
        return [means, ""]
    gains = numpy.subtract(found["f1"], alone["f1"])
    spread = scipy.stats.sem(gains) * scipy.stats.t.ppf(0.975, len(gains) - 1) if len(gains) > 1 else 0
    return [means, f"{gains.mean():+.3f} ± {spread:.3f}"]


def of_peers(real, held_out, sizes, seeds):
    def oversampled(rows, seed):
        return pandas.concat([rows, smote_nc(rows, lacking(rows), 0)], ignore_index=True), None

    ways = {
        ALONE: lambda rows, seed: (rows, None),
        WEIGHTS: lambda rows, seed: (rows, "balanced"),
        SMOTE: oversampled,
    }
    return {name: runs(real, held_out, sizes, seeds, prepared) for name, prepared in ways.items()}


def runs(real, held_out, sizes, seeds, prepared):
    """{size: {learner: {figure: a value for each draw}}}; `prepared(rows, seed)` gives the rows to learn from, and class weights."""
    found = {}
    for size in sizes:
        of_seeds = []
        for seed in range(seeds):
            drawn = real.iloc[numpy.random.default_rng(seed).permutation(len(real))[:size]].reset_index(drop=True)
            rows, weights = prepared(drawn, seed)
            of_seeds.append(tested(rows, held_out, weights))
        found[str(size)] = {
            learner: {figure: [float(run[learner][figure]) for run in of_seeds] for figure in of_seeds[0][learner]} for learner in LEARNERS
        }
    return found


def lacking(rows):
    """{label: rows that it lacks to be as many as the most frequent}."""
    counts = rows[LABEL].value_counts()
    return {label: int(counts.max() - count) for label, count in counts.items()}


def conditioned(extension, rows, seed):
    made = [extension.conditioned(rows, label, count, seed) for label, count in lacking(rows).items() if count]
    return evened(rows, pandas.concat(made, ignore_index=True))


def balanced(extension, rows, seed):
    return evened(rows, extension.balancing(rows, "smote_nc", seed))


def evened(rows, made):
    counts = pandas.concat([rows, made])[LABEL].value_counts()
    if counts.nunique() != 1:
        raise Unavailable(f"the label is not even after balancing: {counts.to_dict()}")
    return made
