"""Sandboxes and runtimes prepared ahead of need: nobody's until one is taken, and then no different from one made for its
function. What functions could leave to one another in them is looked for in `test_traces.py`."""

import json
import os
import pathlib
import re
import signal
import subprocess
import threading

import pytest

from conftest import Functions, caller, make_client
from hearth import BINARY, children, eventually, inits, parked, read, runs_a_function, stock, waits
from packages import HEALTHY, python
from test_lifecycle import at_once, begun

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to look into control groups and namespaces")

# However many are started at once.
ONE = ("--pools-memory", "1MiB")
SLOW = python("print('begun', flush=True)\ntime.sleep(event)\nreturn os.listdir('/tmp')", before="import os, time")

# Everything that a function can see of where it is. Numbers that differ from sandbox to sandbox are left out.
FACTS = """
import os, re, resource, socket

def read(path):
    with open(path) as file: return file.read()

def status():
    told = dict(line.split(':\\t', 1) for line in read('/proc/self/status').splitlines() if ':\\t' in line)
    changing = ('Vm', 'Rss', 'voluntary', 'nonvoluntary', 'HugetlbPages', 'Hugetlb', 'Threads', 'Mems', 'Cpus', 'Speculation', 'x86')
    return {name: value for name, value in told.items() if not name.startswith(changing)}

def mounts():
    found = []
    for line in read('/proc/self/mountinfo').splitlines():
        left, right = line.split(' - ')
        # Without the ids of mounts, devices and loop devices.
        fields = left.split(' ')
        found.append([fields[4:6], re.sub(r'/dev/loop\\d+', 'loop', right)])
    # In the order in which they were made, and `/tmp` is made beside the others.
    return sorted(found)

def file(path):
    facts = os.stat(path)
    return [path, oct(facts.st_mode), facts.st_uid, facts.st_gid]

def facts():
    descriptors = {fd: re.sub(r'\\d+', 'N', os.readlink(f'/proc/self/fd/{fd}')) for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')}
    return {
        'status': status(), 'mounts': mounts(), 'descriptors': descriptors,
        'limits': read('/proc/self/limits'), 'cgroup': read('/proc/self/cgroup'),
        'oom': read('/proc/self/oom_score_adj'), 'host': socket.gethostname(), 'directory': os.getcwd(),
        'ids': [os.getpid(), os.getppid(), os.getsid(0), os.getpgid(0)],
        'tmp': os.listdir('/tmp'), 'files': [file(path) for path in ('/', '/tmp', '/var/task', '/dev', '/proc', '/dev/null')],
        'processes': sorted(name for name in os.listdir('/proc') if name.isdigit()),
        'listening': sorted(line.split()[1] for line in read('/proc/self/net/tcp').splitlines()[1:] if line.split()[3] == '0A'),
        'environment': {name: value for name, value in os.environ.items() if name not in event_named},
    }

# Of one environment each.
event_named = ('AWS_LAMBDA_LOG_STREAM_NAME', 'AWS_LAMBDA_LOG_GROUP_NAME', 'AWS_LAMBDA_FUNCTION_NAME', '_X_AMZN_TRACE_ID',
               'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN', 'AWS_XRAY_CONTEXT_MISSING')
"""


def serving(server):
    return {pid for pid in inits(server) if runs_a_function(pid)}


def groups_of(server, pid):
    """The folders of the control groups of one process: by hierarchy, its own first where they are one."""
    found = []
    for line in read(f"/proc/{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", *(f"/sys/fs/cgroup/{name}" for name in controllers.split(",") if name)):
            folder = pathlib.Path(top + path)
            if server.instance in path and folder.exists():
                found.append(folder)
    return found


def test_before_anything_runs_nothing_is_prepared(start):
    server = start()
    # A sandbox was made to see whether that can be done.
    eventually("the end of every sandbox", lambda: not inits(server))
    Functions(make_client(server)).make(HEALTHY)
    assert inits(server) == []


