"""A table of what the recommenders' lists are worth: each of the extension's with what it is to beat, then the peers."""

import psycopg

import peers
from algorithms import PUBLISHED, measured_on
from common import Unavailable, seconds, table


def note(measured):
    """When a peer's time was taken, if the machine was not idle."""
    return f"{measured['date']}, load {measured['load']:.1f}"


def not_measured(algorithm, reason):
    return f"Not measured: {algorithm.title}: {str(reason).splitlines()[0]}"


class Board:
    """Rows of a table: pg_reco's, each with what it is to beat, and the peers'."""

    def __init__(self, names):
        self.names, self.lines, self.missed = names, [], []

    def own(self, title, figures, checked, trained, to_beat):
        """`to_beat`: (source, figures) of each figure's opponent; the best of them, figure by figure, is what counts."""
        line = [f"pg_reco, {title}"]
        for place, (value, name) in enumerate(zip(figures, self.names)):
            line.append(f"{value:.4f}" + (f" ({checked[name]:.4f})" if checked and name in checked else ""))
            rivals = [(values[place], source) for source, values in to_beat if values[place] is not None]
            line.append(f"{max(rivals)[0]:.4f}{' ✓' if value >= max(rivals)[0] else ''}" if rivals else "")
        line += [seconds(trained["wall"]), seconds(trained["cpu"]), "; ".join(source for source, _ in to_beat)]
        self.lines.append(line)

    def peer(self, title, figures, measured):
        times = [seconds(measured["wall"]), seconds(measured["cpu"])] if "wall" in measured else ["", ""]
        line = [title]
        for value in figures:
            line += ["" if value is None else f"{value:.4f}", ""]
        self.lines.append(line + times + [note(measured)])

    def text(self, labels):
        header = [""]
        for label in labels:
            header += [label, "to beat"]
        return table(header + ["whole s", "CPU s", "what is to beat; when a peer was measured"], self.lines)


def compete(context, board, data_name, own, contenders, answer):
    """Measures the peers, then each algorithm beside those that share its kind and what was published.

    `contenders`: {title: (kinds it is to be beaten by, its figures, its measurement)}; `answer(own)` → figures, checked.
    """
    for algorithm, options in measured_on(data_name, context.quick):
        to_beat = [(title, figures) for title, (kinds, figures, _) in contenders.items() if algorithm.name in kinds]
        if algorithm.name in PUBLISHED.get(data_name, {}):
            source, *figures = PUBLISHED[data_name][algorithm.name]
            to_beat.append((source, figures))
        try:
            trained = own.train(algorithm, data_name, options)
            figures, checked = answer(own)
        except (Unavailable, psycopg.Error) as reason:
            board.missed.append(not_measured(algorithm, reason))
            continue
        board.own(algorithm.title + (f" {options}" if options else ""), figures, checked, trained, to_beat)
    for title, (_, figures, measured) in contenders.items():
        board.peer(title, figures, measured)


# What a peer's figures depend on besides the data.
NUMERIC, IMPLICIT, IRSPACK = ["numpy", "scipy"], ["implicit"], ["irspack"]


def contenders_of(context, where, entries, data, candidates, k, names):
    """{title: (kinds, figures, measurement)} of the peers in `entries`, kept from an earlier run where it can be."""
    found, missed = {}, []
    for title, kinds, packages, fit in entries:

        def measure():
            result, scores = fit(data)
            return result | peers.rated(scores, data, candidates, k)

        try:
            measured = peers.kept(context, f"{where}: {title}", packages, measure)
        except Unavailable as reason:
            missed.append(str(reason))
            continue
        found[title] = kinds, [measured[name] for name in names], measured
    return found, missed
