"""Functions that mean harm: they harm themselves. Meanwhile a neighbour is served and the server stays as large as it
was; afterwards the same function works.

With `HEARTH_E2E_RATIO=2` the neighbour's warm p99 may at most double while they do it, by the medians of a few turns with and
without: for a machine with nothing else to do.
"""

import concurrent.futures
import os
import re
import statistics
import time

import pytest

from conftest import wait_updated
from hearth import eventually, quiet, resident
from packages import HEALTHY, python, zipped
from test_lifecycle import begun

RATIO = float(os.environ.get("HEARTH_E2E_RATIO", "0"))
# One turn's p99 says more of what the host's other guests do than of ours.
TURNS = 5 if RATIO else 1
# What the server may grow by in memory, bytes: its queues and buffers have limits, and a debug build is no smaller.
GROWTH_MAX = 256 << 20

HARM = {
    "index.py": r'''
import ctypes, errno, os, resource, select, signal, socket, sys, threading, time

API = ("127.0.0.1", 9001)

def handler(event, context):
    return globals()[event["do"]](event, context)

def nothing(event, context):
    return "fine"

def fork_bomb(event, context):
    print("begun", flush=True)
    while True:
        try:
            os.fork()
        except OSError:
            pass

def thread_bomb(event, context):
    threads = 0
    threading.stack_size(65536)
    try:
        while True:
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
            threads += 1
    except RuntimeError:
        return threads

def memory_bomb(event, context):
    kept = []
    while True:
        kept.append(bytearray(8 << 20))

def memory_bomb_of_a_child(event, context):
    for _ in range(3):
        if os.fork() == 0:
            time.sleep(600)
    if os.fork() == 0:
        memory_bomb(event, context)
    time.sleep(600)

def descriptors(event, context):
    opened = 0
    try:
        while True:
            os.dup(1)
            opened += 1
    except OSError as error:
        return [opened, errno.errorcode[error.errno]]

def inodes(event, context):
    files = 0
    try:
        while True:
            os.close(os.open(f"/tmp/{files}", os.O_CREAT | os.O_WRONLY))
            files += 1
    except OSError as error:
        return [files, errno.errorcode[error.errno]]

def disk(event, context):
    written = 0
    try:
        with open("/tmp/all", "wb", buffering=0) as file:
            while True:
                written += file.write(bytes(1 << 20))
    except OSError as error:
        os.unlink("/tmp/all")
        return [written, errno.errorcode[error.errno]]

def log_flood(event, context):
    print("begun", flush=True)
    lines = b"x" * 1023 + b"\n"
    while True:
        os.write(1, lines * 64)

def log_rate(event, context):
    """What gets through to the log in a while."""
    written, began = 0, time.monotonic()
    lines = (b"x" * 1023 + b"\n") * 64
    while (took := time.monotonic() - began) < event["seconds"]:
        written += os.write(1, lines)
    return [written, took]

def deaf(event, context):
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    print("begun", flush=True)
    while True:
        time.sleep(1)

def signals(event, context):
    refused = []
    for pid in (1, -1):
        try:
            os.kill(pid, signal.SIGUSR1 if pid == -1 else signal.SIGKILL)
        except OSError as error:
            refused.append(errno.errorcode[error.errno])
    ticks = []
    signal.signal(signal.SIGALRM, lambda *_: ticks.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        pass
    signal.setitimer(signal.ITIMER_REAL, 0)
    return [refused, len(ticks) > 0]

signal.signal(signal.SIGUSR1, signal.SIG_IGN)

def clocks(event, context):
    libc = ctypes.CDLL(None, use_errno=True)
    time_of_day = (ctypes.c_long * 2)(0, 0)
    said = []
    for call in (lambda: libc.clock_settime(0, time_of_day), lambda: libc.settimeofday(time_of_day, None)):
        said.append(errno.errorcode[ctypes.get_errno()] if call() else "done")
    return said

def connections(event, context):
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    print("begun", flush=True)
    made = 0
    for child in range(4):
        if os.fork() == 0:
            kept = []
            end = time.monotonic() + 2
            while time.monotonic() < end:
                try:
                    one = socket.socket()
                    one.setblocking(False)
                    one.connect_ex(API)
                    kept.append(one)
                except OSError:
                    time.sleep(0.01)
            os._exit(0)
    for child in range(4):
        os.wait()
    return "survived"

MALFORMED = [
    b"\0" * 4096,
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET " + b"/a" * 100000 + b" HTTP/1.1\r\n\r\n",
    b"POST /2018-06-01/runtime/invocation/x/response HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /2018-06-01/runtime/invocation/x/response HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]

def malformed(event, context):
    for n in range(400):
        with socket.create_connection(API, 5) as one:
            try:
                one.sendall(MALFORMED[n % len(MALFORMED)])
                one.shutdown(socket.SHUT_WR)
                one.settimeout(5)
                while one.recv(65536):
                    pass
            except OSError:
                pass
    return "survived"

def post(path, body=b"stolen"):
    with socket.create_connection(API, 10) as one:
        head = f"POST /2018-06-01/runtime/invocation/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        one.sendall(head.encode() + body)
        answer = b""
        while piece := one.recv(65536):
            answer += piece
    return answer.split(b" ", 2)[1].decode()

def ids(event, context):
    wrong = ["", "x", "../next", "%00", event.get("of", "y"), context.aws_request_id.upper() + "0", "a" * 10000]
    return [post(f"{id}/{end}") for id in wrong for end in ("response", "error")]

kept = []

def slow_bodies(event, context):
    for n in range(60):
        one = socket.create_connection(API, 5)
        path = ["x", context.aws_request_id][n % 2] if event.get("own") else "x"
        one.sendall(f"POST /2018-06-01/runtime/invocation/{path}/error HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{{".encode())
        kept.append(one)
    for _ in range(10):
        for one in kept:
            one.send(b" ")
        time.sleep(0.05)
    return len(kept)

def endpoint(event, context):
    """Large requests to Hearth itself, many at a time, whose ends never come."""
    print("begun", flush=True)
    kept, piece, end = [], bytes(1 << 20), time.monotonic() + 3
    for _ in range(60):
        one = socket.create_connection(("127.0.0.1", 4566), 5)
        one.sendall(b"POST /2015-03-31/functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 70000000\r\n\r\n")
        one.setblocking(False)
        kept.append(one)
    sent = 0
    while time.monotonic() < end:
        for one in kept:
            try:
                sent += one.send(piece)
            except OSError:
                pass
    return sent

def endpoint_rate(event, context):
    """How long the answers to so many requests take, all of them asked at once."""
    asked = b"GET /_hearth/ready HTTP/1.1\r\nHost: localhost\r\n\r\n" * event["many"]
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", 4566), 5) as one:
        one.settimeout(30)
        threading.Thread(target=one.sendall, args=(asked,), daemon=True).start()
        answers, rest = 0, b""
        while answers < event["many"]:
            piece = rest + one.recv(65536)
            answers += piece.count(b"HTTP/1.1 ")
            rest = piece[-8:]
    return [answers, time.monotonic() - began]

def endpoint_connections(event, context):
    """How many of many connections are served while all stay open, and then once some have gone."""
    poll, kept = select.poll(), {}
    for _ in range(event["many"]):
        one = socket.create_connection(("127.0.0.1", 4566), 5)
        one.sendall(b"GET /_hearth/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
        kept[one.fileno()] = one
        poll.register(one, select.POLLIN)
    def served(enough, patience):
        found = set()
        while len(found) < enough and (ready := poll.poll(patience)):
            for number, _ in ready:
                poll.unregister(number)
                found.add(number)
        return found
    first = served(64, 20000)
    late = served(1, 500)
    for number in list(first)[:event["many"] - 64]:
        kept.pop(number).close()
    return [len(first), len(late), len(served(event["many"] - 64, 20000))]
'''
}