@as_root
def test_a_prepared_sandbox_becomes_the_next_functions_and_another_takes_its_place(start):
    server = start(*ONE)
    client = make_client(server)
    first, second = Functions(client).make(HEALTHY), Functions(client).make(SLOW, MemorySize=192)
    caller(client)(first, 1)
    [prepared] = stock(server, 1)
    before = serving(server)
    unlimited = [read(folder / "memory.limit_in_bytes") or read(folder / "memory.max") for folder in groups_of(server, prepared)]
    assert str(192 << 20) not in [text.strip() for text in unlimited]
    assert caller(client)(second, 0).payload == []
    assert serving(server) - before == {prepared}
    limits = [read(folder / "memory.limit_in_bytes") or read(folder / "memory.max") for folder in groups_of(server, prepared)]
    assert str(192 << 20) in [text.strip() for text in limits]
    [next_one] = stock(server, 1)
    users = [re.findall(r"^Uid:\t(\d+)", read(f"/proc/{pid}/status"), re.M)[0] for pid in (prepared, next_one, *before)]
    assert len(set(users)) == 3, "each has a uid of its own"


def test_a_prepared_sandbox_is_as_one_that_was_made_for_its_function(start, base):
    facts = []
    for flags, count in (ONE, 1), (("--pools-enabled", "false"), 0):
        server = start(*flags, data=base / f"data-pools-{count}")
        client = make_client(server)
        name = Functions(client).make(python("return facts()", before=FACTS), FunctionName="facts")
        first = caller(client)(name).payload
        stock(server, count)
        Functions(client).change(name, python("return facts()", before=FACTS + "\n# Again"))
        second = caller(client)(name).payload
        # Paths and ports are the server's.
        text = json.dumps([first, second]).replace(server.instance, "INSTANCE").replace(str(server.port), "PORT")
        text = re.sub(r"/INSTANCE/\d+", "/INSTANCE/N", text.replace(f"{server.port:04X}", "PORT"))
        facts += json.loads(text)
        server.stop()
    for other in facts[1:]:
        assert other == facts[0]


def test_as_many_are_prepared_as_were_started_at_once(start):
    server = start()
    client = make_client(server)
    name = Functions(client).make(SLOW)
    at_once(4, lambda _: caller(client)(name, 2))
    # More than one were started within the second; how many, the machine decides.
    eventually("a stock", lambda: len([pid for pid in inits(server) if not runs_a_function(pid)]) >= 2)


@pytest.mark.parametrize("flags", [("--pools-enabled", "false"), ("--pools-memory", "0")])
def test_without_pools_nothing_is_prepared(start, flags):
    server = start(*flags)
    client = make_client(server)
    for _ in range(3):
        assert caller(client)(Functions(client).make(HEALTHY), 1).payload == {"healthy": 1}
    assert len(inits(server)) == 3 and len(serving(server)) == 3


def test_an_idle_environment_takes_few_descriptors_of_the_server(start):
    server = start("--pools-enabled", "false")
    client = make_client(server)
    name = Functions(client).make(SLOW)
    opened = lambda: len(os.listdir(f"/proc/{server.process.pid}/fd"))
    caller(client)(name, 0)
    before = opened()
    at_once(20, lambda _: caller(client)(name, 2))
    many = len(inits(server)) - 1
    assert many > 10
    # Two listeners for the endpoint's ports, the Runtime API's and its connection, the way out, the init, two pipes of the log;
    # and callers.
    assert opened() - before <= 8 * many + 40, many


def test_a_prepared_sandbox_that_was_killed_fails_no_call(start):
    server = start(*ONE)
    client = make_client(server)
    for round in range(3):
        caller(client)(Functions(client).make(HEALTHY), round)
        [prepared] = stock(server, 1)
        # Once its init, once what waits in it.
        [waiting] = children(prepared)
        os.kill(prepared if round % 2 == 0 else waiting, signal.SIGKILL)
        assert caller(client)(Functions(client).make(HEALTHY), round).payload == {"healthy": round}


