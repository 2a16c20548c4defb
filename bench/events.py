"""Events: how fast they are accepted, beside what the disk can do; how soon they run; what a backlog costs; and SQS beside rivals."""

import json
import os
import re
import signal
import statistics
import time
import urllib.request

import logs
from servers import bench, call, create, hearth, invocations, ministack, moto, package

SECONDS, ROUNDS = 4, int(os.environ.get("BENCH_EVENT_ROUNDS", "3"))
CALLERS = 32
# The whole promise is about 1,000,000: some minutes, and two gigabytes.
BACKLOG = int(os.environ.get("BENCH_BACKLOG", "200000"))
IDLE = 100
PAYLOAD = json.dumps({"message": "x" * 64, "number": 1})
# What the store keeps of one event, bytes: its payload, sealed, with a note and its places in two indexes.
KEPT = 1024
EVENT = "X-Amz-Invocation-Type:Event"
TELLS = "import time\ndef lambda_handler(event, context):\n    print('began', event, time.time_ns(), flush=True)\n"


def send(base, name, event):
    request = urllib.request.Request(invocations(base, name), json.dumps(event).encode(), {"X-Amz-Invocation-Type": "Event"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.headers["x-amzn-requestid"]


def group_commits(folder):
    """Events a second that this disk would take in groups of as many as there are callers: a write and a sync for each."""
    path, group = os.path.join(folder, "commits"), b"x" * (KEPT * CALLERS)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        times, end = [], time.perf_counter() + SECONDS
        while (began := time.perf_counter()) < end:
            os.write(file, group)
            os.fdatasync(file)
            times.append(time.perf_counter() - began)
    finally:
        os.close(file)
        os.unlink(path)
    return CALLERS * len(times) / sum(times), statistics.median(times)


def audit(base):
    return call(base, "GET", "/_hearth/v1/events/audit")


def resident(process):
    with open(f"/proc/{process.pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS"))


def measure_hearth(folder, rust):
    with hearth(folder, process=True) as (base, process):
        create(base, "trivial", *rust)
        create(base, "tells", "python3.11", "lambda_function.lambda_handler", package({"lambda_function.py": TELLS}))
        # Nothing of it runs: what is accepted stays.
        create(base, "waits", *rust)
        call(base, "PUT", "/2017-10-31/functions/waits/concurrency", {"ReservedConcurrentExecutions": 0})
        bench("once", invocations(base, "trivial"), PAYLOAD)
        results = {"idle": idle(base), "accept": accept(base, folder)}
        results["sustained"] = sustained(base)
        results["backlog"] = backlog(base, process, folder)
    return results


def idle(base):
    """From a caller's request to the first line of the handler, milliseconds."""
    bench("once", invocations(base, "tells"), "0")
    sent = {}
    for number in range(1, IDLE + 1):
        sent[number] = time.time_ns()
        send(base, "tells", number)
        time.sleep(0.02)
    client, took = logs.Client(base), {}
    while len(took) < IDLE:
        token = {}
        while True:
            found = client.ask("FilterLogEvents", {"logGroupName": "/aws/lambda/tells", "filterPattern": "began", **token})
            for line in found["events"]:
                number, at = map(int, re.search(r"began (\d+) (\d+)", line["message"]).groups())
                if number:
                    took[number] = (at - sent[number]) / 1e6
            if not found.get("nextToken"):
                break
            token = {"nextToken": found["nextToken"]}
    times = sorted(took.values())
    return {"p50Ms": statistics.median(times), "p99Ms": times[int(len(times) * 0.99)], "n": len(times)}


def accept(base, folder):
    turns = [(group_commits(folder), bench("load", invocations(base, "waits"), PAYLOAD, CALLERS, SECONDS, EVENT)) for _ in range(ROUNDS)]
    one = bench("load", invocations(base, "waits"), PAYLOAD, 1, SECONDS, EVENT)
    return {
        "perSecond": round(statistics.median(load["perSecond"] for _, load in turns)),
        "ofDisk": statistics.median(load["perSecond"] / rate for (rate, _), load in turns),
        "diskPerSecond": round(statistics.median(rate for (rate, _), _ in turns)),
        "p50Us": round(statistics.median(load["p50Us"] for _, load in turns)),
        "oneP50Us": one["p50Us"], "syncUs": round(statistics.median(sync for (_, sync), _ in turns) * 1e6),
        "failed": sum(load["failed"] for _, load in turns),
    }


def sustained(base):
    """Events that are accepted and run to their end, a second."""
    before, began = audit(base), time.perf_counter()
    bench("load", invocations(base, "trivial"), PAYLOAD, CALLERS, SECONDS * 2, EVENT)
    accepted = audit(base)["accepted"] - before["accepted"]
    while audit(base)["succeeded"] - before["succeeded"] < accepted:
        time.sleep(0.02)
    return {"perSecond": round(accepted / (time.perf_counter() - began)), "n": accepted}


def backlog(base, process, folder):
    """What very many queued events cost: memory, accepting, others' events, the next start."""
    before, empty = resident(process), bench("load", invocations(base, "waits"), PAYLOAD, CALLERS, SECONDS, EVENT)
    while audit(base)["queued"] < BACKLOG:
        bench("load", invocations(base, "waits"), PAYLOAD, CALLERS, SECONDS * 5, EVENT)
    full = bench("load", invocations(base, "waits"), PAYLOAD, CALLERS, SECONDS, EVENT)
    results = {
        "n": audit(base)["queued"], "growthMb": (resident(process) - before) / (1 << 20),
        "rate": full["perSecond"] / empty["perSecond"], "otherP50Ms": idle(base)["p50Ms"],
    }
    process.send_signal(signal.SIGKILL)
    process.wait()
    began = time.perf_counter()
    with hearth(folder):
        results["startMs"] = (time.perf_counter() - began) * 1000
    return results


SQS = "Authorization:AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=0"
RECEIVERS = 8


def measure_sqs(base):
    """One message in each request. What is received stays hidden, so that each is received once."""
    headers = lambda operation: ("Content-Type:application/x-amz-json-1.0", f"X-Amz-Target:AmazonSQS.{operation}", SQS)
    request = urllib.request.Request(f"{base}/", b'{"QueueName": "q"}', dict(line.split(":", 1) for line in headers("CreateQueue")))
    with urllib.request.urlopen(request, timeout=60) as answer:
        queue = json.load(answer)["QueueUrl"]
    message = json.dumps({"QueueUrl": queue, "MessageBody": "x" * 100})
    sent = bench("load", f"{base}/", message, RECEIVERS, SECONDS, *headers("SendMessage"))
    ask = json.dumps({"QueueUrl": queue, "MaxNumberOfMessages": 1, "VisibilityTimeout": 3600})
    received = bench("load", f"{base}/", ask, RECEIVERS, SECONDS / 2, *headers("ReceiveMessage"))
    return {"sent": sent["perSecond"], "received": received["perSecond"], "failed": sent["failed"] + received["failed"]}


def measure(folder, rust):
    results = {"hearth": measure_hearth(folder, rust), "sqs": {}}
    with hearth(f"{folder}-sqs") as base:
        results["sqs"]["Hearth, on disk"] = measure_sqs(base)
    for name, rival in ("ministack, in memory", ministack), ("moto, in memory", moto):
        with rival() as base:
            results["sqs"][name] = measure_sqs(base)
    return results


def table(results):
    events = results["hearth"]
    idle, accept, sustained, backlog = (events[name] for name in ("idle", "accept", "sustained", "backlog"))
    lines = [
        "", "## Events", "",
        f"Accepted (on disk) with {CALLERS} callers: {accept['perSecond']:,} a second, p50 {accept['p50Us']:,} µs; {accept['ofDisk'] * 100:.0f} % of the",
        f"{accept['diskPerSecond']:,} a second that a bare loop of writes and syncs of {CALLERS} events each gets through beside it. With one caller",
        f"p50 {accept['oneP50Us']:,} µs, of which a sync takes {accept['syncUs']:,} µs. {accept['failed']} failed.",
        "", f"From the request to the first line of the handler, idle: p50 {idle['p50Ms']:.1f} ms, p99 {idle['p99Ms']:.1f} ms (n {idle['n']}).",
        f"Accepted and run to their end by a function of Rust: {sustained['perSecond']:,} a second (n {sustained['n']:,}).",
        "", f"With {backlog['n']:,} events of one function queued: {backlog['growthMb']:.0f} MiB of memory more, events are accepted at {backlog['rate']:.2f} times",
        f"the rate of before, another function's event starts after {backlog['otherP50Ms']:.1f} ms (p50), and after `kill -9` the server is",
        f"ready again in {backlog['startMs']:.0f} ms.",
        "", f"SQS, one message of 100 bytes in a request, {RECEIVERS} callers:", "",
        "| | sent a second | received a second | failed |", "|---|---|---|---|",
    ]
    return lines + [f"| {name} | {one['sent']:,.0f} | {one['received']:,.0f} | {one['failed']} |" for name, one in results["sqs"].items()]
