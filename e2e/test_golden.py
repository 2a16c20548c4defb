"""How runtimes fail, byte for byte: `golden/RUNTIME/FAILURE.text` has what callers are answered and what the log says, of
functions that log text; `.json`, of those that log JSON."""

import concurrent.futures
import os

import pytest

import golden
from conftest import Functions, caller, make_client
from failures import CASES
from hearth import eventually
from runtimes import Bench, lines

pytestmark = pytest.mark.timeout(900)
FORMATS = {"text": {}, "json": {"LoggingConfig": {"LogFormat": "JSON", "SystemLogLevel": "DEBUG"}}}
# Platform lines are the same whoever fails: a runtime and the protocol by hand show them in JSON.
IN_JSON = ("python", "by hand")
# Clients that are slow to start have their turn when all are asked for.
USUAL = ("python", "nodejs", "lambda_runtime", "by hand")
ALL = golden.UPDATE or os.environ.get("HEARTH_E2E_GOLDEN") == "all"
EACH = [
    (failure, column, form)
    for failure, column in CASES
    for form in FORMATS
    if (ALL or column.name in USUAL) and (form == "text" or column.name in IN_JSON)
]


def named(failure, column, form):
    cell = [pytest.mark.cell(failure.row)] if form == "text" else []
    return pytest.param(failure, column, form, id=f"{failure.name}-{column.name.replace(' ', '-')}-{form}", marks=cell)


@pytest.fixture(scope="module")
def bench(server):
    functions = Functions(make_client(server))
    yield Bench(functions)
    functions.delete()


@pytest.fixture(scope="module")
def fail(bench, server):
    """Answers of a function that fails so, and its log. Those that take the 10 s of an init are begun together."""
    begun = {}

    def failed(failure, column, form):
        layers = [bench.layer(each) for each in failure.layers]
        name = bench.make(column, failure.files, layers, **FORMATS[form] | failure.settings)
        call = caller(make_client(server))
        # An answer with a tail comes when its environment is idle again.
        answers = [call(name, event, LogType="Tail") for event in failure.events]
        end = "platform.report" if form == "json" else "REPORT RequestId"

        def complete():
            found = lines(server, name)
            return found if sum(end in line for line in found) >= len(answers) else None

        return answers, eventually("all reports", complete)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:

        def fail(failure, column, form):
            if not failure.slow:
                return failed(failure, column, form)
            if not begun:
                for each in EACH:
                    if each[0] is failure:
                        begun[each[1].name, each[2]] = pool.submit(failed, *each)
            return begun[column.name, form].result()

        yield fail


@pytest.mark.parametrize("failure, column, form", [named(*each) for each in EACH])
def test_it_fails_as_ever(fail, failure, column, form):
    answers, log = fail(failure, column, form)
    for answer in answers[1:]:
        assert answer.error is None, f"afterwards: {answer.payload}"
    golden.check(f"{column.name.replace(' ', '-')}/{failure.name}.{form}", golden.written(answers[:1], log))
