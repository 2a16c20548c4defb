"""Sandboxes prepared ahead of need: nobody's until one is taken, and then no different from one made for its function."""

import json
import os
import pathlib
import re
import signal
import threading

import pytest

from conftest import Functions, caller, make_client
from hearth import children, eventually, inits, read, runs_a_function, stock
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
