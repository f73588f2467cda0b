"""Run on a test host: a head that trains nothing, and one-processor nodes that come and go, until stdin ends."""

import sys
import time

from ray.cluster_utils import AutoscalingCluster

MOST = 2
IDLE_MINUTES = 0.1


class GrowingCluster(AutoscalingCluster):
    """Ray's cluster whose nodes are processes of this host, with its own words for what the wheel leaves out."""

    def _generate_config(self, head_resources, worker_node_types, autoscaler_v2=False, **config_kwargs):
        head = {"resources": head_resources, "node_config": {}, "max_workers": 0}
        return {
            "cluster_name": "growing",
            "max_workers": MOST,
            "upscaling_speed": 1.0,
            "idle_timeout_minutes": IDLE_MINUTES,
            "provider": {
                "type": "fake_multinode",
                "use_node_id_as_ip": True,  # the nodes share their address
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
            },
            "available_node_types": worker_node_types | {"ray.head.default": head},
            "head_node_type": "ray.head.default",
            "auth": {},
            "docker": {},
            "file_mounts": {},
            "cluster_synced_files": [],
            "file_mounts_sync_continuously": False,
            "rsync_exclude": [],
            "rsync_filter": [],
            "initialization_commands": [],
            "setup_commands": [],
            "head_setup_commands": [],
            "worker_setup_commands": [],
            "head_start_ray_commands": [],
            "worker_start_ray_commands": [],
        } | config_kwargs


def main() -> None:
    memory = 200 * 1024**2
    node = {"resources": {"CPU": 1, "object_store_memory": memory}, "node_config": {}, "max_workers": MOST}
    cluster = GrowingCluster({"CPU": 0, "object_store_memory": memory}, {"one-processor": node})
    cluster.start(override_env={"RAY_UP_enable_autoscaler_v2": "0", "RAY_enable_autoscaler_v2": "0"})
    print(f"{time.time():.0f}: up", flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
