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
            together = ["float64_lars", "float32_lars"]
            if replicas == 0:
                together.append(results.PERMUTED)
            runs = together if run in together else [run]
            path = folder / f"{replicas}_{runs[0]}.npz"
            results.finish(results.start(replicas, path, runs))
            for each, arrays in results.load(path, runs).items():
                done[replicas, each] = arrays
        return done[replicas, run]

    return train
