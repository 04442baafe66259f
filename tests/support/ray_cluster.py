"""A Ray cluster of two nodes on this machine, a CPU each, and its actors."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# So much as a node needs at least; nothing here is large.
_OBJECT_STORE_BYTES = 80 * 2**20


@contextmanager
def two_nodes() -> Iterator[str]:
    """The address of a cluster, which ends with the block."""
    # The paths of its sockets have to be short.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    os.environ |= {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0"}
    from ray.cluster_utils import Cluster

    (Path(folder) / "ray").mkdir()
    node = {"num_cpus": 1, "object_store_memory": _OBJECT_STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        cluster.add_node(**node)
        yield str(cluster.address)
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def actors() -> list[int]:
    """Process ids of the cluster's actors that hold a model."""
    own = f"RAY_TMPDIR={os.environ['RAY_TMPDIR']}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended
            title = (process / "cmdline").read_bytes()
            if title.startswith(b"ray::MapWorker(") and own in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found
