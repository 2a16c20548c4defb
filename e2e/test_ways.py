"""The ways of running: as root, as an ordinary user with a control group of its own, as one without; and the tiers for
hosts where no namespace can be made. The same behaviours hold in each; what differs is what `hearth doctor` says."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import uuid

import pytest

from conftest import Functions, caller, make_client
from hearth import BINARY, Server, descendants, eventually, read, start_of
from packages import python

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become users and to delegate control groups")

# A user that no host knows, and where its subordinate ids begin.
USER = 54400
SUBORDINATE = 700000000
CONTROLLERS = ("memory", "cpu", "pids", "freezer")
# Nobody in it can make a namespace, as in an ordinary container.
CONTAINER = ["unshare", "--user", "--map-root-user", "sh", "-c", 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"', "sh"]
AS_USER = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups"]


class Delegation:
    """Control groups that are the user's own, one in each hierarchy."""

    def __init__(self):
        name = f"e2e-delegated-{uuid.uuid4().hex[:8]}"
        self.folders = [pathlib.Path(point) / name for point in self.points()]
        for folder in self.folders:
            folder.mkdir()
            for file in (".", "cgroup.procs", "tasks", "cgroup.subtree_control", "cgroup.threads"):
                if (folder / file).exists():
                    os.chown(folder / file, USER, USER)

    @staticmethod
    def points():
        for line in read("/proc/self/mountinfo").splitlines():
            mount, _, system = line.partition(" - ")
            kind, _, options = system.split(" ")
            point = mount.split(" ")[4]
            if kind == "cgroup" and set(options.split(",")) & set(CONTROLLERS):
                yield point
            elif kind == "cgroup2":
                for controller in CONTROLLERS[:3]:
                    try:
                        pathlib.Path(point, "cgroup.subtree_control").write_text(f"+{controller}")
                    except OSError:
                        pass
                yield point

    def enter(self):
        places = " ".join(f"{folder}/cgroup.procs" for folder in self.folders)
        return ["sh", "-c", f'for place in {places}; do echo $$ > $place; done; exec "$@"', "sh"]

    def remove(self):
        for folder in self.folders:
            assert not [entry for entry in folder.iterdir() if entry.is_dir()], f"left in {folder}"
            eventually(f"{folder} is empty", lambda: not read(folder / "cgroup.procs"))
            folder.rmdir()


class Way:
    def __init__(self, name, base):
        self.name = name
        self.base = base
        self.isolation = name if name in ("landlock", "none") else "process"
        self.confined = name != "none"
        self.namespaces = self.isolation == "process"
        self.groups = name in ("root", "user-delegated")
        self.as_user = name != "root"
        self.delegations = []

    def start(self, *flags, wrapper=(), folder="data"):
        before = [*wrapper]
        if self.as_user:
            before = AS_USER + before
        if self.name == "user-ranges":
            before = self.ranges() + before
        if self.name == "user-delegated":
            self.delegations.append(Delegation())
            before = self.delegations[-1].enter() + before
        flags = ("--isolation", self.isolation, *flags)
        folders = (self.home() / folder, self.home() / "cache")
        return Server(*folders, *flags, before=before, binary=self.binary(), HOME=str(self.home()))

    def ranges(self):
        """Where the user has a name and subordinate ids; nobody else sees that."""
        lines = {
            "/etc/passwd": read("/etc/passwd") + f"e2e-user:x:{USER}:{USER}::/nowhere:/bin/sh\n",
            "/etc/group": read("/etc/group") + f"e2e-user:x:{USER}:\n",
            "/etc/subuid": f"e2e-user:{SUBORDINATE}:65536\n",
            "/etc/subgid": f"e2e-user:{SUBORDINATE}:65536\n",
        }
        binds = ""
        for path, text in lines.items():
            copy = self.base / pathlib.Path(path).name
            copy.write_text(text)
            binds += f"mount --bind {copy} {path}; "
        return ["unshare", "--mount", "sh", "-c", f'set -e; {binds}exec "$@"', "sh"]

    def home(self):
        home = self.base / "home"
        if not home.exists():
            home.mkdir(mode=0o755)
            if self.as_user:
                os.chown(home, USER, USER)
        return home

    def binary(self):
        # Where the user can reach it.
        copy = self.base / "bin" / "hearth"
        if not copy.exists():
            copy.parent.mkdir()
            shutil.copy(BINARY, copy)
        return str(copy)


