"""What synthetic rows give away of the real ones: copies, distances, and an attack; each beside what held-out rows show."""

from common import machine, table
from synthesis_data import adult
from synthesis_own import PEERS, sides
from synthesis_quality import COPIES, bounds, percent

TITLE = "Synthetic rows: what they give away"
HEADER = ["", "copies", "nearer to training rows", "median distance to the closest", "two-sample test", "membership attack"]


def measure(context):
    real, held_out = adult(context.quick)
    found, missing = sides(context)
    rows = []
    for method, mine, theirs in found:
        if mine:
            rows.append([f"`{method}`", *figures(mine.judged)])
        if theirs:
            rows.append([f"– {PEERS[method][0]}", *figures(theirs.judged)])
    # They are of the real rows only.
    judged = next(side.judged for _, *both in found for side in both if side)
    rows.append([COPIES, *figures(bounds(context, real, held_out)[COPIES])])
    return "\n\n".join(
        [
            f"Adult, the rows of the figure above. Of the {len(held_out):,} rows held out {percent(judged['held_out_copies'])} equal a training row by chance, and "
            f"their median distance to the closest is {judged['held_out_distance']:.4f} (Gower's; 1 is opposite in every column). Nearer to training rows: of 2,000 "
            f"rows made, the share whose closest among {min(len(real), len(held_out)):,} training rows is nearer than their closest among as many held out (0.5: no "
            "difference). The attack takes the rows nearest to those made for the ones trained on: area under the ROC curve, 1,500 of each (0.5: chance). Distances "
            "alone do not make rows private: only `aim` promises something, against any attack.",
            table(HEADER, rows),
            *missing,
            machine(context, "scikit-learn", "pandas"),
        ]
    )


def figures(judged):
    digits = {"closer": 3, "distance": 4, "two_sample": 3, "membership": 3}
    return [percent(judged["copies"]), *(f"{judged[name]:.{places}f}" for name, places in digits.items())]
