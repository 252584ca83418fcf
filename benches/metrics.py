"""What lists are worth against held-out rows: computed here in NumPy, apart from the extension's own evaluation."""

import numpy


def full_ranking(lists, data, k):
    """NDCG and recall at k over the users with a held-out item; `lists` is [users, k] items, −1 where nothing is."""
    users, items = data.test
    held_out = numpy.bincount(users, minlength=data.users)
    pairs = numpy.arange(data.users)[:, None] * data.items + lists
    hits = numpy.isin(pairs, users * data.items + items) & (lists >= 0)
    discounts = 1 / numpy.log2(numpy.arange(2, k + 2))
    ideal = numpy.concatenate([[1], numpy.cumsum(discounts)])[numpy.minimum(held_out, k)]
    tested = held_out > 0
    ndcg = (hits * discounts).sum(1) / ideal
    recall = hits.sum(1) / numpy.maximum(held_out, 1)
    return {"ndcg": float(ndcg[tested].mean()), "recall": float(recall[tested].mean())}


def among_candidates(candidates, scores, k):
    """Hit rate and NDCG at k of the first candidate of each row, among all of the row's; [rows, candidates] both.

    A tie counts against it, and so does a score that is no number: whoever scores all alike shall gain nothing. It does not compete
    with itself where it is among the others too.
    """
    held_out = numpy.where(numpy.isnan(scores[:, :1]), -numpy.inf, scores[:, :1])
    rank = ((scores[:, 1:] >= held_out) & (candidates[:, 1:] != candidates[:, :1])).sum(1)
    hit = rank < k
    return {"hit_rate": float(hit.mean()), "ndcg": float(numpy.where(hit, 1 / numpy.log2(rank + 2), 0).mean())}


def best_unseen(scores, seen, k):
    """The k best columns of each row of `scores`, best first, without the row's columns in the sparse matrix `seen`.

    Overwrites `scores`.
    """
    rows = numpy.repeat(numpy.arange(len(scores)), numpy.diff(seen.indptr))
    scores[rows, seen.indices] = -numpy.inf
    return best(scores, k)


def best(scores, k):
    """The k best columns of each row, best first; −1 where a row has fewer than k of finite score."""
    k = min(k, scores.shape[1])
    found = numpy.argpartition(-scores, k - 1, axis=1)[:, :k]
    values = numpy.take_along_axis(scores, found, 1)
    order = numpy.argsort(-values, axis=1, kind="stable")
    lists = numpy.take_along_axis(found, order, 1)
    return numpy.where(numpy.isfinite(numpy.take_along_axis(scores, lists, 1)), lists, -1)
