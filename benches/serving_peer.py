"""The peer of `embed`: a Python server that batches what waits, as a service beside the database would.

    serving_peer.py FOLDER CONFIG SESSIONS THREADS

SESSIONS threads share a queue; each has a session of THREADS threads. Once it answers, it says its port and its packages on a line of JSON.
"""

import asyncio
import importlib.metadata
import json
import queue
import socket
import sys
import threading
from pathlib import Path

import fastapi
import numpy
import onnxruntime
import orjson
import pydantic
import tokenizers
import uvicorn

MAX_BATCH = 32
PACKAGES = ["fastapi", "uvicorn", "uvloop", "httptools", "onnxruntime", "tokenizers"]


class Model:
    def __init__(self, folder, config, threads):
        self.output = config["output"]
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(config["max_length"])
        self.tokenizer.enable_padding(pad_id=config["pad_id"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])

    def vectors(self, texts):
        encoded = self.tokenizer.encode_batch(texts)
        ids = numpy.array([text.ids for text in encoded], numpy.int64)
        mask = numpy.array([text.attention_mask for text in encoded], numpy.int64)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
        return self.session.run([self.output], feed)[0]


class Batcher:
    """Takes texts on the event loop and answers them there; models run in threads of their own."""

    def __init__(self, models):
        self.waiting = queue.SimpleQueue()
        for model in models:
            model.vectors(["a text to begin with"] * MAX_BATCH)
            threading.Thread(target=self.work, args=[model], daemon=True).start()

    async def vector(self, text):
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        self.waiting.put((text, answer, loop))
        return await answer

    def take(self):
        """What waits, but no more than a batch; waits for the first."""
        batch = [self.waiting.get()]
        while len(batch) < MAX_BATCH:
            try:
                batch.append(self.waiting.get_nowait())
            except queue.Empty:
                break
        return batch

    def work(self, model):
        while True:
            texts, answers, loops = zip(*self.take())
            try:
                vectors, failure = model.vectors(texts), None
            except Exception as error:
                vectors, failure = answers, error
            loops[0].call_soon_threadsafe(deliver, answers, vectors, failure)


def deliver(answers, vectors, failure):
    for answer, vector in zip(answers, vectors):
        # A client may have gone.
        if answer.done():
            continue
        if failure:
            answer.set_exception(failure)
        else:
            answer.set_result(vector)


class Text(pydantic.BaseModel):
    text: str


def application(batcher):
    app = fastapi.FastAPI()

    @app.post("/embed")
    async def embed(text: Text):
        vector = await batcher.vector(text.text)
        body = orjson.dumps({"embedding": vector}, option=orjson.OPT_SERIALIZE_NUMPY)
        return fastapi.Response(body, media_type="application/json")

    return app


class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        versions = [f"{package} {importlib.metadata.version(package)}" for package in PACKAGES]
        print(json.dumps({"port": sockets[0].getsockname()[1], "versions": versions}), flush=True)


def main():
    folder, config, sessions, threads = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    batcher = Batcher([Model(folder, config, threads) for _ in range(sessions)])
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        config = uvicorn.Config(application(batcher), loop="uvloop", http="httptools", ws="none", log_level="warning", access_log=False)
        Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
