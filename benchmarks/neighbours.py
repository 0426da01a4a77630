"""What exact nearest neighbours cost, here and by other libraries.

    pip install faiss-cpu
    python benchmarks/neighbours.py --json=neighbours.json

Random features; the k largest cosines of each query, by
`evaluation.nearest_neighbours`, by an exact index of faiss, and by
scikit-learn. Each has processes of its own, in turn. Memory is the peak of the
resident set above what it was once the features were there.
"""

import json
import os
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import report
from absl import app, flags

from simclr_keras import evaluation

FLAGS = flags.FLAGS
flags.DEFINE_integer("num_bank", 200_000, "Rows that are searched, N.")
flags.DEFINE_integer("num_queries", 10_000, "Queries, M.")
flags.DEFINE_integer("dim", 512, "Features, F.")
flags.DEFINE_integer("k", 200, "Neighbours of each.")
flags.DEFINE_integer("runs", 3, "Of each library, in turn; the median counts.")
flags.DEFINE_list("libraries", ["here", "faiss", "scikit-learn"], "Which.")
flags.DEFINE_string("json", None, "Where to write the results, if anywhere.")
flags.DEFINE_string("child", None, "Measure this library, in this process.")


def by_this_library(bank, queries, k):
    return evaluation.nearest_neighbours(bank, queries, k).index


def by_faiss(bank, queries, k):
    import faiss

    index = faiss.IndexFlatIP(bank.shape[1])
    for rows in np.array_split(bank, 1 + len(bank) // 8192):
        rows = rows.copy()
        faiss.normalize_L2(rows)
        index.add(rows)
    queries = queries.copy()
    faiss.normalize_L2(queries)
    return index.search(queries, k)[1]


def by_scikit_learn(bank, queries, k):
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(metric="cosine", algorithm="brute").fit(bank)
    return search.kneighbors(queries, k, return_distance=False)


# Each gives the indices (M, k) of the neighbours.
LIBRARIES = {
    "here": by_this_library,
    "faiss": by_faiss,
    "scikit-learn": by_scikit_learn,
}


def measure(library):
    """Seconds, memory, and by how much any neighbour is too far away."""
    search = LIBRARIES[library]
    rng = np.random.default_rng(0)
    bank, queries = (
        rng.standard_normal((count, FLAGS.dim), "float32")
        for count in (FLAGS.num_bank, FLAGS.num_queries)
    )
    features = bank.nbytes + queries.nbytes
    search(bank[:1000], queries[:10], 5)  # Import, and start, what is needed.
    before = report.peak_bytes()
    start = time.perf_counter()
    index = search(bank, queries, FLAGS.k)
    seconds = time.perf_counter() - start
    memory = report.peak_bytes() - before
    few, bank = queries[:20].astype("float64"), bank.astype("float64")
    lengths = [np.linalg.norm(rows, axis=1) for rows in (few, bank)]
    cosine = few @ bank.T / np.outer(*lengths)
    largest = np.sort(cosine, axis=1)[:, : -FLAGS.k - 1 : -1]
    found = np.take_along_axis(cosine, index[:20], axis=1)
    return {
        "seconds": seconds,
        "mebibytes": memory / 2**20,
        "features_mebibytes": features / 2**20,
        "error_in_cosine": float(np.abs(found - largest).max()),
        "load": os.getloadavg()[0],
    }


def main(_):
    if FLAGS.child:
        print(json.dumps(measure(FLAGS.child)))
        return
    found = {library: [] for library in FLAGS.libraries}
    for _ in range(FLAGS.runs):
        for library in FLAGS.libraries:
            found[library].append(
                report.of_child(*sys.argv, f"--child={library}")
            )
            print(library, found[library][-1], flush=True)
    report.write_json(
        FLAGS.json,
        benchmark="neighbours",
        num_bank=FLAGS.num_bank,
        num_queries=FLAGS.num_queries,
        dim=FLAGS.dim,
        k=FLAGS.k,
        runs=FLAGS.runs,
        libraries=report.versions("faiss-cpu", "scikit-learn"),
        results={
            library: {
                key: statistics.median(run[key] for run in runs)
                for key in runs[0]
            }
            for library, runs in found.items()
        },
    )


if __name__ == "__main__":
    app.run(main)
