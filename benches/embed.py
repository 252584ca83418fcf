"""`reco.embed_query` against Python's ONNX Runtime and tokenizers: the same model, threads and batch size."""

import json
import multiprocessing
import os

import numpy

from common import ROOT, THREADS, Side, Unavailable, alternate, machine, model_workers, peer, ratio, seconds, table
from data import load, product_texts

TITLE = "Embedding 20,000 product texts"
MODEL = "all-minilm-l6-v2"
BATCH = 32
CLOSEST = 0.99999
OWN = "pg_reco"
STATEMENT = f"CREATE TEMP TABLE vectors AS SELECT id, embedding FROM reco.embed_query('TABLE {{table}}', '{MODEL}')"


class PythonModel:
    """The model as a Python service would run it."""

    def __init__(self, threads=THREADS):
        onnxruntime, tokenizers = peer("onnxruntime"), peer("tokenizers")
        folder = ROOT / ".build" / "models" / MODEL
        if not (folder / "model.onnx").exists():
            raise Unavailable(f"{folder}/model.onnx is missing; make models builds it")
        self.config = json.loads((ROOT / "models" / f"{MODEL}.json").read_text())["config"]
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(self.config["max_length"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        model = str(folder / "model.onnx")
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(self, ids, mask):
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
        return self.session.run([self.config["output"]], feed)[0]

    def in_order(self, texts):
        """Batch after batch as the texts come, each padded to its longest text."""
        self.tokenizer.enable_padding(pad_id=self.config["pad_id"])
        vectors = numpy.empty((len(texts), self.config["dimension"]), numpy.float32)
        for start in range(0, len(texts), BATCH):
            encoded = self.tokenizer.encode_batch(texts[start : start + BATCH])
            ids = numpy.array([text.ids for text in encoded], numpy.int64)
            mask = numpy.array([text.attention_mask for text in encoded], numpy.int64)
            vectors[start : start + BATCH] = self.run(ids, mask)
        return vectors

    def sorted_by_length(self, texts):
        """All texts tokenised first, then batches of texts of like length."""
        self.tokenizer.no_padding()
        tokens = [text.ids for text in self.tokenizer.encode_batch(texts)]
        order = sorted(range(len(texts)), key=lambda text: len(tokens[text]))
        vectors = numpy.empty((len(texts), self.config["dimension"]), numpy.float32)
        for start in range(0, len(texts), BATCH):
            batch = order[start : start + BATCH]
            longest = len(tokens[batch[-1]])
            ids = numpy.full((len(batch), longest), self.config["pad_id"], numpy.int64)
            mask = numpy.zeros_like(ids)
            for row, text in enumerate(batch):
                ids[row, : len(tokens[text])] = tokens[text]
                mask[row, : len(tokens[text])] = 1
            vectors[batch] = self.run(ids, mask)
        return vectors

    def distinct_sorted(self, texts):
        """Each distinct text once, those sorted by length."""
        numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        return self.sorted_by_length(list(numbers))[[numbers[text] for text in texts]]


class PythonProcesses:
    """The model in processes of one thread each. Each gets its part of the texts and sends the vectors back."""

    def __init__(self, number):
        spawning = multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        for _ in range(number):
            pipe, end = spawning.Pipe()
            process = spawning.Process(target=serve_parts, args=[end], daemon=True)
            process.start()
            end.close()
            self.pipes.append(pipe)
            self.processes.append(process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
            process.join()

    @property
    def pids(self):
        return [process.pid for process in self.processes]

    def sorted_by_length(self, texts):
        number = len(self.pipes)
        for place, pipe in enumerate(self.pipes):
            pipe.send(texts[place::number])
        vectors = None
        for place, pipe in enumerate(self.pipes):
            part = pipe.recv()
            if vectors is None:
                vectors = numpy.empty((len(texts), part.shape[1]), numpy.float32)
            vectors[place::number] = part
        return vectors


def serve_parts(pipe):
    """What a process of PythonProcesses does until it is ended."""
    # Before tokenizers is loaded.
    os.environ["RAYON_NUM_THREADS"] = "1"
    python = PythonModel(threads=1)
    while True:
        pipe.send(python.sorted_by_length(pipe.recv()))


def measure(context):
    python = PythonModel()
    count = context.size(20_000, 600)
    sections = []
    with context.connect() as connection:
        for kind, rows in (("distinct", distinct_texts()[:count]), ("as they come", product_texts()[:count])):
            sections.append(compare(context, connection, python, kind, rows))
    return "\n\n".join(
        [
            f"all-MiniLM-L6-v2 (384 dimensions), {THREADS} threads, at most {BATCH} texts a run, models loaded and warm. The texts are "
            f"the products' type, category, brand, size and department. `pg_reco` is `{STATEMENT.format(table='…')}`: reading the "
            "rows and writing the vectors into a table are in its time. Python has the texts in a list and leaves the vectors in a "
            "NumPy array. CPU seconds are of all threads, those of the model worker included; Python's ONNX Runtime keeps its default of spinning while idle.",
            *sections,
            machine(context, "onnxruntime", "tokenizers", "numpy"),
        ]
    )


def distinct_texts():
    """(id, text) of the first product of each text."""
    seen = set()
    return [(i, text) for i, text in product_texts() if not (text in seen or seen.add(text))]


def compare(context, connection, python, kind, rows):
    texts = [text for _, text in rows]
    sides = {
        "Python, in order of arrival": Side(lambda: python.in_order(texts)),
        "Python, sorted by length": Side(lambda: python.sorted_by_length(texts)),
    }
    different = len(set(texts))
    if different < len(texts):
        sides["Python, distinct texts only, sorted by length"] = Side(lambda: python.distinct_sorted(texts))
    python.in_order(texts[:100])
    timings, least = take_turns(context, connection, rows, sides)
    return (
        f"{len(texts):,} texts, {kind}: {different:,} of them distinct. Median of {context.rounds} rounds, in turn; least cosine "
        f"between the sides {least:.7f}.\n\n{timing_table(timings, len(texts))}"
    )


def take_turns(context, connection, rows, peers):
    """`pg_reco` and its peers in turn: {name: Timing}, and the least cosine between its vectors and those of each peer."""
    ids, texts = map(list, zip(*rows))
    load(connection, "product_text", {"id": ids, "text": texts})
    connection.execute(f"SELECT reco.warm('{MODEL}')")
    connection.execute(f"SELECT count(*) FROM reco.embed_query('SELECT * FROM product_text LIMIT 100', '{MODEL}')")

    def embed_query():
        connection.execute("DROP TABLE IF EXISTS vectors")
        connection.execute(STATEMENT.format(table="product_text"))

    own = Side(embed_query, connection.info.backend_pid, model_workers(connection))
    timings = alternate({OWN: own, **peers}, context.rounds)
    least = min(least_cosine(connection, ids, timings[name].results[-1]) for name in peers)
    if least < CLOSEST:
        raise Unavailable(f"the vectors differ: the least cosine is {least}, and it should be {CLOSEST} at least")
    return timings, least


def timing_table(timings, count):
    own = timings[OWN]
    rows = [
        [
            name,
            seconds(timing.wall_median),
            f"{count / timing.wall_median:,.0f}",
            seconds(timing.cpu_median),
            "" if timing is own else ratio(timing.wall_median, own.wall_median),
            "" if timing is own else ratio(timing.cpu_median, own.cpu_median),
        ]
        for name, timing in timings.items()
    ]
    return table(["", "seconds", "texts/s", "CPU seconds", "pg_reco faster by", "by CPU"], rows)


def least_cosine(connection, ids, expected):
    """Over a sample of a thousand texts."""
    number = {id: row for row, id in enumerate(ids)}
    sample = numpy.random.default_rng(1).choice(ids, min(1000, len(ids)), replace=False).tolist()
    with connection.cursor(binary=True) as cursor:
        cursor.execute("SELECT id::bigint, embedding FROM vectors WHERE id::bigint = ANY(%s)", [sample])
        found = cursor.fetchall()
    if sorted(id for id, _ in found) != sorted(sample):
        raise Unavailable(f"{len(found)} of {len(sample)} sampled texts have a vector")
    ours = numpy.array([vector for _, vector in found])
    theirs = expected[[number[id] for id, _ in found]].astype(numpy.float64)
    norms = numpy.linalg.norm(ours, axis=1) * numpy.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(1) / norms).min())
