"""Nothing left over: whoever is killed, at whatever moment, and whoever lives beside it.

`HEARTH_E2E_LEFTOVERS=1000` is the long form.
"""

import contextlib
import os
import pathlib
import random
import signal
import threading
import time
import uuid

import pytest

from conftest import Functions, caller, make_client
from hearth import Server, children, descendants, eventually, held, inits, launcher, read, runs_a_function, start_of, stock
from packages import HEALTHY, python, zipped
from test_lifecycle import begun

KILLS = int(os.environ.get("HEARTH_E2E_LEFTOVERS", "30"))
SLOW = python("print('begun', flush=True)\ntime.sleep(event)\nreturn 'done'", before="import time")
# Files whose presence or name is not an instance's to leave: the data themselves, and caches made on demand.
LASTING = ("records", "logs", "runtimes", "exact-", "lock")


class Networks:
    """Network namespaces of these processes, but for the host's. Held open, so that no other gets the number of one that
    is gone."""

    def __init__(self, family):
        own = os.readlink("/proc/self/ns/net")
        self.opened = {}
        for pid, _ in family:
            with contextlib.suppress(OSError):
                opened = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
                name = os.readlink(f"/proc/self/fd/{opened}")
                if name == own or name in self.opened:
                    os.close(opened)
                else:
                    self.opened[name] = opened

    def held(self):
        """Which of them a process or a mount on the host still has."""
        mounts = read("/proc/self/mountinfo")
        found = {name for name in self.opened if name in mounts}
        for process in pathlib.Path("/proc").glob("[0-9]*/ns/net"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(process))
        return found & set(self.opened)

    def close(self):
        for opened in self.opened.values():
            os.close(opened)


def files(server):
    """Names of files and folders below an instance's folders, but for those that are meant to last."""
    found = set()
    for top in (server.data, server.cache):
        for folder, folders, names in os.walk(top):
            below = os.path.relpath(folder, top)
            found.update(os.path.join(below, name) for name in folders + names)
    return {name for name in found if not any(part.startswith(LASTING) for part in name.split("/"))}


def census(server):
    """Of one instance: control groups, mounts and loop devices, and sandboxes."""
    groups = [
        os.path.join(folder, name)
        for folder, folders, _ in os.walk("/sys/fs/cgroup")
        for name in folders
        if server.instance in folder or server.instance in name
    ]
    return sorted(groups), held([str(server.data)]), inits(server)


class Load:
    """Calls that come and go, with new environments among them, and new code."""

    def __init__(self, server, name):
        self.server, self.name = server, name
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.go, args=(n,)) for n in range(4)]
        for thread in self.threads:
            thread.start()

    def go(self, n):
        client = make_client(self.server)
        while not self.ended.is_set():
            try:
                if n == 0:
                    files = SLOW | {"version.txt": str(random.random())}
                    client.update_function_code(FunctionName=self.name, ZipFile=zipped(files))
                else:
                    caller(client)(self.name, random.choice([0, 0, 0.05]))
            except Exception:
                # Whatever a killed server does to its callers is not this test's.
                self.ended.wait(0.02)

    def end(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()


def settled(server, before):
    """Once what takes itself down is down, the census is what it was before."""
    with contextlib.suppress(AssertionError):
        eventually("the census of before", lambda: census(server) == before)
    assert census(server) == before


@pytest.mark.timeout(120 + 20 * KILLS)
def test_whoever_is_killed_leaves_nothing_once_the_server_is_started_again(start):
    chance = random.Random(int(os.environ.get("HEARTH_E2E_SEED", "1")))
    server = start()
    name = Functions(make_client(server)).make(SLOW)
    caller(make_client(server))(name, 0)
    server.stop()
    server.start()
    # A sandbox was made to see whether that can be done; its groups go after its processes.
    only_ours = lambda: all(os.path.basename(group).startswith("hearth-") for group in census(server)[0])
    eventually("the end of every sandbox", lambda: not inits(server) and only_ours())
    before, kept = census(server), files(server)
    killed = {"server": 0, "launcher": 0, "init": 0}
    for n in range(KILLS):
        load = Load(server, name)
        time.sleep(chance.random() * 0.4)
        # Of those whose end is quickly seen there are more.
        victim = chance.choices(list(killed), [1, 1, 3])[0]
        family = descendants(server.process.pid)
        networks = Networks(family)
        if victim == "server":
            server.kill()
        elif victim == "launcher":
            os.kill(launcher(server), signal.SIGKILL)
            assert server.process.wait(30) == 1
            assert "the launcher has ended (signal: 9 (SIGKILL)), and every sandbox with it" in server.said()
        elif found := inits(server):
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(found), signal.SIGKILL)
        killed[victim] += 1
        load.end()
        if victim != "init":
            gone = lambda: [f for f in family if start_of(f[0]) == f[1]] + held([str(server.data)])
            eventually(f"an end of all that lived ({n}, {victim})", lambda: not gone())
            eventually("an end of the networks", lambda: not networks.held())
            server.start()
            settled(server, before)
        networks.close()
        try:
            answer = caller(make_client(server))(name, 0).payload
            if victim == "init" and answer != "done":
                # It was given to the environment that was killed, before that was seen. The next one is not.
                assert answer["errorType"] == "Sandbox.Failure", answer
                answer = caller(make_client(server))(name, 0).payload
            assert answer == "done", f"{n}, {victim}"
        except Exception as error:
            error.add_note(f"round {n}, {victim}; the server said last: {server.said()[-3000:]}")
            raise
    server.stop()
    server.start()
    settled(server, before)
    left = [name for name in files(server) - kept if "/" not in name or name.count("/") < 2]
    assert [name for name in left if ".new" in name or ".old" in name or ".tmp" in name or name.startswith("scratch/")] == []
    assert min(killed.values()) > 0
    print(f"{KILLS} kills, nothing left: {killed}")


