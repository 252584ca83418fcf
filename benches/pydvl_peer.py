"""pyDVL's KNN-Shapley of the rows in an .npz file, in an environment of its own: prints {"wall", "cpu"} as JSON.

    pydvl_peer.py ROWS.npz K
"""

import json
import sys
import time
import warnings

import numpy
from joblib import parallel_config
from pydvl.valuation import KNNShapleyValuation
from pydvl.valuation.dataset import Dataset
from sklearn.neighbors import KNeighborsClassifier

warnings.simplefilter("ignore")
rows, k = numpy.load(sys.argv[1]), int(sys.argv[2])
train, clean = Dataset(rows["x"], rows["y"]), Dataset(rows["clean"], rows["clean_labels"])
wall, cpu = time.perf_counter(), time.process_time()
with parallel_config(n_jobs=1):
    KNNShapleyValuation(KNeighborsClassifier(k), clean, progress=False).fit(train)
print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}))
