"""A CSV that a spreadsheet opens runs nothing of what it holds, in cells or headings."""

import csv

import pandas as pd
import pytest

from search.run_store.csv_tables import write_csv
from search.run_store.folder import RunFolder


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\n=1", "\t\n =1", "\tx", "\uff1d1"])
def test_no_formula_stands_in_a_cell_or_a_heading(text, tmp_path):
    write_csv(pd.DataFrame({text: [text, "plain"], "n": [-1.0, 2.0]}), RunFolder(tmp_path), "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [[f"'{text}", "n"], [f"'{text}", "-1.0"], ["plain", "2.0"]]


@pytest.mark.parametrize("text", ["a\r=1", "\r=1", "a\r\n=1"])
def test_a_carriage_return_begins_no_row(text, tmp_path):
    write_csv(pd.DataFrame({"x": [text], "n": [1]}), RunFolder(tmp_path), "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 2
    assert not rows[1][0].startswith("=")


@pytest.mark.parametrize("text", ["plain", " plain", "a = b", "", "1-2"])
def test_what_is_no_formula_stays(text, tmp_path):
    write_csv(pd.DataFrame({text or "x": [text]}), RunFolder(tmp_path), "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [[text or "x"], [text]]