def test_a_killed_launcher_ends_the_server_with_a_reason(start):
    server = start()
    client = make_client(server)
    name = Functions(client).make(SLOW)
    answers = []
    calling = threading.Thread(target=lambda: answers.append(caller(client)(name, 20)))
    calling.start()
    begun(server, name, 1)
    family = descendants(server.process.pid)
    os.kill(launcher(server), signal.SIGKILL)
    assert server.process.wait(30) == 1
    calling.join()
    assert answers[0].payload["errorType"] == "Sandbox.Failure", answers[0].bytes
    assert "the launcher has ended (signal: 9 (SIGKILL))" in server.said()
    eventually("the end of all that lived", lambda: not [pid for pid, began in family if start_of(pid) == began])
    eventually("no mount and no loop device", lambda: not held([str(server.data)]))
    # Control groups, which only the launcher may remove, go with the next one; the end of the test looks for them.
    server.start()
    assert caller(make_client(server))(name, 0).payload == "done"


def test_a_killed_init_takes_its_environment_along_and_nothing_else(start):
    server = start()
    client = make_client(server)
    functions = Functions(client)
    one, two = functions.make(SLOW), functions.make(HEALTHY)
    caller(client)(two, 1)
    serving = lambda: [pid for pid in inits(server) if runs_a_function(pid)]
    beside = serving()
    answers = []
    calling = threading.Thread(target=lambda: answers.append(caller(client)(one, 20)))
    calling.start()
    init = eventually("the other environment", lambda: [pid for pid in serving() if pid not in beside])[0]
    begun(server, one, 1)
    os.kill(init, signal.SIGKILL)
    calling.join()
    assert answers[0].payload["errorType"] == "Sandbox.Failure", answers[0].bytes
    assert caller(client)(one, 0).payload == "done"
    assert caller(client)(two, 2).payload == {"healthy": 2}
    assert beside[0] in inits(server)


@pytest.mark.parametrize("whom", ["server", "launcher"])
def test_a_killed_instance_does_not_touch_another(start, base, whom):
    one, two = start(), start(data=base / f"data-beside-{whom}")
    names = []
    for server in (one, two):
        client = make_client(server)
        names.append(Functions(client).make(SLOW))
        caller(client)(names[-1], 0)
    stock(two, 1)
    before = census(two)
    load = Load(one, names[0])
    calling = threading.Thread(target=lambda: answers.append(caller(make_client(two))(names[1], 1)))
    answers = []
    calling.start()
    os.kill(one.process.pid if whom == "server" else launcher(one), signal.SIGKILL)
    one.process.wait(30)
    load.end()
    calling.join()
    assert answers[0].payload == "done"
    assert census(two) == before
    one.start()
    assert census(two) == before, "the sweep at the start of one leaves the other alone"
    assert caller(make_client(two))(names[1], 0).payload == "done"
    assert caller(make_client(one))(names[0], 0).payload == "done"


def test_a_server_killed_while_it_makes_runtimes_ready_leaves_none_of_their_programs(base, data):
    server = Server(data, base / f"cache-{uuid.uuid4().hex[:8]}").start(ready=False)
    try:
        made_ready_by = lambda: [pid for pid in children(server.process.pid) if "hearth" not in read(f"/proc/{pid}/comm")]
        eventually("a program that makes a runtime ready", made_ready_by)
        family = descendants(server.process.pid)
    finally:
        server.kill()
    eventually("the end of all that lived", lambda: not [pid for pid, began in family if start_of(pid) == began])
