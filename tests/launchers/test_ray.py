"""Cells on the machines of a Ray cluster: here two nodes, which are processes of this machine."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from benchmarks.killed.histories import file_digests
from mores.experiments.launchers import open_executor
from tests.launchers.small_runs import SCENARIO, check_stop, load_marking, run
from tests.refusals import refused
from tests.run.small_run import log_lines

ray: Any = pytest.importorskip("ray")
pytestmark = pytest.mark.full
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
SWEPT = SCENARIO.replace("control:", "sweep: {env.num_people: [8, 10, 12]}\ncontrol:").replace(
    "persuade: {policies.assistant: {kind: persuader, goal: [5, 5], goal_weight: 1.0}}",
    "also: {policies.assistant: {kind: mirror}, env.noise_std: 0.2}",
)
# The first cell that starts on the node that `doomed` names kills the node, then itself.
KILLING_ITS_NODE = """\
node = os.environ.get("RAY_RAYLET_PID")
if node is None:
    return
(folder / f"{node}-{cell}").touch()
if node == (folder / "doomed").read_text():
    (folder / "last").write_text(cell)
    os.kill(int(node), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def cluster(python_path):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


def _options(cluster, **options):
    return {"address": cluster.address, **options}


@pytest.mark.parametrize("shared_folder", [False, True])
def test_a_node_is_killed(cluster, tmp_path, shared_folder):
    """Its cell is simulated again on another node; files are those of one process."""
    marks = tmp_path / "marks"
    marks.mkdir()
    kind = "kills_its_node_shared" if shared_folder else "kills_its_node"
    load_marking(tmp_path, kind, KILLING_ITS_NODE)
    text = SWEPT.replace("{kind: mirror}", f"{{kind: {kind}, folder: {marks}}}")
    expected = file_digests(run(tmp_path / "one", text).folder)
    node = cluster.add_node(**NODE)
    raylet = node.all_processes["raylet"][0].process
    doomed = raylet.pid
    (marks / "doomed").write_text(str(doomed))
    options = _options(cluster, shared_folder=shared_folder)
    with open_executor("ray", 2, options) as executor:
        run(tmp_path / "two", text, jobs=executor)
    assert file_digests(tmp_path / "two") == expected
    assert len(json.loads((tmp_path / "two" / "status.json").read_text())["done"]) == 9
    nodes = [path.name.partition("-")[0] for path in marks.glob("*-*")]
    assert nodes.count(str(doomed)) == 1
    assert len(set(nodes)) == 2
    lost = (marks / "last").read_text()
    assert f"{doomed}-{lost}" in {path.name for path in marks.iterdir()}
    retries = [line for line in log_lines(tmp_path / "two", lost) if "again" in line]
    assert len(retries) == 1, retries
    assert "its worker was lost" in retries[0]
    assert raylet.wait() == -signal.SIGKILL


def test_a_stop_signal_ends_remote_cells(cluster, tmp_path):
    check_stop(tmp_path, ["--launcher", "ray", "--launcher-option", f"address={cluster.address}"])


def test_more_than_any_machine_has(cluster, tmp_path):
    with (
        refused("out_of_range", "launcher"),
        open_executor("ray", options=_options(cluster, num_gpus=1)) as executor,
    ):
        run(tmp_path / "run", jobs=executor)