def test_a_server_that_ends_ends_what_is_prepared_while_calls_finish(start):
    server = start()
    client = make_client(server)
    name = Functions(client).make(SLOW)
    answers = []
    calling = threading.Thread(target=lambda: answers.append(caller(client)(name, 2)))
    calling.start()
    begun(server, name, 1)
    stock(server, 1)
    server.process.send_signal(signal.SIGTERM)
    eventually("only the function's own", lambda: [runs_a_function(pid) for pid in inits(server)] == [True])
    calling.join()
    assert answers[0].payload == []
    assert server.process.wait(30) == 0


AHEAD = "no environment was free; a runtime that was started ahead of need was taken"

# What a function can see of how its runtime was started, beside `FACTS`.
PYTHON_PROBE = FACTS + """
import gc, json, locale, posix, signal, subprocess, sys, threading, time

modules, searched = sorted(sys.modules), sorted(sys.path_importer_cache)

def more():
    return facts() | {
        'modules': modules, 'searched': searched, 'path': sys.path, 'argv': [sys.argv, sys.orig_argv], 'flags': str(sys.flags),
        'command': read('/proc/self/cmdline'), 'name': read('/proc/self/comm'), 'meta path': [str(type(one)) for one in sys.meta_path],
        'order': [name for name in os.environ], 'raw': [name.decode() for name in posix.environ],
        'child': sorted(line.split('=')[0] for line in subprocess.run(['/usr/bin/env'], capture_output=True, text=True).stdout.splitlines()),
        'zone': time.tzname, 'locale': locale.getlocale(), 'threads': threading.active_count(), 'opt': os.listdir('/opt'),
        'signals': {str(number): str(signal.getsignal(number)) for number in signal.valid_signals()}, 'gc': [gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()],
        'streams': [[str(type(one)), one.encoding, one.errors, one.line_buffering] for one in (sys.stdin, sys.stdout, sys.stderr)],
        'recursion': sys.getrecursionlimit(), 'switch': sys.getswitchinterval(), 'umask': os.umask(0o22),
    }
"""
NODE_PROBE = """
const fs = require('node:fs');
const loaded = process.moduleLoadList.slice(), cached = Object.keys(require.cache);
const read = (path) => fs.readFileSync(path, 'latin1');
const named = /LOG_(STREAM|GROUP)_NAME|_ACCESS_KEY|_TOKEN|_ID$/;
exports.handler = async () => {
  const handles = process._getActiveHandles().map((handle) => handle.constructor.name);
  const resources = process.getActiveResourcesInfo();
  return {
    loaded, cached, handles, resources,
    environment: Object.entries(process.env).map(([name, value]) => [name, named.test(name) ? '' : value]),
    argv: process.argv, execArgv: process.execArgv, title: process.title, directory: process.cwd(),
    descriptors: fs.readdirSync('/proc/self/fd').map((fd) => {
      try { return [fd, fs.readlinkSync(`/proc/self/fd/${fd}`).replace(/\\d+/g, 'N')]; } catch { return []; }
    }),
    limits: read('/proc/self/limits'), command: read('/proc/self/cmdline'), comm: read('/proc/self/comm'),
    heap: require('node:v8').getHeapStatistics().heap_size_limit, cpus: require('node:os').availableParallelism?.(),
    listeners: process.eventNames().map((name) => [String(name), process.listenerCount(name)]),
    globals: Object.getOwnPropertyNames(globalThis), paths: require('node:module').globalPaths, found: module.paths,
    parent: module.parent && module.parent.children.map((child) => child.filename), main: String(process.mainModule),
    zone: Intl.DateTimeFormat().resolvedOptions().timeZone, names: require('node:dns').getServers(), umask: process.umask(),
    child: require('node:child_process').execFileSync('/usr/bin/env').toString().split('\\n').map((line) => line.split('=')[0]).sort(),
    opt: fs.readdirSync('/opt'), tmp: fs.readdirSync('/tmp'),
  };
};
"""
PROBES = {
    "python3.11": lambda mark: python("return more()", before=PYTHON_PROBE + f"# {mark}"),
    "nodejs20.x": lambda mark: {"index.js": NODE_PROBE.replace("\\\\", "\\") + f"// {mark}"},
}
RANDOM = {
    "python3.11": python(
        "return {'random': random.random(), 'uuid': str(uuid.uuid4()), 'secret': secrets.token_hex(), 'hash': hash('a text')}",
        before="import random, secrets, uuid",
    ),
    "nodejs20.x": {
        "index.js": "const crypto = require('node:crypto');\nexports.handler = async () => ({ random: Math.random(), uuid: crypto.randomUUID(), "
        "secret: crypto.randomBytes(16).toString('hex'), integer: crypto.randomInt(2 ** 47) });"
    },
}


