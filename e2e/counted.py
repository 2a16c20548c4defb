"""Counts what the tests of `conformance` assert: an `assert` or a `refused` that held, once a test, place and outcome, however
often a loop came by it. Where the whole suite ran, and held fewer than `LEAST`, the run has failed."""

import pytest

import expect

LEAST = 400

held = set()
# Tests of the suite: all there are, and those that passed.
wanted, ran = set(), set()


def is_counted(item):
    return "conformance" in item.path.parts


class Counter:
    def __init__(self, item):
        self.item = item

    def pytest_assertion_pass(self, lineno, orig, expl):
        self.held(lineno, orig, expl)

    def held(self, *what):
        held.add((self.item.nodeid, *map(str, what)))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    # Before any is deselected.
    wanted.update(item.nodeid for item in items if is_counted(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    if not is_counted(item):
        return (yield)
    counter = Counter(item)
    item.config.pluginmanager.register(counter)
    expect.on_held = counter.held
    try:
        return (yield)
    finally:
        expect.on_held = None
        item.config.pluginmanager.unregister(counter)


def pytest_runtest_logreport(report):
    if report.when == "call" and report.passed and report.nodeid in wanted:
        ran.add(report.nodeid)


def pytest_terminal_summary(terminalreporter):
    if ran:
        terminalreporter.write_line(f"conformance: {len(held)} assertions held in {len(ran)} tests")


def pytest_sessionfinish(session):
    if wanted and ran == wanted and len(held) < LEAST:
        print(f"\nthe conformance suite is to hold at least {LEAST} assertions: {len(held)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
