"""Business facts: unanswered is never a pass, and a bad file says what is wrong."""

from pathlib import Path

import pytest

from search.run_store.facts import Facts, read_facts

EXAMPLE = Path(__file__).parents[3] / "docs" / "facts.example.toml"


def test_without_a_file_nothing_is_answered():
    assert set(read_facts(None).statuses().values()) == {"not measured"}


def test_the_example_reads():
    statuses = read_facts(str(EXAMPLE)).statuses()
    assert statuses["v1_stable"] == "pass"
    assert statuses["resources"] == "not measured"


def test_every_fact_stands_in_the_example():
    text = EXAMPLE.read_text()
    assert all(name in text for name in Facts().statuses())


def test_false_fails(tmp_path):
    path = tmp_path / "facts.toml"
    path.write_text("resources = false\n")
    assert read_facts(str(path)).statuses()["resources"] == "fail"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("resouces = true", "unknown fact 'resouces'; known facts: v1_stable"),
        ('resources = "yes"', "must be true or false"),
        ("resources = ", "cannot be read"),
    ],
)
def test_a_bad_file_says_what_is_wrong(tmp_path, text, said):
    path = tmp_path / "facts.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_facts(str(path))
    with pytest.raises(ValueError, match="cannot be read"):
        read_facts(str(tmp_path / "missing.toml"))
