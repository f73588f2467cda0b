"""The report of a run, from its tables: figures, one HTML page, and one trial explained in the terminal."""

from search.reporting.page import build_report, write_report
from search.reporting.records import RunRecord, read_run

__all__ = ["RunRecord", "build_report", "read_run", "write_report"]
