"""Measures Hearth, a bare HTTP server and AWS's runtime interface emulator side by side (script/bench)."""

import glob
import http.client
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile

import comparison
import events
import fleet
import logs
import plots
import urls
import web
from servers import BENCH, TARGET, bench, call, create, end, free_port, hearth, invocations, package, until_open

ROOT = pathlib.Path(__file__).resolve().parent.parent
WHEELS = pathlib.Path(sys.argv[2])
SECONDS = os.environ.get("BENCH_SECONDS", "5")
COLD = int(os.environ.get("BENCH_COLD", "40"))
SANDBOXES = os.environ.get("BENCH_SANDBOXES", "200")
# Seconds after which a pool has made another sandbox for one that was taken.
RESTOCKED = 0.3
PAYLOAD = json.dumps({"message": "x" * 64, "number": 1})

PYTHON = "def lambda_handler(event, context):\n    return event\n"
NODE = "exports.handler = async (event) => event;\n"
# Says when it writes, by the clock that all processes of a host share; or writes much.
STREAM = """const pause = () => new Promise((then) => setTimeout(then, 2));
exports.handler = awslambda.streamifyResponse(async ({ pieces, bytes }, stream) => {
  for (let n = 0; n < pieces; n++) {
    stream.write(`${process.hrtime.bigint()}`);
    await pause();
  }
  const piece = Buffer.alloc(1 << 16);
  for (let n = 0; n < bytes; n += piece.length) {
    if (!stream.write(piece)) await new Promise((then) => stream.once('drain', then));
  }
  stream.end();
});
"""
STREAM_PIECES, STREAM_BYTES = 300, 128 << 20


def slug(label):
    """A label as part of a function's name."""
    return label.lower().replace(".", "")


def warm(url):
    return {f"c{concurrency}": bench("load", url, PAYLOAD, concurrency, SECONDS) for concurrency in (1, 32)}


def by_callers(url, measured):
    """Calls a second by the number of callers."""
    one, many = measured["c1"]["perSecond"], measured["c32"]["perSecond"]
    return {"1": one, "32": many} | {str(callers): bench("load", url, PAYLOAD, callers, 1)["perSecond"] for callers in (2, 4, 8, 16, 64)}


def pieces(base, name, event):
    """Pieces of a streamed answer, as they come, without the framing of the event stream."""
    host, path = base.removeprefix("http://"), f"/2021-11-15/functions/{name}/response-streaming-invocations"
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request("POST", path, json.dumps(event))
    answer = connection.getresponse()
    buffer = bytearray()
    while more := answer.read1(1 << 20):
        buffer += more
        while len(buffer) >= 12 and len(buffer) >= (length := int.from_bytes(buffer[:4])):
            headers = int.from_bytes(buffer[4:8])
            if b"PayloadChunk" in buffer[12 : 12 + headers]:
                yield bytes(buffer[12 + headers : length - 4])
            del buffer[:length]


