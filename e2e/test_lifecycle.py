"""Environments: which, how many, how long; and what an update or an end of the server does to them."""

import concurrent.futures
import json
import os
import signal
import threading
import time

import pytest

from conftest import Functions, caller, make_client, wait_updated
from hearth import descendants, eventually, read
from packages import HEALTHY, python, zipped
from expect import refused

# An environment is known by its log stream.
WHO = "return context.log_stream_name"


def at_once(count, work):
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return [done.result() for done in [pool.submit(work, n) for n in range(count)]]


def test_calls_one_after_another_share_an_environment(make, call):
    name = make(python(WHO))
    assert len({call(name).payload for _ in range(10)}) == 1


def test_calls_at_once_have_an_environment_each(client, make, call):
    name = make(python("time.sleep(1)\n" + WHO, before="import time"))
    assert len(set(at_once(6, lambda _: call(name).payload))) == 6


def test_the_environment_used_last_is_used_first(make, call):
    name = make(python("time.sleep(event)\n" + WHO, before="import time"))
    # An answer with a tail comes when its environment is idle again.
    both = at_once(2, lambda n: call(name, 0.5 + n / 2, LogType="Tail").payload)
    assert len(set(both)) == 2
    assert {call(name, 0, LogType="Tail").payload for _ in range(5)} == {both[1]}


def test_an_idle_environment_is_frozen(make, call):
    before = """
import threading, time
ticks = []
def tick():
    while True:
        ticks.append(time.monotonic())
        time.sleep(0.005)
threading.Thread(target=tick, daemon=True).start()
"""
    name = make(python("now, found = time.monotonic(), list(ticks)\nreturn [now, found]", before=before))
    first, _ = call(name).payload
    idle_until = time.monotonic() + 1
    other = make(HEALTHY)
    while time.monotonic() < idle_until:
        call(other)
    second, ticks = call(name).payload
    idle = [tick for tick in ticks if first + 0.2 < tick < second - 0.2]
    assert second - first > 1
    assert idle == [], f"{len(idle)} steps while frozen"


def begun(server, name, count):
    """Waits until this many calls have printed that they began."""
    path = f"/_hearth/v1/functions/{name}/logs?grep=begun"
    eventually(f"{count} calls", lambda: server.request("GET", path)[2].count(b'"begun') >= count)


SLEEP = python("print('begun', flush=True)\ntime.sleep(event)\nreturn 'done'", before="import time")


def test_the_account_has_a_limit(start):
    server = start("--account-concurrent-executions", "2")
    client = make_client(server)
    name = Functions(client).make(SLEEP)
    path = f"/2015-03-31/functions/{name}/invocations"
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = [pool.submit(server.lambda_request, "POST", path, b"3") for _ in range(2)]
        begun(server, name, 2)
        status, headers, body = server.lambda_request("POST", path, b"0")
        assert status == 429
        expected = {"Reason": "ConcurrentInvocationLimitExceeded", "Type": "User", "message": "Rate Exceeded."}
        assert json.loads(body) == expected
        assert headers["x-amzn-errortype"] == "TooManyRequestsException"
        assert [done.result()[0] for done in running] == [200, 200]
    eventually("room again", lambda: server.lambda_request("POST", path, b"0")[0] == 200)
    assert client.get_account_settings()["AccountLimit"]["ConcurrentExecutions"] == 2


def runtimes(server):
    """Runtime processes below a server."""
    return [pid for pid, _ in descendants(server.process.pid) if "/var/runtime/" in read(f"/proc/{pid}/cmdline")]


def test_an_idle_environment_is_shut_down(start):
    # Runtimes that wait are nobody's environments, and stay.
    server = start("--environments-idle-timeout", "1s", "--pools-enabled", "false")
    client = make_client(server)
    name = Functions(client).make(python(WHO))
    first = caller(client)(name).payload
    assert len(runtimes(server)) == 1
    eventually("the environment's end", lambda: not runtimes(server), patience=15)
    assert caller(client)(name).payload != first


