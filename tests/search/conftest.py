"""One Ray for all tests of a session that can share it, and a place where a run's output goes."""

import io
import sys

import pytest
from rich.console import Console

from search.execution import cluster
from search.execution.cluster import ray_session
from search.options import RunOptions
from search.run import main


@pytest.fixture(scope="session")
def shared_ray(_own_cache):
    """Ray, started as a run starts it; runs inside join it. Its workers see the tests' own dataset cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "processors", lambda: 2)  # of whatever machine: tests count what has room at once
        with ray_session(RunOptions(phase="phase3")):
            yield


FOUR = (
    *("--suspect", "clicks", "--trials", "2", "--epochs", "1", "--confirm-seeds", "2", "--scheduler", "none"),
    *("--no-ablation", "--set", "model.layers=1", "--set", "train.members=1", "--data"),
    "planted?modalities=visual,text,metadata,clicks&share_clicks=0&queries=140&candidates=6&test_fraction=0.4",
)


@pytest.fixture(scope="session")
def run_of_four(tmp_path_factory, shared_ray):
    """A finished phase 3 on four modalities whose suspect, the clicks, is noise, by the command line."""
    results = tmp_path_factory.mktemp("four")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["search.run", "phase3", "--results", str(results), *FOUR])
        assert main() == 0
    return results / "phase3"


S3_KEYS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def s3_store():
    """A server that speaks S3, on loopback, with one bucket; this process and its children use it for s3:// URIs."""
    import boto3
    from moto.server import ThreadedMotoServer  # slow to import, and of use to few tests

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    patch = pytest.MonkeyPatch()
    for key, value in {**S3_KEYS, "AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port())}.items():
        patch.setenv(key, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="team", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    yield client
    patch.undo()
    server.stop()


@pytest.fixture
def console():
    """A console that is no terminal; what was printed is `console.file.getvalue()`."""
    return Console(file=io.StringIO(), width=200)