@pytest.fixture(scope="module", params=["root", "user-delegated", "user-ranges", "user", "landlock", "none"])
def way(request, base):
    if request.param == "user-ranges" and not (shutil.which("newuidmap") and os.path.exists("/etc/subuid")):
        pytest.skip("needs newuidmap (package uidmap)")
    folder = base / f"way-{request.param}"
    folder.mkdir(mode=0o755)
    return Way(request.param, folder)


@pytest.fixture(scope="module")
def server(way):
    """One server for each way; when it ends nothing is left, neither of it nor in what it was given."""
    server = way.start("--runtimes-fetch", "false").start()
    yield server
    server.stop()
    assert not list((server.data / "scratch").glob("folder-*"))
    for delegation in way.delegations:
        delegation.remove()


def test_a_python_function_runs(way, make, call):
    answer = call(make(python("import sys\nreturn [event, sys.version_info[0], context.function_name]")), {"n": 1}, LogType="Tail")
    assert answer.error is None and answer.payload[:2] == [{"n": 1}, 3], answer.bytes
    said = "" if way.isolation == "process" else f"\tIsolation: {way.isolation}\t"
    report = answer.tail.splitlines()[-1]
    assert report.startswith("REPORT ") and (report.endswith(said) if said else "Isolation" not in report), report


def test_a_node_function_runs(make, call):
    files = {"index.mjs": "export const handler = async (event) => ({got: event, node: process.version});"}
    answer = call(make(files, Runtime="nodejs20.x", MemorySize=256), {"n": 1})
    assert answer.payload["got"] == {"n": 1}, answer.bytes


def test_a_program_of_its_own_runs(make, call):
    program = pathlib.Path(os.environ["HEARTH_E2E_RUST"]).read_bytes()
    answer = call(make({"bootstrap": program}, Runtime="provided.al2023", Handler="any"), {"n": 1})
    assert answer.status == 200 and answer.error is None, answer.bytes


def test_environments_are_the_users_that_their_way_gives(way, server, make, call):
    for _ in range(2):
        call(make(python("return 1")))
    interpreters = [pid for pid, _ in descendants(server.process.pid) if read(f"/proc/{pid}/comm").startswith("python")]
    found = [int(read(f"/proc/{pid}/status").partition("\nUid:\t")[2].split()[0]) for pid in interpreters]
    assert len(found) >= 2
    if way.name in ("root", "user-ranges"):
        first = SUBORDINATE if way.as_user else 1879048192 + 2
        assert len(set(found)) == len(found) and all(first <= uid < first + 65536 for uid in found), found
    else:
        assert set(found) == {USER}, found


def test_temporary_files_stay_with_the_environment(way, make, call):
    body = """
place = os.path.join(tempfile.gettempdir(), 'kept')
before = os.path.exists(place)
open(place, 'w').write('x')
return [before, tempfile.gettempdir()]
"""
    name, other = (make(python(body, "import os, tempfile")) for _ in range(2))
    first, second, foreign = call(name), call(name), call(other)
    assert (first.payload[0], second.payload[0], foreign.payload[0]) == (False, True, False)
    if way.namespaces:
        assert first.payload[1] == "/tmp"
    look = make(python("import os\nreturn os.listdir(event)"))
    answer = call(look, first.payload[1])
    if way.namespaces:
        assert answer.payload == []
    elif way.confined:
        assert answer.payload["errorType"] == "PermissionError", answer.bytes


def test_a_timeout_ends_the_call_and_the_next_one_works(make, call):
    name = make(python("import time\ntime.sleep(event)\nreturn 'awake'"), Timeout=1)
    answer = call(name, 60)
    assert answer.error and "timed out" in answer.payload["errorMessage"], answer.bytes
    assert call(name, 0).payload == "awake"


def test_a_crash_ends_the_call_and_the_next_one_works(make, call):
    name = make(python("if event: os._exit(3)\nreturn 'alive'", "import os"))
    answer = call(name, True)
    assert answer.error and "exit status 3" in answer.payload["errorMessage"], answer.bytes
    assert call(name, False).payload == "alive"


