"""Importance in Python, with NumPy and scikit-learn: what the extension's scores are measured beside. Higher is more valuable."""

import numpy


def softmax(scores):
    powers = numpy.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


class Network:
    """One hidden layer of 64, minibatches of 128, momentum: the network of the scores of training dynamics."""

    def __init__(self, width, classes, chance, rate=0.05, decay=5e-4):
        self.weights = [
            chance.normal(0, numpy.sqrt(2 / width), (width, 64)),
            numpy.zeros(64),
            chance.normal(0, numpy.sqrt(2 / 64), (64, classes)),
            numpy.zeros(classes),
        ]
        self.momenta = [0, 0, 0, 0]
        self.rate, self.decay = rate, decay

    def errors(self, x, y):
        """Hidden layer, probabilities, and the loss's derivatives by the inputs of both layers."""
        hidden = numpy.maximum(x @ self.weights[0] + self.weights[1], 0)
        p = softmax(hidden @ self.weights[2] + self.weights[3])
        last = p - y
        return hidden, p, last, (last @ self.weights[2].T) * (hidden > 0)

    def epoch(self, x, y, chance):
        order = chance.permutation(len(x))
        for start in range(0, len(x), 128):
            rows = order[start : start + 128]
            hidden, _, last, first = self.errors(x[rows], y[rows])
            gradients = [x[rows].T @ first, first.sum(0), hidden.T @ last, last.sum(0)]
            for place, gradient in enumerate(gradients):
                step = gradient / len(rows) + (self.decay * self.weights[place] if place % 2 == 0 else 0)
                self.momenta[place] = 0.9 * self.momenta[place] + step
                self.weights[place] -= self.rate * self.momenta[place]


def dynamics(x, labels, seed, runs=5, epochs=20):
    """aum, el2n, grad_norm, tracin of one pass: the mean over some networks."""
    classes = int(labels.max()) + 1
    y, squares, rows = numpy.eye(classes)[labels], (x**2).sum(1), numpy.arange(len(x))
    scores = {name: numpy.zeros(len(x)) for name in ("aum", "el2n", "grad_norm", "tracin")}
    for run in range(runs):
        chance = numpy.random.default_rng(seed * 100 + run)
        network = Network(x.shape[1], classes, chance)
        for epoch in range(1, epochs + 1):
            network.epoch(x, y, chance)
            hidden, p, last, first = network.errors(x, y)
            gradient = (last**2).sum(1) * ((hidden**2).sum(1) + 1) + (first**2).sum(1) * (squares + 1)
            if epoch == 5:
                scores["el2n"] -= numpy.sqrt((last**2).sum(1)) / runs
            if epoch == 20:
                scores["grad_norm"] -= numpy.sqrt(gradient) / runs
            scores["tracin"] -= network.rate * gradient / runs
            own, other = p[rows, labels], p.copy()
            other[rows, labels] = -1
            scores["aum"] += (numpy.log(own + 1e-12) - numpy.log(other.max(1) + 1e-12)) / runs / epochs
    return scores


def knn_shapley(x, labels, clean, clean_labels, k=5, block=128):
    """Jia 2019, theorem 1, for some validation rows at a time."""
    n = len(x)
    values, squares, places = numpy.zeros(n), (x**2).sum(1), numpy.arange(1, n)
    share = numpy.minimum(k, places) / (k * places)
    for start in range(0, len(clean), block):
        rows = clean[start : start + block]
        order = numpy.argsort(squares[None] - 2 * rows @ x.T, 1, kind="stable")
        match = (labels[order] == clean_labels[start : start + block, None]).astype(float)
        last = match[:, -1:] * min(k, n) / (k * n)
        steps = (match[:, :-1] - match[:, 1:]) * share
        of_rows = numpy.concatenate([numpy.cumsum(steps[:, ::-1], 1)[:, ::-1] + last, last], 1)
        numpy.add.at(values, order.ravel(), of_rows.ravel())
    return values / len(clean)


def influence(x, labels, clean, clean_labels, regularization=1e-2):
    """Koh, Liang 2017, exact, of the logistic model."""
    from sklearn.linear_model import LogisticRegression

    classes = int(labels.max()) + 1
    model = LogisticRegression(C=1 / (regularization * len(x)), max_iter=500).fit(x, labels)
    p, q = model.predict_proba(x), model.predict_proba(clean)
    wide, clean_wide = numpy.c_[x, numpy.ones(len(x))], numpy.c_[clean, numpy.ones(len(clean))]
    width = wide.shape[1]
    if classes == 2:
        weight = p[:, 1] * p[:, 0]
        hessian = (wide * weight[:, None]).T @ wide / len(x) + regularization * numpy.eye(width)
        gradient = (clean_wide * (q[:, 1] - clean_labels)[:, None]).mean(0)
        return (wide @ numpy.linalg.solve(hessian, gradient)) * (p[:, 1] - labels)
    hessian = numpy.zeros((classes * width, classes * width))
    for a in range(classes):
        for b in range(classes):
            weight = p[:, a] * ((a == b) - p[:, b])
            hessian[a * width : (a + 1) * width, b * width : (b + 1) * width] = (wide * weight[:, None]).T @ wide / len(x)
    gradient = (clean_wide.T @ (q - numpy.eye(classes)[clean_labels]) / len(clean)).T.ravel()
    solved = numpy.linalg.solve(hessian + regularization * numpy.eye(len(hessian)), gradient).reshape(classes, width)
    return ((wide @ solved.T) * (p - numpy.eye(classes)[labels])).sum(1)


def out_of_fold(x, labels, seed, **options):
    """The probability of each row's label by boosted trees that did not see the row."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    model = HistGradientBoostingClassifier(random_state=seed, **options)
    return cross_val_predict(model, x, labels, cv=folds, method="predict_proba")[numpy.arange(len(x)), labels]


def data_oob(x, labels, seed, trees=200):
    """How many of the trees that did not see a row predict its label."""
    from sklearn.ensemble import BaggingClassifier
    from sklearn.tree import DecisionTreeClassifier

    bag = BaggingClassifier(DecisionTreeClassifier(), n_estimators=trees, n_jobs=1, random_state=seed).fit(x, labels)
    right, asked = numpy.zeros(len(x)), numpy.zeros(len(x))
    for tree, drawn in zip(bag.estimators_, bag.estimators_samples_):
        left = numpy.ones(len(x), bool)
        left[drawn] = False
        right[left] += tree.predict(x[left]).astype(int) == labels[left]
        asked[left] += 1
    return right / numpy.maximum(asked, 1)


def scores(data, labels, seed):
    """{method: scores} of the training rows with these labels."""
    x = data.encoded()
    train, clean, clean_labels = x[data.train], x[data.clean], data.labels[data.clean]
    found = dynamics(train, labels, seed)
    found["self_confidence"] = out_of_fold(train, labels, seed, max_iter=100)
    found["regularised out-of-fold boosting"] = out_of_fold(
        train, labels, seed, max_iter=60, learning_rate=0.05, max_leaf_nodes=15, l2_regularization=1
    )
    found["influence"] = influence(train, labels, clean, clean_labels)
    found["knn_shapley"] = knn_shapley(train, labels, clean, clean_labels)
    found["data_oob"] = data_oob(train, labels, seed)
    return found
