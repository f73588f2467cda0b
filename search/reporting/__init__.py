"""The report of a run, from its tables: figures, one HTML page, and one trial explained in the terminal.

`records` reads a run folder, `page` and `roadmap_page` write the pages, `decision_page` the text of decision.md,
`comparison` and `comparison_page` lay two runs side by side, `run_list` lists a folder of them, `words` says how
numbers and names are written. Nothing here measures. May use study, analysis and run_store.
"""

from search.reporting.page import build_report, write_report
from search.reporting.records import RunRecord, read_run

__all__ = ["RunRecord", "build_report", "read_run", "write_report"]
