"""LightGCN as LightGCN-PyTorch trains it, on the CPU: seconds of an epoch, as JSON on standard output. A process of its own.

Written anew from the paper (He et al., SIGIR 2020) and from how gusye1234/LightGCN-PyTorch trains: embeddings drawn from N(0, 0.1²),
the whole graph propagated in every step as one sparse COO matrix times the stacked embeddings, the layers' mean, a batch of
2,048 triples, softplus of the difference (BPR), L2 of the batch's own first-layer embeddings times 1e-4, Adam with 0.001.
An epoch draws as many triples as there are interactions: a user, one of its items, an item that is none of its. These draws
are NumPy's, all at once, in place of a loop, which is the faster way.
"""

import json
import sys
import time

import numpy
import scipy.sparse
import torch

FACTORS, LAYERS, BATCH, DECAY, RATE = 64, 3, 2048, 1e-4, 1e-3


def normalized_graph(users, items, n_users, n_items):
    """D^(−1/2) A D^(−1/2) of the graph of users and items, coalesced."""
    ones = numpy.ones(len(users), numpy.float32)
    rated = scipy.sparse.csr_matrix((ones, (users, items)), shape=(n_users, n_items))
    both = scipy.sparse.block_array([[None, rated], [rated.T, None]]).tocsr()
    degree = numpy.asarray(both.sum(1)).ravel()
    inverse = scipy.sparse.diags_array(numpy.where(degree > 0, degree, 1) ** -0.5)
    graph = (inverse @ both @ inverse).tocoo().astype(numpy.float32)
    places = torch.from_numpy(numpy.stack([graph.row, graph.col]).astype(numpy.int64))
    return torch.sparse_coo_tensor(places, torch.from_numpy(graph.data), graph.shape).coalesce(), rated


class LightGCN:
    def __init__(self, graph, n_users, n_items):
        self.graph, self.sizes = graph, [n_users, n_items]
        self.users = torch.nn.Parameter(torch.randn(n_users, FACTORS) * 0.1)
        self.items = torch.nn.Parameter(torch.randn(n_items, FACTORS) * 0.1)
        self.optimizer = torch.optim.Adam([self.users, self.items], lr=RATE)

    def propagate(self):
        layer = torch.cat([self.users, self.items])
        layers = [layer]
        for _ in range(LAYERS):
            layer = torch.sparse.mm(self.graph, layer)
            layers.append(layer)
        return torch.split(torch.stack(layers, dim=1).mean(dim=1), self.sizes)

    def step(self, users, liked, other):
        all_users, all_items = self.propagate()
        theirs = all_users[users]
        difference = (theirs * all_items[other]).sum(1) - (theirs * all_items[liked]).sum(1)
        first = self.users[users].square().sum() + self.items[liked].square().sum() + self.items[other].square().sum()
        loss = torch.nn.functional.softplus(difference).mean() + DECAY * first / 2 / len(users)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def triples(rated, count, chance):
    """`count` times a user, one of its items, an item that is none of its."""
    users = chance.integers(0, rated.shape[0], count)
    held = numpy.diff(rated.indptr)[users]
    users, held = users[held > 0], held[held > 0]
    liked = rated.indices[rated.indptr[users] + chance.integers(0, held)]
    known = numpy.repeat(numpy.arange(rated.shape[0]), numpy.diff(rated.indptr)) * rated.shape[1] + rated.indices
    other = chance.integers(0, rated.shape[1], len(users))
    while len(clash := numpy.flatnonzero(numpy.isin(users * rated.shape[1] + other, known))):
        other[clash] = chance.integers(0, rated.shape[1], len(clash))
    order = chance.permutation(len(users))
    return [torch.from_numpy(part[order].astype(numpy.int64)) for part in (users, liked, other)]


def main(path, threads, steps):
    torch.set_num_threads(threads)
    torch.manual_seed(2020)
    chance = numpy.random.default_rng(2020)
    stored = numpy.load(path)
    graph, rated = normalized_graph(stored["users"], stored["items"], int(stored["n_users"]), int(stored["n_items"]))
    model = LightGCN(graph, *rated.shape)

    drawing = time.perf_counter(), time.process_time()
    drawn = triples(rated, rated.nnz, chance)
    drawing = time.perf_counter() - drawing[0], time.process_time() - drawing[1]
    batches = list(zip(*(part.split(BATCH) for part in drawn)))
    # The first steps set Adam's and the allocator's memory up.
    for batch in batches[:2]:
        model.step(*batch)
    walls, cpus = [], []
    for batch in batches[2 : 2 + steps]:
        wall, cpu = time.perf_counter(), time.process_time()
        loss = model.step(*batch)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    result = {
        "wall": drawing[0] + float(numpy.mean(walls)) * len(batches),
        "cpu": drawing[1] + float(numpy.mean(cpus)) * len(batches),
        "steps": len(walls),
        "steps_of_epoch": len(batches),
        "wall_of_step": float(numpy.median(walls)),
        "loss": loss,
        "torch": torch.__version__,
    }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
