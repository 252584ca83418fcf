"""The recommenders' peers: what each takes to train, and what its lists are worth. Python's libraries; no server.

A measurement is a dictionary of numbers. Those that take long are kept in .build/, by peer, data, versions and machine, so that
a later run is quick; `--fresh` measures them again. What was kept says when it was measured.
"""

import contextlib
import datetime
import importlib.metadata
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import scipy.sparse

import metrics
from common import ROOT, THREADS, Unavailable, cpu_seconds, peer, processor

KEPT = ROOT / ".build" / "bench-peers.json"
FACTORS, ITERATIONS = 64, 15
BLOCK = 512
TORCH = "PyTorch is not there; make bench-recommend TORCH=1 installs it (3 GB)"


# ------------------------------------------------------------------------------------------------------- measurements


@contextlib.contextmanager
def clock(result, pid=None):
    """Adds the seconds of what is done inside: `wall`, and `cpu` of all of the process's threads."""
    cpu, wall = cpu_seconds(pid or os.getpid()), time.perf_counter()
    yield
    result["wall"] = result.get("wall", 0) + time.perf_counter() - wall
    result["cpu"] = result.get("cpu", 0) + cpu_seconds(pid or os.getpid()) - cpu


def kept(context, name, packages, measure):
    """What `measure()` gave, from an earlier run where it is of the same packages on the same machine."""
    for package in packages:
        version(package)
    versions = " ".join(f"{package} {version(package)}" for package in packages)
    key = f"{name}; {versions}; {processor()}, {len(os.sched_getaffinity(0))} cores{'; quick' if context.quick else ''}"
    known = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    if context.fresh or key not in known:
        print(f"measuring the peer: {name}", file=sys.stderr)
        measured = measure() | {"date": datetime.date.today().isoformat(), "load": os.getloadavg()[0]}
        # Read again: the measurement took its time.
        known = json.loads(KEPT.read_text()) if KEPT.exists() else {}
        known[key] = measured
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.with_suffix(".new").write_text(json.dumps(known, indent=1, sort_keys=True))
        KEPT.with_suffix(".new").replace(KEPT)
    else:
        print(f"kept from {known[key]['date']}: {name} ({KEPT.relative_to(ROOT)}; --fresh measures it again)", file=sys.stderr)
    return known[key]


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise Unavailable(TORCH if package == "torch" else f"the peer {package} is missing; make bench-recommend installs it") from None


def blas_threads(count):
    """NumPy's own threads: one elsewhere, since implicit has its own."""
    return peer("threadpoolctl").threadpool_limits(limits=count, user_api="blas")


def matrix(data):
    users, items = data.train
    ones = numpy.ones(len(users), numpy.float32)
    rated = scipy.sparse.csr_matrix((ones, (users, items)), shape=(data.users, data.items))
    rated.sort_indices()
    return rated


# ------------------------------------------------------------------------------------------------------------ quality


