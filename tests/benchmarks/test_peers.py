"""The comparison with other libraries, without the others: it must not rot."""

import json
import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks" / "peers"


def test_every_library_has_a_worker_and_what_it_installs():
    program = (
        "import libraries\n"
        "libraries.FLAGS(['peers'])\n"
        "for peer in libraries.PEERS:\n"
        "    assert libraries.requirements(peer), peer\n"
        "    assert (libraries.HERE / libraries.SCRIPTS[peer]).exists(), peer\n"
        "    assert libraries.PACKAGES[peer], peer\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=FOLDER)


@pytest.mark.slow
def test_this_library_alone(tmp_path):
    report = tmp_path / "peers.json"
    subprocess.run(
        [
            sys.executable,
            FOLDER / "run.py",
            "--peers=",
            "--batch_size=8",
            "--loss_sizes=8",
            "--batches=1",
            "--runs=2",
            "--width=0.0625",
            f"--json={report}",
        ],
        check=True,
    )
    measured = json.loads(report.read_text())["measured"]
    assert [m["what"] for m in measured] == [
        "augmentation",
        "loss",
        "step",
        "end_to_end",
    ]
    for measurement in measured:
        result = measurement["results"]["ours"]
        assert "error" not in result, result
        assert len(result["seconds"]) == 2
        assert result["ratio"] == 1
        if measurement["what"] == "loss":
            assert result["mebibytes"] >= 0
