"""How fast synthetic rows are fitted and made, beside Python's libraries."""

from common import Side, Unavailable, alternate, machine, model_workers, ratio, seconds, table
from synthesis_own import PEERS, UNTRAINED, own, sides
from synthesis_peers import MANY

TITLE = "Synthetic rows: speed"
HEADER = ["", "fit, CPU s", "fit, s", "pg_reco faster by CPU", "rows per CPU s", "rows/s", "by CPU", "how a peer was measured"]


def measure(context):
    found, missing = sides(context)
    many, rows = context.size(MANY, 5000), []
    extension = own(context)
    # As many as a peer has.
    extension.connection.execute("SET reco.threads = 1")
    for method, mine, theirs in found:
        if not mine:
            continue
        query = f"SELECT count(made) FROM ({extension.streamed(method, many)}) s"
        side = Side(lambda: extension.connection.execute(query).fetchone(), extension.pid, model_workers(extension.connection))
        timing = alternate({method: side}, context.rounds)[method]
        if timing.results[-1] != (many,):
            raise Unavailable(f"{method} made {timing.results[-1][0]:,} rows of {many:,}")
        # A hundredth of a second is what the system counts in.
        cpu, wall = max(timing.cpu_median, 0.01), timing.wall_median
        trained = method not in UNTRAINED
        fit = [seconds(mine.fit["cpu"]), seconds(mine.fit["wall"])] if trained else ["–", "–"]
        rows.append([f"`{method}`", *fit, "", f"{many / cpu:,.0f}", f"{many / wall:,.0f}", "", ""])
        if not theirs:
            continue
        count, taken = (many, theirs.many) if theirs.many else (len(extension.real), theirs.sample)
        if theirs.many:
            count = MANY
        fit = [seconds(theirs.fit["cpu"]), seconds(theirs.fit["wall"]), ratio(theirs.fit["cpu"], max(mine.fit["cpu"], 0.01))]
        rows.append(
            [
                f"– {PEERS[method][0]}",
                *(fit if trained else ["–", "–", ""]),
                f"{count / taken['cpu']:,.0f}",
                f"{count / taken['wall']:,.0f}",
                ratio(taken["cpu"] / count, cpu / many),
                f"{theirs.note}, {count:,} rows",
            ]
        )
    extension.connection.execute("RESET reco.threads")
    return "\n\n".join(
        [
            f"Adult, {len(extension.real):,} rows learned from; {many:,} made. Fitting is the whole statement `reco.train_synthesizer`, which reads, trains, writes "
            f"the files and stores the model; making is counting typed rows as they stream out of a SELECT list, on one thread, the median of {context.rounds} rounds (`smote_nc` reads the source, too). A "
            "peer has frames before and after, and one thread. CPU seconds are of all threads; ratios above 1 are in favour of pg_reco.",
            table(HEADER, rows),
            *missing,
            machine(context, "scikit-learn", "pandas"),
        ]
    )