def explain(server, *arguments):
    command = [BINARY, "--endpoint", server.url, "explain", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"AWS_ACCESS_KEY_ID": "test"})
    return done.returncode, done.stdout, done.stderr


def reason(server, answer):
    status, said, complaint = explain(server, answer.request_id, "--json")
    assert status == 0, complaint
    return json.loads(said)["reason"]


def begin_ahead(server, name, change, payload=None):
    """Calls a function, each time in a new environment, until it has a runtime that was started ahead of need."""
    client, rounds = make_client(server), iter(range(100))

    def called():
        # What waits meanwhile may be for what was started before.
        change(next(rounds))
        answer = caller(client)(name, payload)
        assert answer.error is None, answer.bytes
        return answer if reason(server, answer) == AHEAD else None

    # A debug build takes its time to read an interpreter for the names that it knows.
    return eventually(f"a runtime ahead of {name}", called, patience=90)


def renewed(client, name):
    """Changes the configuration, so that the next call is in a new environment."""

    def change(number):
        configuration = client.get_function_configuration(FunctionName=name)
        variables = configuration.get("Environment", {}).get("Variables", {}) | {"PAIRING_NUMBER": str(number)}
        client.update_function_configuration(FunctionName=name, Environment={"Variables": variables})
        client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.02, "MaxAttempts": 500})

    return change


@as_root
@pytest.mark.parametrize("runtime", PROBES)
def test_a_runtime_started_ahead_is_as_one_that_was_started_for_its_function(start, base, runtime):
    facts = []
    for flags in (), ("--pools-enabled", "false"):
        server = start(*flags, data=base / f"data-ahead-{runtime}-{len(facts)}")
        client = make_client(server)
        probe, functions = PROBES[runtime], Functions(client)
        settings = {"Runtime": runtime, "MemorySize": 512, "Environment": {"Variables": {"TABLE_NAME": "orders", "ORDERS_TOPIC": "a b"}}}
        name = functions.make(probe("first"), FunctionName="facts", **settings)
        if flags:
            answer = caller(client)(name)
            assert "a sandbox was made for it" in reason(server, answer)
        else:
            answer = begin_ahead(server, name, lambda number: functions.change(name, probe(number)))
        assert answer.error is None, answer.bytes
        text = json.dumps(answer.payload).replace(server.instance, "INSTANCE").replace(str(server.port), "PORT")
        facts.append(json.loads(re.sub(r"/INSTANCE/\d+", "/INSTANCE/N", text.replace(f"{server.port:04X}", "PORT"))))
        server.stop()
    for fact in facts[1]:
        assert facts[0][fact] == facts[1][fact], fact
    assert facts[0].keys() == facts[1].keys()


@as_root
@pytest.mark.parametrize("runtime", RANDOM)
def test_random_numbers_are_of_each_environment(start, runtime):
    server = start()
    client = make_client(server)
    name = Functions(client).make(RANDOM[runtime], Runtime=runtime)
    change = renewed(client, name)
    seen = [begin_ahead(server, name, change).payload for _ in range(4)]
    for kind in seen[0]:
        assert len({answer[kind] for answer in seen}) == len(seen), (kind, seen)


