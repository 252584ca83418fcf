"""How like the real rows synthetic ones are, and what a model learns from them, beside Python's libraries on the same rows."""

from common import machine, seconds, table
from peers import kept
from synthesis_data import adult
from synthesis_judge import judge
from synthesis_own import PEERS, sides

TITLE = "Synthetic rows: quality"
REAL, COPIES = "the real rows", "drawing real rows with replacement"
HEADER = ["", "quality", "column shapes", "pair trends", "boosting: AUC / F1", "logistic regression: AUC", "two-sample test", "copies"]
HEADER += ["fit, CPU s (s)", "as many rows, CPU s (s)"]


def measure(context):
    real, held_out = adult(context.quick)
    found, missing = sides(context)
    rows = []
    for method, mine, theirs in found:
        if mine:
            rows.append([f"`{method}`", *figures(mine.judged), *times(mine)])
        if theirs:
            rows.append([f"– {PEERS[method][0]}", *figures(theirs.judged), *times(theirs)])
    known = bounds(context, real, held_out)
    rows.append([COPIES, *figures(known[COPIES]), "", ""])
    # That they are like themselves says nothing.
    rows.append([REAL, "", "", "", *figures(known[REAL])[3:5], "", "", "", ""])
    return "\n\n".join(
        [
            f"Adult: {len(real):,} rows learned from, as many made. Quality, column shapes and pair trends are SDMetrics' own. scikit-learn's boosted trees and "
            f"logistic regression learn `income` from the rows made and are tested on {len(held_out):,} real ones that were held out. The two-sample test is the area "
            "under the ROC curve of boosted trees that tell the rows made from the real ones (0.5 is best). Copies are rows that equal a real one. pg_reco's fit and rows "
            "are whole statements, with reading, storing and sending the rows by COPY; a peer has a frame before and after, and one thread. CPU seconds are of all "
            "threads; in brackets the seconds that passed. pg_reco is told that `income` is the label, as the trees of scikit-learn are. `aim` is private: "
            "ε = 1, δ = 10⁻⁹, the domain declared.",
            table(HEADER, rows),
            *missing,
            machine(context, "sdmetrics", "scikit-learn", "pandas"),
        ]
    )


def figures(judged):
    values = [f"{judged[name]:.3f}" for name in ("quality", "shapes", "pairs")]
    values.append(f"{judged['auc']:.3f} / {judged['f1']:.3f}")
    return [*values, f"{judged['linear_auc']:.3f}", f"{judged['two_sample']:.3f}", percent(judged["copies"])]


def percent(share):
    return f"{100 * share:.2f} %" if share else "0"


def times(made):
    fit = f"{seconds(made.fit['cpu'])} ({seconds(made.fit['wall'])})" if made.fit["cpu"] >= 0.01 else "–"
    return [fit, f"{seconds(made.sample['cpu'])} ({seconds(made.sample['wall'])})"]


def bounds(context, real, held_out):
    """What real rows score, and rows that are copies."""

    def of_copies():
        drawn = real.sample(len(real), replace=True, random_state=1).reset_index(drop=True)
        return {REAL: judge(real, held_out, real), COPIES: judge(real, held_out, drawn)}

    found = kept(context, "copies of Adult", ["sdmetrics", "scikit-learn"], of_copies)
    return {name: judged for name, judged in found.items() if isinstance(judged, dict)}
