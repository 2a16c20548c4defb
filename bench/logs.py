"""CloudWatch Logs: how fast lines are taken while functions run, how fast they are looked through, and how soon they are seen."""

import concurrent.futures
import http.client
import json
import os
import time

from servers import bench, call, create, hearth, invocations, ministack, moto, package

LINES = int(os.environ.get("BENCH_LINES", "10000000"))
# For servers that keep every line as an object of Python.
RIVALS_LINES = int(os.environ.get("BENCH_RIVALS_LINES", "200000"))
# Of one request, of about 100 bytes each: not much less than it may hold.
BATCH = 7000
WRITERS = 2
TAILED = 400
# Stands for the time of a line.
TIME = 9_999_999_999_999

TALKS = """import time
def lambda_handler(event, context):
    print("said", time.time_ns(), flush=True)
"""
ECHO = "def lambda_handler(event, context):\n    return event\n"


class Client:
    def __init__(self, base):
        self.connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=600)

    def begin(self, operation, body):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.connection.request("POST", "/", body, {
            "X-Amz-Target": f"Logs_20140328.{operation}", "Content-Type": "application/x-amz-json-1.1",
            # Nobody here verifies it; some take the service from it.
            "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/logs/aws4_request, "
                             "SignedHeaders=host, Signature=0",
        })
        return self.connection.getresponse()

    def ask(self, operation, body):
        answer = self.begin(operation, body)
        text = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{operation}: {answer.status} {text[:300]}")
        return json.loads(text or b"null")


def batch(stream):
    """A request, made once, but for the time of its lines: what is measured is not the client."""
    line = "3d5ff08a-0a4e-4d8e-8f5c-{:012} INFO line of a function that says something of no importance at all"
    events = [{"timestamp": TIME, "message": line.format(i)} for i in range(BATCH)]
    body = json.dumps({"logGroupName": "volume", "logStreamName": stream, "logEvents": events}).encode()
    return lambda: body.replace(str(TIME).encode(), str(int(time.time() * 1000)).encode())


def write(base, stream, lines):
    client = Client(base)
    client.ask("CreateLogStream", {"logGroupName": "volume", "logStreamName": stream})
    body = batch(stream)
    for _ in range(0, lines, BATCH):
        client.ask("PutLogEvents", body())


def measure_volume(base, lines):
    """Lines a second that PutLogEvents takes, and that FilterLogEvents looks through for one that is not there."""
    client = Client(base)
    client.ask("CreateLogGroup", {"logGroupName": "volume"})
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as writers:
        list(writers.map(lambda stream: write(base, f"s{stream}", lines // WRITERS), range(WRITERS)))
    appended = time.perf_counter() - began
    written = -(-lines // WRITERS // BATCH) * BATCH * WRITERS
    asked, found, pages = {"logGroupName": "volume", "filterPattern": '"no such line"'}, 0, 0
    began = time.perf_counter()
    while True:
        answer = client.ask("FilterLogEvents", asked)
        found, pages = found + len(answer["events"]), pages + 1
        if not answer.get("nextToken"):
            break
        asked["nextToken"] = answer["nextToken"]
    looked = time.perf_counter() - began
    assert found == 0
    return {
        "lines": written, "appendedPerSecond": round(written / appended), "scannedPerSecond": round(written / looked),
        "pages": pages,
    }


def measure_serving(base):
    """Calls of a function while lines are written as fast as they are taken, and without."""
    create(base, "serves", "python3.11", "lambda_function.lambda_handler", package({"lambda_function.py": ECHO}))
    url = invocations(base, "serves")
    bench("once", url, "{}")
    alone = bench("load", url, "{}", 1, 3)
    with concurrent.futures.ThreadPoolExecutor(1) as other:
        serving = other.submit(bench, "load", url, "{}", 1, 6)
        time.sleep(1)
        client, body, lines, began = Client(base), batch("serving"), 0, time.perf_counter()
        client.ask("CreateLogGroup", {"logGroupName": "volume"})
        client.ask("CreateLogStream", {"logGroupName": "volume", "logStreamName": "serving"})
        while time.perf_counter() - began < 5:
            client.ask("PutLogEvents", body())
            lines += BATCH
        took = time.perf_counter() - began
        serving = serving.result()
    client.ask("DeleteLogGroup", {"logGroupName": "volume"})
    return {
        "appendedPerSecond": round(lines / took), "callP50Us": serving["p50Us"], "callAloneP50Us": alone["p50Us"],
        "failed": serving["failed"],
    }


def events(answer):
    """Messages of an event stream, as they come."""
    buffer = bytearray()
    while more := answer.read1(1 << 20):
        now = time.time_ns()
        buffer += more
        while len(buffer) >= 12 and len(buffer) >= (length := int.from_bytes(buffer[:4])):
            headers = int.from_bytes(buffer[4:8])
            yield now, json.loads(buffer[12 + headers : length - 4] or b"{}")
            del buffer[:length]


def measure_tail(base):
    """From a function's print to a subscriber of Live Tail."""
    create(base, "talks", "python3.11", "lambda_function.lambda_handler", package({"lambda_function.py": TALKS}))
    url = invocations(base, "talks")
    bench("once", url, "{}")
    group = "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/talks"
    session = events(Client(base).begin("StartLiveTail", {"logGroupIdentifiers": [group], "logEventFilterPattern": "said"}))
    next(session)
    times = []
    with concurrent.futures.ThreadPoolExecutor(1) as other:

        def calls():
            for _ in range(TAILED):
                call(base, "POST", invocations("", "talks"), {})
                time.sleep(0.005)

        calling = other.submit(calls)
        while len(times) < TAILED:
            now, message = next(session)
            times += [(now - int(one["message"].split()[1])) / 1e6 for one in message.get("sessionResults", [])]
        calling.result()
    times.sort()
    at = lambda part: round(times[int(len(times) * part)], 2)
    return {"p50Ms": at(0.5), "p99Ms": at(0.99), "n": len(times)}


def measure(folder):
    results = {}
    with hearth(folder, "--logs-size", "16GiB") as base:
        results["tail"] = measure_tail(base)
        results["serving"] = measure_serving(base)
        results["Hearth"] = measure_volume(base, LINES)
    for name, server in (("ministack", ministack), ("moto", moto)):
        with server() as base:
            results[name] = measure_volume(base, RIVALS_LINES)
    return results


def table(results):
    lines = [
        "", "## Logs", "",
        f"PutLogEvents in requests of {BATCH} lines of about 100 bytes from {WRITERS} clients, then FilterLogEvents over all of them for",
        "a text that is not there.", "",
        "| | lines | appended a second | looked through a second |", "|---|---|---|---|",
    ]
    for name in ("Hearth", "ministack", "moto"):
        one = results[name]
        lines.append(f"| {name} | {one['lines']:,} | {one['appendedPerSecond']:,} | {one['scannedPerSecond']:,} |")
    serving, tail = results["serving"], results["tail"]
    return lines + [
        "", f"While a function is called by one caller, {serving['appendedPerSecond']:,} lines a second are appended; its calls take "
        f"{serving['callP50Us']} µs then and {serving['callAloneP50Us']} µs else (p50), {serving['failed']} failed.",
        f"From `print` to a subscriber of Live Tail: p50 {tail['p50Ms']} ms, p99 {tail['p99Ms']} ms (n {tail['n']}).",
    ]