def test_nothing_runs_between_invocations(make, call):
    """Threads and children alike: what was counted when the first call was answered is what the second finds."""
    before = """
import os, threading, time
count = 0
def tick():
    global count
    while True:
        count += 1
        time.sleep(0.001)
threading.Thread(target=tick, daemon=True).start()
reader, writer = os.pipe()
if os.fork() == 0:
    while True:
        os.write(writer, b'x')
        time.sleep(0.001)
os.set_blocking(reader, False)
def drain():
    total = 0
    try:
        while chunk := os.read(reader, 65536): total += len(chunk)
    except BlockingIOError: return total
"""
    name = make(python("start = time.monotonic()\nticks, writes = count, drain()\ntime.sleep(0.2)\nreturn [start, ticks, count, writes, drain()]", before))
    first = call(name).payload
    idle = 1.0
    deadline = first[0] + 0.2 + idle
    import time

    time.sleep(idle)  # The time in which nothing may happen.
    second = call(name).payload
    assert second[0] >= deadline - 0.5
    # It would have ticked hundreds of times; what is left is what happened until it was stopped.
    assert first[2] > first[1] and second[2] > second[1] and second[4] > 0, (first, second)
    assert second[1] - first[2] < 300 and second[3] < 300, (first, second)


def test_what_a_function_prints_is_in_its_log(make, call):
    answer = call(make(python("print('to the log')\nreturn 1")), LogType="Tail")
    assert "to the log" in answer.tail


def test_many_processes_are_refused_and_gone_afterwards(way, make, call):
    if not way.namespaces:
        pytest.skip("nothing counts processes there, and doctor says so")
    body = """
n = 0
try:
    while n < 3000:
        if os.fork() == 0: signal.pause()
        n += 1
except OSError as error:
    return [n, error.errno]
"""
    name = make(python(body, "import os, signal"), MemorySize=1024, Timeout=60)
    made, error = call(name).payload
    assert 900 < made < 1024 and error == 11


def test_memory_is_limited_where_a_control_group_can(way, make, call):
    name = make(python("return len(bytearray(event << 20))"), MemorySize=128)
    assert call(name, 40).payload == 40 << 20
    answer = call(name, 400, LogType="Tail")
    if way.groups:
        assert answer.payload["errorType"] == "Runtime.ExitError", answer.bytes
        assert "Error Type: Runtime.OutOfMemory" in answer.tail, answer.tail
    else:
        assert answer.payload == 400 << 20
    report = call(name, 40, LogType="Tail").tail.splitlines()[-1]
    used = int(report.partition("Max Memory Used: ")[2].split()[0])
    assert 5 <= used <= 128, report


def test_functions_cannot_reach_what_is_not_theirs(way, server, make, call):
    if not way.confined:
        pytest.skip("nothing is in between")
    before = "import os, socket\n\ndef attempt(act, *arguments):\n    try: return ['done', str(act(*arguments))]\n    except OSError as error: return [error.errno, str(error)]\n"
    body = """
return {
    'data folder': attempt(os.listdir, event['data']),
    'other code': attempt(os.listdir, event['code']),
    'door': attempt(socket.create_connection, ('127.0.0.1', event['port']), 2) if event['port'] else None,
    'out': attempt(socket.create_connection, ('10.0.0.1', 80), 2),
    'server': attempt(os.kill, event['server'], 0),
    'memory of its parent': attempt(open, f'/proc/{os.getppid()}/mem', 'rb'),
    'environment of its parent': attempt(open, f'/proc/{os.getppid()}/environ', 'rb'),
}
"""
    name = make(python(body, before))
    event = {"data": str(server.data), "code": str(server.cache / "code"), "server": server.process.pid}
    # The endpoint inside has the server's port, too, where sandboxes have ports of their own.
    event["port"] = 0 if way.namespaces else server.port
    done = {what: seen for what, seen in call(name, event).payload.items() if seen and seen[0] == "done"}
    assert done == {}, done


def test_the_server_has_no_privileges(server):
    status = dict(line.split(":\t", 1) for line in read(f"/proc/{server.process.pid}/status").splitlines() if ":\t" in line)
    assert "0" not in status["Uid"].split() and status["NoNewPrivs"] == "1"
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[name], 16) == 0, status


