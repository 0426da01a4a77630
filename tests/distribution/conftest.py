import pytest

from tests.distribution import results


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Function (replicas, run) -> arrays; what is asked for runs once."""
    folder = tmp_path_factory.mktemp("trained")
    done = {}

    def train(replicas, run):
        if (replicas, run) not in done:
            # Those that are wanted together share a process.
            optimizer = run.partition(":")[0].rpartition("_")[2]
            together = [f"float64_{optimizer}", f"float32_{optimizer}:smooth"]
            runs = together if run in together else [run]
            path = folder / f"{replicas}_{runs[0].replace(':', '_')}.npz"
            results.finish(results.start(replicas, path, runs))
            for each, arrays in results.load(path, runs).items():
                done[replicas, each] = arrays
        return done[replicas, run]

    return train