def rated(scores, data, candidates, k):
    """Quality of a recommender given as `scores(users)` → [users, items]: by full ranking or among the candidates."""
    if candidates is not None:
        blocks = numpy.array_split(numpy.arange(candidates.users), candidates.users // BLOCK + 1)
        asked = candidates.candidates
        found = [numpy.take_along_axis(numpy.asarray(scores(block)), asked[block], 1) for block in blocks]
        return metrics.among_candidates(asked, numpy.concatenate(found), k)
    seen, lists = matrix(data), []
    for start in range(0, data.users, BLOCK):
        block = numpy.arange(start, min(start + BLOCK, data.users))
        lists.append(metrics.best_unseen(numpy.array(scores(block), numpy.float32), seen[block], k))
    return metrics.full_ranking(numpy.concatenate(lists), data, k)


def factors(users, items):
    return lambda block: users[block] @ items.T


# -------------------------------------------------------------------------------------------- matrix factorisations


def implicit_als(data, alpha, regularization):
    als = peer("implicit.als").AlternatingLeastSquares
    model = als(
        factors=FACTORS, iterations=ITERATIONS, alpha=alpha, regularization=regularization, num_threads=THREADS, random_state=0
    )
    result = {}
    seen = matrix(data)
    with clock(result):
        model.fit(seen, show_progress=False)
    return result, factors(model.user_factors, model.item_factors)


def irspack_ials(data, alpha, regularization, solver="CG"):
    recommender = peer("irspack").IALSRecommender
    result, seen = {}, matrix(data)
    # It shows its progress on both.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), clock(result):
        model = recommender(
            seen,
            n_components=FACTORS,
            train_epochs=ITERATIONS,
            alpha0=alpha,
            reg=regularization,
            solver_type=solver,
            n_threads=THREADS,
            random_seed=0,
        ).learn()
    return result, factors(model.get_user_embedding(), model.get_item_embedding())


def implicit_bpr(data, rate, regularization, iterations=100):
    bpr = peer("implicit.bpr").BayesianPersonalizedRanking
    model = bpr(
        factors=FACTORS,
        learning_rate=rate,
        regularization=regularization,
        iterations=iterations,
        num_threads=THREADS,
        random_state=0,
    )
    result = {}
    seen = matrix(data)
    with clock(result):
        model.fit(seen, show_progress=False)
    return result, factors(model.user_factors, model.item_factors)


# ----------------------------------------------------------------------------------------- neighbours and closed forms


def popularity(data):
    counts = numpy.bincount(data.train[1], minlength=data.items).astype(numpy.float32)
    return {}, lambda block: numpy.broadcast_to(counts, (len(block), len(counts)))


def implicit_neighbours(data, kind, neighbours):
    recommender = getattr(peer("implicit.nearest_neighbours"), kind)(K=neighbours, num_threads=THREADS)
    seen, result = matrix(data), {}
    with clock(result):
        recommender.fit(seen, show_progress=False)
    return result, lambda block: (seen[block] @ recommender.similarity).toarray()


def ease(data, regularization):
    """Steck, WWW 2019: B = I − P diag(1/P), P = (XᵀX + λI)⁻¹, in NumPy."""
    seen, result = matrix(data), {}
    with blas_threads(THREADS), clock(result):
        gram = (seen.T @ seen).toarray().astype(numpy.float64)
        diagonal = numpy.diag_indices_from(gram)
        gram[diagonal] += regularization
        weights = numpy.linalg.inv(gram)
        weights /= -numpy.diag(weights)
        weights[diagonal] = 0
    weights = weights.astype(numpy.float32)
    return result, lambda block: seen[block] @ weights


def gf_cf(data, components, alpha):
    """Shen et al., CIKM 2021: the linear filter R̃ᵀR̃ plus α times the ideal low pass of `components` singular vectors.

    With R̃ = D_U^(−1/2) R D_I^(−1/2): scores(u) = r_u (R̃ᵀR̃ + α D_I^(−1/2) V Vᵀ D_I^(1/2)). SciPy's svds finds V.
    """
    svds = peer("scipy.sparse.linalg").svds
    seen, result = matrix(data), {}
    with blas_threads(THREADS), clock(result):
        of_user, of_item = (numpy.maximum(numpy.asarray(seen.sum(axis)).ravel(), 1) for axis in (1, 0))
        normalized = (
            scipy.sparse.diags_array(of_user**-0.5) @ seen @ scipy.sparse.diags_array(of_item**-0.5)
        ).tocsr().astype(numpy.float32)
        gram = (normalized.T @ normalized).tocsr()
        vectors = svds(normalized, k=components, random_state=0)[2].astype(numpy.float32)
    inward, outward = (vectors * of_item**-0.5).T.astype(numpy.float32), (vectors * of_item**0.5).astype(numpy.float32)

    def scores(block):
        return (seen[block] @ gram).toarray() + alpha * ((seen[block] @ inward) @ outward)

    return result, scores


# ------------------------------------------------------------------------------------------------------------ LightGCN


def lightgcn_epoch(data, steps):
    """Seconds of an epoch of LightGCN in PyTorch, from `steps` steps; see lightgcn_torch.py."""
    version("torch")
    users, items = data.train
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "interactions.npz")
        numpy.savez(path, users=users, items=items, n_users=data.users, n_items=data.items)
        command = [sys.executable, "-W", "ignore", Path(__file__).with_name("lightgcn_torch.py"), path, str(THREADS), str(steps)]
        # OpenMP's threads are PyTorch's own.
        environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ran.returncode:
        raise Unavailable(f"LightGCN in PyTorch failed: {ran.stderr.strip().splitlines()[-1:]}")
    return json.loads(ran.stdout)


# ------------------------------------------------------------------------------------------------------------- serving


def batch_recommend(data, k):
    """implicit's lists for all users at once, their training items left out; users a second."""
    als = peer("implicit.als").AlternatingLeastSquares
    model = als(factors=FACTORS, iterations=2, num_threads=THREADS, random_state=0)
    seen, users = matrix(data), numpy.arange(data.users)
    model.fit(seen, show_progress=False)
    model.recommend(users[:BLOCK], seen[:BLOCK], N=k)
    result = {}
    with clock(result):
        model.recommend(users, seen, N=k, filter_already_liked_items=True)
    return result | {"users": data.users}


def top_k_kernel(items, width, k, calls):
    """One user's k best of `items` rows of `width` factors: implicit's kernel, and NumPy's product alone; milliseconds of wall."""
    topk = peer("implicit.cpu.topk").topk
    chance = numpy.random.default_rng(0)
    block = chance.standard_normal((min(items, 1_000_000), width), dtype=numpy.float32)
    held = numpy.tile(block, (items // len(block), 1)) if items > len(block) else block
    queries = chance.standard_normal((calls, width), dtype=numpy.float32)

    def each(call):
        walls, cpu = [], time.process_time()
        for query in queries:
            start = time.perf_counter()
            call(query)
            walls.append(time.perf_counter() - start)
        return {"wall": float(numpy.median(walls)), "cpu": (time.process_time() - cpu) / len(walls)}

    result = {"implicit": each(lambda query: topk(held, query, k))}
    batch = {}
    many = numpy.resize(queries, (20 if items > 1_000_000 else 100, width))
    with clock(batch):
        topk(held, many, k, num_threads=THREADS)
    result["implicit, many at once"] = {name: value / len(many) for name, value in batch.items()}
    for threads in (1, THREADS):
        with blas_threads(threads):
            result[f"numpy, {threads} thread{'s' * (threads > 1)}"] = each(lambda query: held @ query)
    return result