def measure_streaming(base, runtime):
    """From a function's write to its caller's read, and how much goes through."""
    create(base, "stream", runtime, "index.handler", package({"index.js": STREAM}))
    times = []
    for piece in pieces(base, "stream", {"pieces": STREAM_PIECES}):
        times.append((time.monotonic_ns() - int(piece)) / 1000)
    times.sort()
    began = time.perf_counter()
    size = sum(len(piece) for piece in pieces(base, "stream", {"bytes": STREAM_BYTES}))
    seconds = time.perf_counter() - began
    call(base, "DELETE", "/2015-03-31/functions/stream")
    return {
        "pieceP50Us": round(times[len(times) // 2]), "pieceP90Us": round(times[int(len(times) * 0.9)]), "n": len(times),
        "bytes": size, "megabytesPerSecond": round(size / seconds / 1e6),
    }


def fork_exec():
    """Fork, exec and wait of a small program: what any start costs on this machine."""
    times = []
    for _ in range(200):
        began = time.perf_counter()
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
        times.append((time.perf_counter() - began) * 1e6)
    return round(statistics.median(times))


def measure_echo():
    process = subprocess.Popen([BENCH, "echo"], stdout=subprocess.PIPE, text=True)
    try:
        return warm(process.stdout.readline().strip() + "/")
    finally:
        end(process)


def measure_warm(base, runtimes):
    results = {}
    for label, (runtime, handler, code) in runtimes.items():
        name = f"warm-{slug(label)}"
        create(base, name, runtime, handler, code)
        # On a fresh cache the first call of all waits until its runtime is made ready.
        url = invocations(base, name)
        bench("once", url, PAYLOAD)
        results[label] = warm(url)
        results[label]["byCallers"] = by_callers(url, results[label])
        call(base, "DELETE", f"/2015-03-31/functions/{name}")
    return results


def cold_call(base, number, label, runtime, handler, code):
    name = f"cold-{slug(label)}-{number}"
    create(base, name, runtime, handler, code)
    # Whatever was restocked after the last one is in stock.
    time.sleep(RESTOCKED)
    once = bench("once", invocations(base, name), PAYLOAD)
    explained = call(base, "GET", f"/_hearth/v1/invocations/{once['requestId']}")
    call(base, "DELETE", f"/2015-03-31/functions/{name}")
    return once["us"], {phase["name"]: phase["ms"] for phase in explained["phases"]}


def measure_cold(prepared, from_nothing, runtimes):
    """Two servers in turns: one with pools and one without."""
    results = {}
    for label, function in runtimes.items():
        times = {"prepared": [], "fromNothing": []}
        for number in range(COLD):
            times["prepared"].append(cold_call(prepared, number, label, *function))
            times["fromNothing"].append(cold_call(from_nothing, number, label, *function))
        results[label] = {}
        for way, ((first, _), *rest) in times.items():
            # The first one makes the runtime's root: it is shown apart.
            took = sorted(took for took, _ in rest)
            # Phases that some of them lack took no time there.
            phases = {name: statistics.median(phases.get(name, 0) for _, phases in rest) for name in rest[0][1]}
            results[label][way] = {
                "firstUs": first, "p50Us": took[len(took) // 2], "p90Us": took[int(len(took) * 0.9)], "n": len(took), "phasesMs": phases,
            }
    return results


def measure_hearth(folder, runtimes):
    with hearth(f"{folder}/prepared") as prepared:
        warm = measure_warm(prepared, runtimes)
        streaming = measure_streaming(prepared, runtimes["Node.js"][0])
        with hearth(f"{folder}/from-nothing", "--pools-enabled", "false") as from_nothing:
            cold = measure_cold(prepared, from_nothing, runtimes)
            return {"warm": warm, "streaming": streaming, "cold": cold}


def measure_emulator(folder):
    """The same Python handler under AWS's emulator and AWS's own client. It serves one call at a time."""
    binary = pathlib.Path(folder) / "aws-lambda-rie"
    wheel = zipfile.ZipFile(sorted(glob.glob(f"{WHEELS}/aws_sam_cli-*.whl"))[-1])
    machine = {"aarch64": "arm64"}.get(platform.machine(), "x86_64")
    binary.write_bytes(wheel.read(f"samcli/local/rapid/aws-lambda-rie-{machine}"))
    binary.chmod(0o755)
    task = pathlib.Path(folder) / "task"
    task.mkdir()
    (task / "lambda_function.py").write_text(PYTHON)
    port, api = free_port(), free_port()
    environment = {**os.environ, "LAMBDA_TASK_ROOT": str(task), "AWS_LAMBDA_FUNCTION_TIMEOUT": "30"}
    process = subprocess.Popen(
        [binary, "--runtime-interface-emulator-address", f"127.0.0.1:{port}", "--runtime-api-address", f"127.0.0.1:{api}",
         "--log-level", "error", sys.executable, "-m", "awslambdaric", "lambda_function.lambda_handler"],
        cwd=task, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = invocations(f"http://127.0.0.1:{port}", "function")
    try:
        until_open(port, process)
        cold = bench("once", url, PAYLOAD)["us"]
        c1 = bench("load", url, PAYLOAD, 1, SECONDS)
        try:
            c32 = bench("load", url, PAYLOAD, 32, SECONDS)
        except subprocess.CalledProcessError:
            # It ends at the first call that comes while it serves another.
            c32 = {"requests": 0, "failed": "it ended", "perSecond": 0, "p50Us": None, "p90Us": None, "p99Us": None}
        return {"warm": {"c1": c1, "c32": c32}, "coldUs": cold}
    finally:
        end(process)


def measure_confinement():
    """What a program's start and its work cost in a sandbox, without one, and without filter and Landlock."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        done = subprocess.run([TARGET / "measure/examples/cost", SANDBOXES, folder], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def functions():
    """What is measured: label, runtime, handler and package."""
    node = "nodejs" + subprocess.run(["node", "-p", "process.versions.node.split('.')[0]"], capture_output=True, text=True).stdout.strip() + ".x"
    rust = next(path for path in (TARGET / "release/bootstrap", TARGET / "release/rust-bootstrap") if path.exists())
    system = subprocess.run(["/usr/bin/python3", "-c", "import sys; print('python%d.%d' % sys.version_info[:2])"], capture_output=True, text=True).stdout.strip()
    return {
        "Python": (system, "lambda_function.lambda_handler", package({"lambda_function.py": PYTHON})),
        "Node.js": (node, "index.handler", package({"index.js": NODE})),
        "Rust": ("provided.al2023", "bootstrap", package({"bootstrap": rust.read_bytes()})),
    }


def row(name, result, echo):
    c1, c32 = result["c1"], result["c32"]
    ratio = c32["perSecond"] / echo["c32"]["perSecond"] * 100
    return (f"| {name} | {c1['p50Us']} | {c1['p90Us']} | {c1['p99Us']} | {c1['perSecond']:.0f} | {c32['p50Us'] or '–'} | {c32['p99Us'] or '–'} "
            f"| {c32['perSecond']:.0f} | {ratio:.0f} % | {c32['failed']} |")


def table(results):
    echo, hearth, emulator = results["echo"], results["hearth"], results["emulator"]
    lines = [
        "# Benchmarks", "",
        "Written by `script/bench`; every figure of one run on one machine. Compare figures of one run, not of two: the",
        "machines are shared. Times are microseconds unless they say otherwise.", "",
        f"Machine: {results['machine']['cpus']} CPUs, {results['machine']['cpu']}, kernel {results['machine']['kernel']}.",
        f"Calibration: fork, exec and wait of `/bin/true`: {results['machine']['forkExecUs']} µs.", "",
        "## Warm", "",
        "A handler that returns its event (about 100 bytes); `c1` is one caller, `c32` are 32 at once.", "",
        "| | c1 p50 | c1 p90 | c1 p99 | c1 calls/s | c32 p50 | c32 p99 | c32 calls/s | of raw echo | failed |",
        "|---|---|---|---|---|---|---|---|---|---|",
        row("raw hyper echo (calibration)", echo, echo),
    ]
    lines += [row(f"Hearth, {label}", result, echo) for label, result in hearth["warm"].items()]
    lines += [
        row("AWS's emulator, Python", emulator["warm"], echo), "",
        "Hearth's p50 at one caller over the raw echo: "
        + ", ".join(f"{label} {result['c1']['p50Us'] - echo['c1']['p50Us']} µs" for label, result in hearth["warm"].items())
        + ".", "",
        "The emulator serves one call at a time: with 32 callers it refuses most, or ends.", "",
        *plots.IN_WARM, "",
        "## Cold", "",
        "From the request's first byte to the answer's last, into a new environment: sandbox, runtime, init, call. Two servers in",
        "turns: one takes what is there ahead of need, one (`pools.enabled` off) makes each from nothing.", "",
        "| | p50 ms | p90 ms | n | first ever ms |", "|---|---|---|---|---|",
    ]
    lines += [
        f"| Hearth, {label}, {said} | {cold['p50Us'] / 1000:.1f} | {cold['p90Us'] / 1000:.1f} | {cold['n']} | {cold['firstUs'] / 1000:.1f} |"
        for label, ways in hearth["cold"].items()
        for said, cold in (("prepared", ways["prepared"]), ("from nothing", ways["fromNothing"]))
    ]
    lines.append(f"| AWS's emulator, Python (first call only; it makes no sandbox) | {emulator['coldUs'] / 1000:.1f} | | 1 | |")
    lines += ["", *plots.IN_COLD, ""]
    streaming = hearth["streaming"]
    lines += [
        "## Streaming", "",
        "A function of Node.js that streams to a caller of `InvokeWithResponseStream`.", "",
        f"From the function's write to the caller's read: p50 {streaming['pieceP50Us']} µs, p90 {streaming['pieceP90Us']} µs "
        f"(n {streaming['n']}).",
        f"Throughput of {streaming['bytes'] >> 20} MiB: {streaming['megabytesPerSecond']} MB/s.",
    ]
    lines += [
        "", "## A sandbox", "",
        "From nothing to the first words of a small program, linked dynamically; namespaces, control groups, mounts, `/tmp`,",
        "filter and Landlock included.", "",
        "| | p50 ms | p90 ms | p99 ms | n |", "|---|---|---|---|---|",
    ]
    confinement = results["confinement"]
    parts = {
        "fork and exec alone": "forkExec", "in a new sandbox": "sandbox", "in a prepared sandbox": "prepared",
        "in a new one without filter and Landlock": "withoutFilterAndWalls",
    }
    for label, part in parts.items():
        figures = confinement[part]
        p50, p90, p99 = (figures[name] / 1000 for name in ("p50Us", "p90Us", "p99Us"))
        lines.append(f"| {label} | {p50:.2f} | {p90:.2f} | {p99:.2f} | {figures['n']} |")
    start = (confinement["sandbox"]["p50Us"] - confinement["withoutFilterAndWalls"]["p50Us"]) / 1000
    messages = confinement["messages"]
    lines += [
        "", f"Filter and Landlock cost {start:.2f} ms of a start (p50). A program in a sandbox that answers messages of 512 bytes",
        f"over a socket, as a runtime does, answers {messages['ratio'] * 100:.0f} % as many with them as without (median of turns side by",
        f"side; {messages['perSecond']:.0f} and {messages['perSecondWithoutFilterAndWalls']:.0f} a second).",
    ]
    warm = hearth["warm"]["Rust"]["c1"]["p50Us"] - echo["c1"]["p50Us"]
    lines += fleet.table(results["fleet"])
    lines += urls.table(results["urls"]) + web.table(results["web"], warm) + logs.table(results["logs"])
    lines += events.table(results["events"])
    return "\n".join(lines) + "\n"


# Milliseconds of a hello world on AWS, 1,024 MB, from a zip: init and the first call, as published.
AWS_COLD = {"Python": 87, "Node.js": 143, "Rust": 16}
MARKS = "<!-- by script/bench -->\n", "<!-- end -->\n"


def summary(results):
    """What the README shows."""
    cold = results["hearth"]["cold"]
    ms = lambda label, way: f"{cold[label][way]['p50Us'] / 1000:.1f} ms"
    return "\n".join([
        "| cold start, p50 | Hearth | Hearth with nothing prepared | AWS |", "|---|---|---|---|",
        *(f"| {label} | {ms(label, 'prepared')} | {ms(label, 'fromNothing')} | {aws} ms |" for label, aws in AWS_COLD.items()),
        "",
        "From a request's first byte to its answer's last, on two shared cores ([all figures](docs/benchmarks.md), made by",
        "`script/bench`); AWS's are published ones of init and first call at 1,024 MB.",
    ]) + "\n"


def between_marks(text, new):
    before, rest = text.split(MARKS[0])
    return before + MARKS[0] + new + MARKS[1] + rest.split(MARKS[1], 1)[1]


def main():
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    results = {"machine": {"cpus": os.cpu_count(), "cpu": model, "kernel": platform.release(), "forkExecUs": fork_exec()}}
    # Where the server's own user can go, too.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        results["echo"] = measure_echo()
        results["confinement"] = measure_confinement()
        results["hearth"] = measure_hearth(folder, functions())
        results["emulator"] = measure_emulator(folder)
        results["fleet"] = fleet.measure(f"{folder}/fleet", functions())
        results["urls"] = urls.measure(f"{folder}/urls")
        results["web"] = web.measure(f"{folder}/web")
        results["events"] = events.measure(f"{folder}/events", functions()["Rust"])
        results["logs"] = logs.measure(f"{folder}/logs")
    (ROOT / "docs/benchmarks.json").write_text(json.dumps(results, indent=2) + "\n")
    plots.draw(results, ROOT / "docs/plots")
    text = table(results)
    (ROOT / "docs/benchmarks.md").write_text(text)
    readme = ROOT / "README.md"
    readme.write_text(between_marks(readme.read_text(), summary(results)))
    print(text)
    print("\n".join(comparison.said(committed(), results)))


def committed():
    """What the last committed run measured."""
    shown = subprocess.run(["git", "show", "HEAD:docs/benchmarks.json"], cwd=ROOT, capture_output=True, check=True)
    return json.loads(shown.stdout)


main()
