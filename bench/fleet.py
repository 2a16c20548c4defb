"""Many environments: how fast they start, what each of them costs, and what others feel of it."""

import concurrent.futures
import http.client
import os
import pathlib
import re
import threading
import time

from servers import bench, call, create, hearth, invocations

STARTED = int(os.environ.get("BENCH_STARTED", "200"))
# The whole promise is 3,000: 20 GB.
IDLE = int(os.environ.get("BENCH_IDLE", "300"))
FUNCTIONS, CALLERS = 20, 200
COLD = 100
SECONDS = 5
PAYLOAD = '{"message": "x"}'
TICKS = os.sysconf("SC_CLK_TCK")
# What 20 GB hold is said by arithmetic.
HOST = 20 << 30


def descendants(pid):
    """The process and all below it."""
    children = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            _, after = stat.read_text().rsplit(") ", 1)
        except OSError:
            continue
        children.setdefault(int(after.split()[1]), []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def memory(pid):
    """Bytes that the processes hold, shared pages divided: those of Hearth itself, and all."""
    own = everything = 0
    for one in descendants(pid):
        try:
            pages = int(re.search(r"^Pss: +(\d+)", pathlib.Path(f"/proc/{one}/smaps_rollup").read_text(), re.M)[1]) << 10
            program = os.readlink(f"/proc/{one}/exe")
        except (OSError, TypeError):
            continue
        everything += pages
        own += pages if program.removesuffix(" (deleted)").endswith("/hearth") else 0
    return own, everything


def cpu(pid):
    """CPU seconds of the processes that there are now."""
    ticks = 0
    for one in descendants(pid):
        try:
            ticks += sum(map(int, pathlib.Path(f"/proc/{one}/stat").read_text().rsplit(") ", 1)[1].split()[11:13]))
        except OSError:
            pass
    return ticks / TICKS


def descriptors(pid):
    """Of the server, which is the one of Hearth's processes with the most."""
    return max(len(os.listdir(f"/proc/{one}/fd")) for one in descendants(pid) if os.path.isdir(f"/proc/{one}/fd"))


def at_rest(folder, *flags):
    with hearth(folder, *flags, process=True) as (_, process):
        settled(process)
        before, began = cpu(process.pid), time.perf_counter()
        time.sleep(10)
        share = (cpu(process.pid) - before) / (time.perf_counter() - began)
        return {"ownMb": memory(process.pid)[0] / 1e6, "cpuPercent": share * 100}


def settled(process):
    """On a fresh cache a server makes ready what its runtimes need."""
    for _ in range(120):
        before, processes = cpu(process.pid), descendants(process.pid)
        time.sleep(1)
        if cpu(process.pid) - before < 0.02 and descendants(process.pid) == processes:
            return
    raise SystemExit("the server does not come to rest")


def kept(base, name, many):
    """Keeps so many environments of a version initialised; the seconds until all are there."""
    version = call(base, "POST", f"/2015-03-31/functions/{name}/versions", {})["Version"]
    path = f"/2019-09-30/functions/{name}/provisioned-concurrency?Qualifier={version}"
    began = time.perf_counter()
    call(base, "PUT", path, {"ProvisionedConcurrentExecutions": many})
    while (state := call(base, "GET", path))["Status"] != "READY":
        if state["Status"] == "FAILED":
            raise SystemExit(f"{name}: {state}")
        time.sleep(0.01)
    return time.perf_counter() - began


def started(folder, function):
    """Environments of one function a second, each from nothing."""
    with hearth(folder, "--pools-enabled", "false", "--account-concurrent-executions", "100000", process=True) as (base, process):
        create(base, "many", *function, memory=128)
        bench("once", invocations(base, "many"), PAYLOAD)
        settled(process)
        return {"n": STARTED, "perSecond": STARTED / kept(base, "many", STARTED)}


def idle(folder, function):
    """What environments that wait for a call hold."""
    flags = ("--pools-enabled", "false", "--account-concurrent-executions", "100000", "--environments-memory-budget", "1024GiB")
    with hearth(folder, *flags, process=True) as (base, process):
        create(base, "waits", *function, memory=128)
        bench("once", invocations(base, "waits"), PAYLOAD)
        settled(process)
        (own, everything), open_before = memory(process.pid), descriptors(process.pid)
        kept(base, "waits", IDLE)
        own_then, everything_then = memory(process.pid)
        each = (everything_then - everything) / IDLE
        return {
            "n": IDLE, "ownMb": (own_then - own) / IDLE / 1e6, "allMb": each / 1e6, "fitIn20Gb": int(HOST / each),
            "descriptors": (descriptors(process.pid) - open_before) / IDLE,
        }


def first_calls(folder, function):
    """Calls of functions that were never called, all at once."""
    with hearth(folder, process=True) as (base, process):
        create(base, "before", *function, memory=128)
        bench("once", invocations(base, "before"), PAYLOAD)
        for number in range(FUNCTIONS):
            create(base, f"first-{number}", *function, memory=128)
        settled(process)
        begin = threading.Barrier(CALLERS)

        def ask(number):
            connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=60)
            connection.connect()
            begin.wait()
            asked = time.perf_counter()
            connection.request("POST", invocations("", f"first-{number % FUNCTIONS}"), PAYLOAD)
            answer = connection.getresponse()
            answer.read()
            return time.perf_counter() - asked, answer.status == 200 and not answer.getheader("x-amz-function-error")

        with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
            answers = list(pool.map(ask, range(CALLERS)))
        times = sorted(took for took, _ in answers)
        return {
            "n": CALLERS, "functions": FUNCTIONS, "refused": sum(not well for _, well in answers),
            "p50Ms": times[len(times) // 2] * 1000, "p99Ms": times[int(len(times) * 0.99)] * 1000,
        }


def beside_cold_starts(folder, warm, cold):
    """A warm function alone, and while another one's new versions are called for the first time, again and again."""
    with hearth(folder, process=True) as (base, process):
        create(base, "warm", *warm)
        for number in range(COLD + 1):
            create(base, f"cold-{number}", *cold)
        for name in ("warm", f"cold-{COLD}"):
            bench("once", invocations(base, name), PAYLOAD)
        settled(process)
        alone = bench("load", invocations(base, "warm"), PAYLOAD, 1, SECONDS)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            load = pool.submit(bench, "load", invocations(base, "warm"), PAYLOAD, 1, SECONDS)
            time.sleep(0.6)
            for number in range(COLD):
                began = time.perf_counter()
                bench("once", invocations(base, f"cold-{number}"), PAYLOAD)
                time.sleep(max(0, began + SECONDS / COLD - time.perf_counter()))
            beside = load.result()
        return {"n": COLD, "aloneP99Us": alone["p99Us"], "besideP99Us": beside["p99Us"], "failed": alone["failed"] + beside["failed"]}


def measure(folder, runtimes):
    return {
        "rest": at_rest(f"{folder}/rest", "--pools-enabled", "false"),
        "restWithPools": at_rest(f"{folder}/pools"),
        "started": started(f"{folder}/started", runtimes["Rust"]),
        "idle": idle(f"{folder}/idle", runtimes["Python"]),
        "firstCalls": first_calls(f"{folder}/first", runtimes["Python"]),
        "beside": beside_cold_starts(f"{folder}/beside", runtimes["Rust"], runtimes["Python"]),
    }


def table(results):
    rest, pools, started, idle, first, beside = (
        results[name] for name in ("rest", "restWithPools", "started", "idle", "firstCalls", "beside"))
    return [
        "", "## Many environments", "",
        "| | here | wanted |", "|---|---|---|",
        f"| an idle server without pools, its own memory | {rest['ownMb']:.0f} MB | 50 |",
        f"| an idle server with pools, of one core | {pools['cpuPercent']:.1f} % | 0.5 |",
        f"| environments of one function of Rust started a second, from nothing (n {started['n']}) | {started['perSecond']:.0f} | 250 |",
        f"| Hearth's own memory for an idle environment (n {idle['n']}) | {idle['ownMb']:.2f} MB | 1 |",
        f"| an idle environment of Python, all of it | {idle['allMb']:.1f} MB | |",
        f"| of these in 20 GB, by arithmetic | {idle['fitIn20Gb']:,} | 3,000 |",
        f"| descriptors of the server for each, of which one is for a port of its own beside 4566 | {idle['descriptors']:.1f} | 5 |",
        f"| {first['n']} first calls of {first['functions']} functions of Python at once, p99 ({first['refused']} refused) | {first['p99Ms']:.0f} ms | 2,000 |",
        f"| p99 of a warm function while another cold-starts {beside['n']} times, over alone ({beside['failed']} failed) "
        f"| {beside['besideP99Us'] / beside['aloneP99Us']:.1f} | 2 |",
    ]