def p99(times):
    return sorted(times)[int(len(times) * 0.99)]


@pytest.fixture
def neighbour(make, call):
    """Calls a function that means no harm, until told to stop; answers how long each call took."""
    # With a CPU of its own: what its own quota holds up says nothing of others.
    name = make(HEALTHY, MemorySize=1769)
    call(name, 0)
    if RATIO:
        quiet()

    def calls(until):
        times = []
        while not times or not until():
            began = time.monotonic()
            assert call(name, len(times)).payload == {"healthy": len(times)}
            times.append(time.monotonic() - began)
        return times

    return calls


@pytest.fixture
def ordeal(server, make, call, neighbour):
    """Lets a function do harm beside a neighbour; answers what it was answered. Then it must work again."""

    def ordeal(what, event=None, **settings):
        name = make(HARM, **({"Timeout": 10, "MemorySize": 256} | settings))
        assert call(name, {"do": "nothing"}).payload == "fine"
        before, alone, beside = resident(server.process.pid), [], []
        for _ in range(TURNS):
            deadline = time.monotonic() + 3
            if RATIO:
                alone.append(p99(neighbour(lambda: time.monotonic() > deadline)))
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                harm = pool.submit(call, name, {"do": what} | (event or {}), LogType="Tail")
                beside.append(p99(neighbour(harm.done)))
                answer = harm.result()
        if RATIO:
            without, meanwhile = statistics.median(alone), statistics.median(beside)
            assert meanwhile <= RATIO * without, f"{what}: {without:.4f} s, then {meanwhile:.4f} s"
        assert resident(server.process.pid) - before < GROWTH_MAX, what
        assert call(name, {"do": "nothing"}).payload == "fine", f"after {what}"
        return answer

    return ordeal


def timed_out(answer, seconds):
    assert answer.payload["errorType"] == "Sandbox.Timedout", answer.bytes
    assert answer.payload["errorMessage"].endswith(f"Task timed out after {seconds}.00 seconds")