def test_memory_goes_to_who_needs_it_and_a_full_host_says_so(start):
    server = start("--environments-memory-budget", "1000MiB", "--environments-wait", "500ms")
    client = make_client(server)
    functions, call = Functions(client), caller(client)
    body = "print('begun', flush=True)\ntime.sleep(event)\n" + WHO
    one, two = (functions.make(python(body, before="import time"), MemorySize=600) for _ in range(2))
    first = call(one, 0).payload
    call(two, 0)
    assert call(one, 0).payload != first, "the idle environment made room"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(call, one, 3)

        begun(server, one, 3)
        with pytest.raises(client.exceptions.TooManyRequestsException) as full:
            call(two, 0)
        response = full.value.response
        assert response["Reason"] == "ConcurrentInvocationLimitExceeded"
        assert response["Error"]["Message"] == "Rate Exceeded. The host's memory budget of 1000 MB is in use."
        assert running.result().error is None
    assert call(two, 0).error is None


def test_a_call_waits_for_room(start):
    server = start("--environments-memory-budget", "1000MiB", "--environments-wait", "20s")
    client = make_client(server)
    functions, call = Functions(client), caller(client)
    one, two = (functions.make(SLEEP, MemorySize=600) for _ in range(2))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(call, one, 1)
        begun(server, one, 1)
        assert call(two, 0).error is None
        assert running.result().error is None


def test_updates_never_mix_versions_in_one_environment(client, make, call):
    source = "import os, uuid\nME, CODE = str(uuid.uuid4()), {n}\ndef handler(event, context):\n    return [ME, CODE, int(os.environ['NUMBER'])]\n"
    name = make({"index.py": source.format(n=0)}, Environment={"Variables": {"NUMBER": "0"}}, MemorySize=256)
    ended = threading.Event()
    seen = []

    def keep_calling(_):
        while not ended.is_set():
            answer = call(name)
            assert answer.error is None, answer.bytes
            seen.append(tuple(answer.payload))

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        callers = [pool.submit(keep_calling, n) for n in range(3)]
        for n in range(1, 6):
            client.update_function_code(FunctionName=name, ZipFile=zipped({"index.py": source.format(n=n)}))
            wait_updated(client, name)
            client.update_function_configuration(FunctionName=name, Environment={"Variables": {"NUMBER": str(n)}})
            wait_updated(client, name)
            assert call(name).payload[1:] == [n, n], "an update that is done is what runs"
        ended.set()
        for done in callers:
            done.result()
    by_environment = {}
    for environment, code, configuration in seen:
        assert code - configuration in (0, 1)
        by_environment.setdefault(environment, set()).add((code, configuration))
    assert all(len(versions) == 1 for versions in by_environment.values())
    assert len({versions.pop() for versions in by_environment.values()}) > 2


def test_a_call_that_runs_during_an_update_ends_on_the_old_code(server, client, make, call):
    name = make(SLEEP)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(call, name, 2)
        begun(server, name, 1)
        client.update_function_code(FunctionName=name, ZipFile=zipped(python("return 'new'")))
        wait_updated(client, name)
        assert call(name, 0).payload == "new"
        assert running.result().payload == "done"


def test_a_call_that_runs_during_a_deletion_ends(server, client, make, call):
    name = make(SLEEP)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(call, name, 1)
        begun(server, name, 1)
        client.delete_function(FunctionName=name)
        assert running.result().payload == "done"
    with refused("ResourceNotFoundException", 404):
        client.invoke(FunctionName=name)


@pytest.mark.parametrize("whom", ["the server", "its whole group, as Ctrl-C in a terminal does"])
def test_an_end_lets_a_running_call_finish_and_takes_no_new_one(start, whom):
    server = start()
    client = make_client(server)
    name = Functions(client).make(SLEEP)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(caller(client), name, 2)
        begun(server, name, 1)
        if whom == "the server":
            server.process.terminate()
        else:
            os.killpg(server.process.pid, signal.SIGINT)
        eventually("the closed door", lambda: server.status("/_hearth/health") is None)
        assert running.result().payload == "done"
    assert server.process.wait(30) == 0
    server.assert_nothing_left()


@pytest.mark.parametrize("runtime", ["python3.11", "nodejs20.x"])
def test_a_burst_of_first_calls_is_answered(make, call, runtime):
    files = HEALTHY if runtime.startswith("python") else {"index.js": "exports.handler = async (e) => ({ healthy: e });"}
    names = [make(files, Runtime=runtime, MemorySize=256) for _ in range(4)]
    answers = at_once(24, lambda n: call(names[n % 4], n).payload)
    assert answers == [{"healthy": n} for n in range(24)]
