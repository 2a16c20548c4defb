"""What calls come to, in the words of CloudWatch's metrics and in Prometheus's text."""

import concurrent.futures
import re

import pytest

from expect import refused
from hearth import eventually
from packages import python

ACTS = python(
    """
    if event == "fail": raise ValueError("no")
    if event == "exit": os._exit(3)
    if isinstance(event, float): time.sleep(event)
    return event
    """,
    "import os, time",
)


@pytest.fixture
def read(server, own):
    """The metrics of a function of the account: `{(name, resource or le): value}`."""

    def read(name):
        text = server.request("GET", "/_hearth/metrics")[2].decode()
        found = {}
        for family, labels, value in re.findall(r"^aws_lambda_(\w+)\{(.*)\} (\S+)$", text, re.M):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if labels["account"] == own.account and labels.get("function_name", name) == name:
                found[family, labels.get("le", labels.get("resource"))] = float(value)
        return found

    return read


def settled(read, name, resource, wanted):
    """The meters of a resource, once so many calls have ended: their answers come a moment sooner."""
    at = lambda: read(name)
    eventually("the calls have ended", lambda: at().get(("invocations_total", resource)) == wanted)
    return at()


def test_calls_errors_and_durations(own, read):
    name = own.make(ACTS, Timeout=1)
    call = lambda payload, **more: own.client.invoke(FunctionName=name, Payload=payload, **more)
    for payload in (b"1", b"2", b"0.3", b'"fail"', b'"exit"', b"3.0"):
        call(payload)
    call(b"5", InvocationType="DryRun")
    found = settled(read, name, name, 6)
    assert found["errors_total", name] == 3
    assert found["throttles_total", name] == 0
    assert found["duration_milliseconds_count", name] == 6
    assert 1300 <= found["duration_milliseconds_sum", name] < 20_000
    assert found["duration_milliseconds_bucket", "+Inf"] == 6
    # Those that sleep for 0.3 s and for longer than they may.
    assert found["duration_milliseconds_bucket", "200"] <= 4
    assert found["concurrent_executions", name] == 0


def test_a_call_is_counted_by_the_name_that_it_has(own, read):
    name = own.make(ACTS)
    version = own.publish(name)
    own.client.create_alias(FunctionName=name, Name="live", FunctionVersion=version)
    for qualifier, times in ((None, 1), ("live", 2), (version, 3)):
        for _ in range(times):
            own.client.invoke(FunctionName=name, Payload=b"1", **({"Qualifier": qualifier} if qualifier else {}))
    found = settled(read, name, f"{name}:{version}", 3)
    assert [found["invocations_total", one] for one in (name, f"{name}:live")] == [1, 2]


def test_what_is_refused_is_a_throttle_and_no_call(own, read):
    name = own.make(ACTS)
    own.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    for _ in range(3):
        with refused("TooManyRequestsException", 429):
            own.client.invoke(FunctionName=name, Payload=b"1")
    found = read(name)
    assert (found["throttles_total", name], found["invocations_total", name], found["errors_total", name]) == (3, 0, 0)


def test_events_are_calls(own, read):
    name = own.make(ACTS)
    own.client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    for payload in (b"1", b'"fail"'):
        own.client.invoke(FunctionName=name, Payload=payload, InvocationType="Event")
    assert settled(read, name, name, 2)["errors_total", name] == 1


def test_how_many_run_at_once(own, read):
    name, reserved = own.make(ACTS), own.make(ACTS)
    own.client.put_function_concurrency(FunctionName=reserved, ReservedConcurrentExecutions=7)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(own.client.invoke, FunctionName=name, Payload=b"3.0") for _ in range(3)]
        found = eventually("three run", lambda: (now := read(name)).get(("concurrent_executions", name)) == 3 and now)
        assert found["unreserved_concurrent_executions", None] == 3
        assert found["claimed_account_concurrency", None] == 10
        [call.result() for call in calls]
    eventually("none runs", lambda: read(name)["concurrent_executions", name] == 0)


def test_what_is_kept_initialised_and_what_spills_over(own, read):
    name = own.make(ACTS)
    version = own.publish(name)
    own.client.put_provisioned_concurrency_config(FunctionName=name, Qualifier=version, ProvisionedConcurrentExecutions=1)
    resource, kept = f"{name}:{version}", {"FunctionName": name, "Qualifier": version}
    eventually("it is kept", lambda: own.client.get_provisioned_concurrency_config(**kept)["Status"] == "READY")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(own.client.invoke, **kept, Payload=b"2.0")
        used = lambda: (now := read(name)).get(("provisioned_concurrent_executions", resource)) == 1 and now
        found = eventually("it runs", used)
        assert found["provisioned_concurrency_utilization", resource] == 1
        own.client.invoke(**kept, Payload=b"1")
        first.result()
    found = settled(read, name, resource, 2)
    assert found["provisioned_concurrency_invocations_total", resource] == 1
    assert found["provisioned_concurrency_spillover_invocations_total", resource] == 1