@as_root
def test_what_acts_at_the_start_is_not_shared_and_what_brings_its_own_start_is_not_started_ahead(start):
    server = start()
    client = make_client(server)
    functions = Functions(client)
    zone = python("import time\nreturn time.tzname")
    variables = lambda **values: {"Environment": {"Variables": values}}
    plain = functions.make(zone)
    assert begin_ahead(server, plain, renewed(client, plain)).payload == ["UTC", "UTC"]
    # One of that kind waits, but it has another time zone.
    eventually("another", lambda: parked(server))
    berlin = functions.make(zone, **variables(TZ="Europe/Berlin"))
    answer = caller(client)(berlin)
    assert answer.payload == ["CET", "CEST"] and reason(server, answer) != AHEAD
    assert begin_ahead(server, berlin, renewed(client, berlin)).payload == ["CET", "CEST"]
    wrapper = "#!/bin/sh\nexec \"$@\"\n"
    for files, settings, said in (
        (HEALTHY | {"wrapper": wrapper}, variables(AWS_LAMBDA_EXEC_WRAPPER="/var/task/wrapper"), "AWS_LAMBDA_EXEC_WRAPPER starts it"),
        (HEALTHY, variables(PYTHONPATH="/var/task/python"), "PYTHONPATH acts when it starts"),
        (HEALTHY, variables(LD_PRELOAD=""), "LD_PRELOAD acts when it starts"),
        (HEALTHY | {"lib/libmine.so": "x"}, {}, "there are libraries in /var/task/lib, where the loader looks when it starts"),
    ):
        answer = caller(client)(functions.make(files, **settings), 1)
        assert reason(server, answer).endswith(f"a runtime could not be started ahead of need: {said}"), answer.bytes


@as_root
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_runtime_that_died_or_hangs_while_it_waited_fails_no_call(start, how):
    server = start()
    client = make_client(server)
    functions = Functions(client)
    first = functions.make(HEALTHY)
    caller(client)(first, 0)
    [init] = eventually("a runtime that waits", lambda: parked(server))
    [waiting] = [pid for pid in children(init) if waits(pid)]
    # It is complete when it blocks at its socket.
    eventually("it waits", lambda: "S" in re.findall(r"^State:\t(.)", read(f"/proc/{waiting}/status"), re.M))
    os.kill(waiting, how)
    answer = caller(client)(functions.make(HEALTHY), 1)
    assert answer.payload == {"healthy": 1}
    assert waiting not in [pid for init in inits(server) for pid in children(init) if not waits(pid)]
    if how == signal.SIGKILL:
        eventually("another in its place", lambda: parked(server))


def test_explain_says_why_an_invocation_was_cold_and_where_its_time_went(server, make):
    client = make_client(server)
    name = make(HEALTHY)
    cold, warm = caller(client)(name, 1), caller(client)(name, 2)
    status, said, _ = explain(server, cold.request_id, "--json")
    document = json.loads(said)
    assert status == 0 and document["requestId"] == cold.request_id and document["start"] == "cold"
    assert document["functionArn"].endswith(f":function:{name}") and document["reason"].startswith("no environment was free; ")
    assert [phase["name"] for phase in document["phases"]] == ["queue", "sandbox", "runtime", "code", "init", "first byte"]
    assert all(phase["ms"] >= 0 for phase in document["phases"]) and sum(phase["ms"] for phase in document["phases"]) > 0
    status, said, _ = explain(server, cold.request_id)
    first, *phases = said.splitlines()
    assert status == 0 and first == f"cold start: {document['reason']}"
    assert [re.fullmatch(r"([a-z ]+?) +\d+\.\d\d ms", line)[1] for line in phases] == [phase["name"] for phase in document["phases"]]
    document = json.loads(explain(server, warm.request_id, "--json")[1])
    assert (document["start"], document["reason"]) == ("warm", "an environment was idle")
    assert [phase["name"] for phase in document["phases"]] == ["first byte"]
    status, said, complaint = explain(server, "11111111-2222-3333-4444-555555555555")
    assert status == 1 and not said and "no invocation" in complaint
    metrics = read_metrics(server)
    assert sum(value for series, value in metrics.items() if series.startswith("hearth_cold_starts_total{")) >= 1
    assert metrics['hearth_cold_start_microseconds_total{phase="init"}'] > 0


def read_metrics(server):
    text = server.request("GET", "/_hearth/metrics")[2].decode()
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {series: float(value) for series, value in lines}