def test_doctor_says_how_it_runs_and_what_holds(way, server):
    doctor = json.loads(server.request("GET", "/_hearth/v1/doctor")[2])
    expected = way.name if way.name in ("root", "user-delegated") else "user"
    assert (doctor["way"], doctor["isolation"]) == (expected, way.isolation)
    held = {promise["name"] for promise in doctor["promises"] if promise["held"]}
    always = {"network", "filesystem", "seccomp", "landlock", "processes"}
    groups = {"memory", "cpu", "freeze"}
    assert held == {
        "root": always | groups | {"tmp", "uid"},
        "user-delegated": always | groups,
        "user-ranges": always | {"uid"},
        "user": always,
        "landlock": {"filesystem", "seccomp", "landlock"},
        "none": set(),
    }[way.name], doctor
    for promise in doctor["promises"]:
        assert promise["held"] or (promise["why"] and promise["fix"]), promise


def doctor(command, *flags):
    done = subprocess.run([*command, "doctor", *flags], capture_output=True, text=True, timeout=60, env={"PATH": os.environ["PATH"], "HOME": "/nowhere"})
    return done.returncode, done.stdout + done.stderr


def test_doctor_needs_no_server(way):
    if way.name == "user-ranges":
        pytest.skip("as for a user without")
    command = [way.binary()]
    if way.as_user:
        command = AS_USER + command
    status, said = doctor(command, "--json", "--isolation", way.isolation)
    document = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert status == (0 if way.confined else 1), said
    assert document["isolation"] == way.isolation and len(document["promises"]) == 10
    strict, _ = doctor(command, "--strict", "--isolation", way.isolation)
    assert strict == (0 if all(promise["held"] for promise in document["promises"]) else 1)


def test_a_killed_server_leaves_nothing_that_the_next_one_does_not_remove(way):
    def used():
        server = way.start("--runtimes-fetch", "false", folder="killed").start()
        client = make_client(server)
        body = "import os, tempfile\nif os.fork() == 0:\n    while True: pass\nopen(tempfile.gettempdir() + '/left', 'w')\nreturn 1"
        assert caller(client)(Functions(client).make(python(body))).payload == 1
        return server

    first = used()
    family = descendants(first.process.pid)
    first.kill()
    eventually("its processes are gone", lambda: all(start_of(pid) != started for pid, started in family))
    again = used()
    assert len(list((again.data / "scratch").glob("folder-*"))) <= 2
    again.stop()
    assert not list((again.data / "scratch").glob("folder-*"))


@pytest.fixture
def contained(base):
    """A user for whom no namespace can be made."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=base))
    folder.chmod(0o755)

    def start(isolation, **settings):
        way = Way(isolation, folder)
        way.as_user = True
        return way.start("--runtimes-fetch", "false", wrapper=CONTAINER)

    return start


def test_where_no_confinement_is_possible_functions_do_not_run(contained):
    server = contained("process").start(ready=False)
    status, _, body = server.request("GET", "/_hearth/ready")
    assert status == 503 and "namespace" in json.loads(body)["reasons"][0], body
    client = make_client(server)
    name = Functions(client).make(python("return 1"))
    with pytest.raises(client.exceptions.ServiceException, match="cannot run confined on this host.*namespace"):
        caller(client)(name)
    found = json.loads(server.request("GET", "/_hearth/v1/doctor")[2])
    assert not any(promise["held"] for promise in found["promises"])
    server.stop()
    status, said = doctor([*AS_USER, *CONTAINER, server.binary])
    assert status == 1 and "namespace" in said, said


@pytest.mark.parametrize("isolation", ["landlock", "none"])
def test_the_weaker_tiers_need_no_namespace(contained, isolation):
    server = contained(isolation).start()
    client = make_client(server)
    answer = caller(client)(Functions(client).make(python("return event")), 7, LogType="Tail")
    assert answer.payload == 7 and answer.tail.rstrip("\n").endswith(f"Isolation: {isolation}\t"), answer.tail
    server.stop()


@pytest.mark.parametrize("isolation", ["landlock", "none"])
def test_root_can_ask_for_a_weaker_tier(base, isolation):
    folder = pathlib.Path(tempfile.mkdtemp(dir=base))
    folder.chmod(0o755)
    server = Server(folder / "data", folder / "cache", "--isolation", isolation, "--runtimes-fetch", "false").start()
    client = make_client(server)
    answer = caller(client)(Functions(client).make(python("import os\nreturn os.getuid()")), LogType="Tail")
    assert answer.payload == server.data.stat().st_uid != 0
    assert answer.tail.rstrip("\n").endswith(f"Isolation: {isolation}\t"), answer.tail
    server.stop()
