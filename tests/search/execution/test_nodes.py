"""Which machines count as gone."""

import pytest
import ray

from search.execution.nodes import answers, machines_gone


@pytest.mark.usefixtures("shared_ray")
def test_a_machine_is_gone_once_ray_does_not_know_it_or_its_raylet_takes_no_connection():
    (node,) = ray.nodes()
    assert machines_gone({node["NodeID"], "another"}) == {"another"}
    assert answers(node)
    assert not answers(node | {"NodeManagerPort": 1})
