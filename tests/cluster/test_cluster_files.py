"""The cluster files, held against Ray's own schema and preparation, and their machines against EC2's own model."""

import copy
import re
from pathlib import Path

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
RAY_S_OWN = {"SubnetIds"}
"""Keys of node_config that Ray's launcher takes for itself, beside those of EC2's RunInstances."""
SECRETS = re.compile(r"password|access_key|AKIA[A-Z0-9]{12}|RAY_AUTH_TOKEN=|BEGIN .*PRIVATE KEY", re.IGNORECASE)


@pytest.fixture(scope="module")
def config():
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def prepared(config):
    """What `ray up` does with a file before it talks to any cloud; raises what it would raise."""
    made = prepare_config(copy.deepcopy(config))
    validate_config(made)
    return made


def wrong_fields(node_config):
    """What EC2 would refuse in a node_config, in botocore's words; empty where it is right."""
    shape = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    request = {k: v for k, v in node_config.items() if k not in RAY_S_OWN} | {"MinCount": 1, "MaxCount": 1}
    return ParamValidator().validate(request, shape).generate_report()


@pytest.mark.parametrize("name", ["cluster.yaml", "cluster.onprem.yaml"])
def test_ray_takes_the_file(name):
    made = prepared(yaml.safe_load((ROOT / name).read_text()))
    assert made["cluster_name"] == "fusion-search"


def test_a_typo_in_ray_s_part_is_caught(config):
    wrong = copy.deepcopy(config)
    wrong["available_node_types"]["gpu_worker"]["max_worker"] = 4
    with pytest.raises(Exception, match="max_worker"):
        prepared(wrong)


def test_ec2_takes_every_machine(config):
    for name, kind in config["available_node_types"].items():
        assert wrong_fields(kind["node_config"]) == "", name


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ((), "InstanceTyp", "m6i.large"),
        (("InstanceMarketOptions",), "MarketTyp", "spot"),
        (("BlockDeviceMappings", 0, "Ebs"), "VolumeSise", 100),
        (("BlockDeviceMappings", 0, "Ebs"), "VolumeSize", "100"),
    ],
)
def test_a_typo_in_a_machine_is_caught(config, where, key, value):
    node = place = copy.deepcopy(config["available_node_types"]["gpu_worker"]["node_config"])
    for step in where:
        place = place[step]
    place[key] = value
    assert key in wrong_fields(node)


def test_the_head_trains_nothing_and_workers_come_and_go(config):
    made = prepared(config)
    head, worker = (made["available_node_types"][name] for name in ("head", "gpu_worker"))
    assert made["head_node_type"] == "head"
    assert head["resources"] == {"CPU": 0}
    assert (head["min_workers"], head["max_workers"]) == (0, 0)
    assert worker["min_workers"] == 0
    assert 0 < worker["max_workers"] <= made["max_workers"]
    assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert made["idle_timeout_minutes"] <= 10


@pytest.mark.parametrize("name", ["cluster.yaml", "cluster.onprem.yaml"])
def test_closed_to_the_world_and_without_a_secret(name):
    text = (ROOT / name).read_text()
    config = yaml.safe_load(text)
    assert SECRETS.search(text) is None
    assert "IpPermissions" not in config["provider"].get("security_group", {})  # Ray's default: SSH and nothing else
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert len(starts) == 4
    assert all("RAY_AUTH_MODE=token" in line for line in starts)
    assert any("--dashboard-host=127.0.0.1" in line for line in config["head_start_ray_commands"])
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}


def test_the_version_is_pinned(config):
    (install,) = [line for line in config["setup_commands"] if "fusion-search" in line]
    assert "git+https://REPOSITORY@COMMIT" in install
