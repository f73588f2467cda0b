"""Run inside a test host, and nowhere else, since Ray's own AutoscalingCluster ends every Ray that it sees.

`python autoscaling.py COMMAND …`: a head without processors and an autoscaler that may add two nodes with one each;
COMMAND runs on it. The nodes are processes of this host; the autoscaler, and all that it knows of what waits, is Ray's.
"""

import subprocess
import sys

from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID
from ray.cluster_utils import AutoscalingCluster


class Growing(AutoscalingCluster):
    """With the configuration that Ray's own method would read from a file which its wheel lacks."""

    def _generate_config(self, head_resources, worker_node_types, autoscaler_v2=False, **config_kwargs):
        head = {"resources": head_resources, "node_config": {}, "max_workers": 0}
        config = {
            "cluster_name": "growing",
            "max_workers": 2,
            "provider": {"type": "fake_multinode", "head_node_id": FAKE_HEAD_NODE_ID},
            "available_node_types": worker_node_types | {"ray.head.default": head},
            "head_node_type": "ray.head.default",
            "upscaling_speed": 1.0,
            "idle_timeout_minutes": 1,
            "auth": {},
        }
        commands = ("setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray", "initialization")
        config |= {f"{name}_commands": [] for name in commands}
        config |= {"file_mounts": {}, "cluster_synced_files": [], "file_mounts_sync_continuously": False}
        return config | config_kwargs


def main():
    """Start the cluster, run the command, end the cluster."""
    one = {"resources": {"CPU": 1, "object_store_memory": 10**8}, "node_config": {}, "min_workers": 0, "max_workers": 2}
    cluster = Growing({"CPU": 0, "object_store_memory": 10**8}, {"worker": one})
    cluster.start()
    try:
        return subprocess.run(sys.argv[1:], check=False).returncode
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main())