@pytest.mark.parametrize("what, memory", [("fork_bomb", 1024), ("log_flood", 1769), ("deaf", 256)])
def test_what_does_not_end_is_ended(ordeal, what, memory):
    timed_out(ordeal(what, Timeout=4, MemorySize=memory), 4)


def test_threads_have_a_limit(ordeal):
    assert 900 < ordeal("thread_bomb", MemorySize=512).payload <= 1024


@pytest.mark.parametrize("what", ["memory_bomb", "memory_bomb_of_a_child"])
def test_memory_has_a_limit_and_a_function_dies_as_one(ordeal, what):
    answer = ordeal(what, MemorySize=128, Timeout=60)
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == "Runtime.ExitError", answer.bytes
    assert "Status: error\tError Type: Runtime.OutOfMemory" in answer.tail
    assert answer.payload["errorMessage"].endswith("Error: Runtime exited with error: signal: killed")


def test_descriptors_have_a_limit(ordeal):
    opened, why = ordeal("descriptors").payload
    assert 900 < opened < 1024 and why == "EMFILE"


@pytest.mark.parametrize("what, least, most", [("inodes", 16_000, 16_500), ("disk", 510 << 20, 512 << 20)])
def test_temporary_storage_has_a_limit(ordeal, what, least, most):
    used, why = ordeal(what, MemorySize=1769, Timeout=60).payload
    assert least < used <= most and why == "ENOSPC"


def test_a_flood_of_lines_drowns_no_neighbours_line(server, make, call):
    flood = make(HARM, Timeout=5, MemorySize=512)
    said = make(python("print('a line of mine')"))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        flooding = pool.submit(call, flood, {"do": "log_flood"})
        begun(server, flood, 1)
        call(said)
        path = f"/_hearth/v1/functions/{said}/logs?grep=mine"
        eventually("the neighbour's line", lambda: b"a line of mine" in server.request("GET", path)[2])
        timed_out(flooding.result(), 5)


def test_a_flood_gets_through_at_its_own_rate(ordeal):
    answer = ordeal("log_rate", {"seconds": 4}, Timeout=30, MemorySize=1769)
    written, took = answer.payload
    # 8 MB at once, then 8 MB a second, and what its pipe holds.
    assert written <= (8 + 8 * took + 2) * (1 << 20), (written, took)


def test_an_init_that_never_ends_is_tried_again_within_the_invocation(make, call):
    once = "import os\nif not os.path.exists('/tmp/once'):\n    open('/tmp/once', 'w').close()\n    while True: pass\n"
    name = make(python("return 'fine'", before=once))
    assert call(name).payload == "fine"


def test_a_function_whose_init_never_ends_works_once_its_code_does(client, make, call):
    name = make(python("pass", before="while True: pass"), Timeout=1)
    timed_out(call(name), 1)
    client.update_function_code(FunctionName=name, ZipFile=zipped(HEALTHY))
    wait_updated(client, name)
    assert call(name, 1).payload == {"healthy": 1}


def test_signals_reach_nobody_else(ordeal):
    refused, ticked = ordeal("signals", MemorySize=1769, Timeout=60).payload
    assert refused[:1] in (["EPERM"], ["ESRCH"], []) and ticked


def test_clocks_cannot_be_set(ordeal):
    assert ordeal("clocks").payload == ["EPERM", "EPERM"]


@pytest.mark.parametrize("what", ["connections", "malformed"])
def test_the_runtime_api_survives(ordeal, what):
    assert ordeal(what, Timeout=60).payload == "survived"


def test_bodies_that_come_slowly_hold_up_nobody(ordeal):
    assert ordeal("slow_bodies", Timeout=60).payload == 60


def test_a_slow_answer_of_its_own_ends_with_the_time_of_the_call(ordeal):
    timed_out(ordeal("slow_bodies", {"own": True}, Timeout=4), 4)


def test_large_requests_to_the_endpoint_stay_in_the_callers_socket(ordeal):
    assert ordeal("endpoint", Timeout=60).error is None


def test_the_endpoint_answers_at_its_own_rate(ordeal):
    answers, took = ordeal("endpoint_rate", {"many": 5000}, Timeout=60, MemorySize=1769).payload
    # 2,000 at once, then 1,000 a second.
    assert answers == 5000 and took > 2.9


def test_the_endpoint_serves_so_many_connections_of_one_environment(ordeal):
    assert ordeal("endpoint_connections", {"many": 70}, Timeout=60).payload == [64, 0, 6]


def test_nobody_answers_for_another(server, make, call):
    slow = make(python("print('begun', context.aws_request_id, flush=True)\ntime.sleep(3)\nreturn 'mine'", before="import time"))
    thief = make(HARM, Timeout=20)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(call, slow)
        begun(server, slow, 1)
        logs = server.request("GET", f"/_hearth/v1/functions/{slow}/logs?grep=begun")[2].decode()
        stolen = re.search(r"begun ([0-9a-f-]{36})", logs)[1]
        statuses = call(thief, {"do": "ids", "of": stolen}).payload
        assert set(statuses) <= {"400", "404", "431"}, statuses
        assert running.result().payload == "mine"
