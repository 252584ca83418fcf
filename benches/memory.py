"""What connections that have run a model hold, beside a copy of the model in each, as PL/Python or a pool of workers has it."""

import contextlib
import statistics
import subprocess
import sys
import time
from pathlib import Path

from common import ROOT, Context, machine, table
from first_call import memory_of

TITLE = "Connections and memory"
MODEL = "all-minilm-l6-v2"
CONNECTIONS = [1, 10, 100]
# As many copies as this machine has room for.
COPIES = [1, 10]
# What any connection has done: the catalog's own caches are filled, no model was run.
ORDINARY = "SELECT count(*) FROM reco.models"
EMBED = "SELECT reco.embed('organic bananas')"


def measure(context: Context):
    lines = []
    for n in [1, 3] if context.quick else CONNECTIONS:
        idle, ordinary, embedded = held(context, n)
        lines.append([f"{n} connection{'s' if n > 1 else ''}", *private(ordinary, idle), *private(embedded, ordinary), f"{total_pss(embedded) - total_pss(ordinary):.0f}"])
    for n in [1] if context.quick else COPIES:
        without, with_model = copies(n)
        lines.append([f"{n} process{'es' if n > 1 else ''} with a copy each", "", "", *private(with_model, without), f"{total_pss(with_model) - total_pss(without):.0f}"])
    size = sum(f.stat().st_size for f in (ROOT / ".build/models" / MODEL).glob("*.*")) / 2**20
    return "\n\n".join(
        [
            f"Connections that are all open at once, MiB. All have run `{ORDINARY}`; then each has embedded one text with {MODEL} ({size:.0f} MiB). "
            "Private is private dirty of `/proc/PID/smaps_rollup`, what one more connection takes away from the machine: median and "
            "greatest; against the same connections before. PSS of all together counts shared pages once: the model is "
            "in it once, however many they are. A copy each is a Python process with ONNX Runtime's default session on the same file and the "
            "same tokenizer, against that process with both libraries loaded and no model.",
            table(
                ["", "ordinary query: private, more than idle", "greatest", "model run: private, more", "greatest", "PSS of all together, more"],
                lines,
            ),
            machine(context, "psycopg", "onnxruntime", "tokenizers"),
        ]
    )


def held(context, n):
    """Memory of each of n connections: fresh, after an ordinary query, after a model was run."""
    stages = []
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(context.connect()) for _ in range(n)]
        for statement in ("SELECT 1", ORDINARY, EMBED):
            for connection in connections:
                connection.execute(statement)
            time.sleep(1)
            stages.append([memory_of(connection.info.backend_pid) for connection in connections])
    return stages


def copies(n):
    """The same of n Python processes: with the libraries, with the model."""
    with contextlib.ExitStack() as stack:
        command = [sys.executable, __file__, str(ROOT / ".build/models" / MODEL)]
        processes = []
        for _ in range(n):
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process)
        stages = []
        for _ in range(2):
            for process in processes:
                process.stdout.readline()
            time.sleep(1)
            stages.append([memory_of(process.pid) for process in processes])
            for process in processes:
                process.stdin.write("\n")
                process.stdin.flush()
    return stages


def private(after, before):
    """The median and the greatest growth of private dirty memory."""
    grown = [a[0] - b[0] for a, b in zip(after, before)]
    return f"{statistics.median(grown):.1f}", f"{max(grown):.1f}"


def total_pss(memory):
    return sum(row[2] for row in memory)


def hold(folder):
    """A process with a copy: says a line when the libraries are there, and one when a text was embedded."""
    import numpy
    import onnxruntime
    import tokenizers

    def say():
        print(flush=True)
        sys.stdin.readline()

    say()
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    ids = numpy.array([tokenizer.encode("organic bananas").ids], numpy.int64)
    session.run(None, {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "token_type_ids": numpy.zeros_like(ids)})
    say()


if __name__ == "__main__":
    hold(Path(sys.argv[1]))
