"""Says at the end, loudly, why the cluster was not tested where it was not."""


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.stats.get("skipped", []):
        if "cluster" in report.keywords:
            terminalreporter.write_line(f"THE CLUSTER WAS NOT TESTED: {report.longrepr[2]}", yellow=True, bold=True)
            return
