"""Names the tests that failed and passed when they were run again (`--reruns`, as `script/test` asks for): machines are shared,
and what they do to one test says nothing of a change. Each is shown with its failure, to be looked into. More than `MOST` of
them are no accident: the run has failed."""

import pytest

MOST = 3

failures = {}
failed = set()


def pytest_runtest_logreport(report):
    if report.outcome == "rerun":
        failures[report.nodeid] = report.longreprtext
    elif report.failed:
        failed.add(report.nodeid)


def unsteady():
    return {name: failure for name, failure in failures.items() if name not in failed}


def pytest_terminal_summary(terminalreporter):
    if named := unsteady():
        terminalreporter.section(f"failed, and passed when run again: {len(named)}", yellow=True)
        for name, failure in named.items():
            terminalreporter.line(f"UNSTEADY {name}\n{failure}")


def pytest_sessionfinish(session):
    if len(unsteady()) > MOST:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
