"""A Hearth under test: the real binary on a folder of its own, and what must be left of it when it ends: nothing."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import ssl
import subprocess
import time
import urllib.parse

BINARY = os.environ.get("HEARTH_BIN", "hearth")
# A debug build on a busy machine of two cores is given time; nothing waits when it need not.
PATIENCE = float(os.environ.get("HEARTH_E2E_PATIENCE", "30"))


def eventually(what, check, patience=None):
    """Calls `check` until it answers something true, and returns that."""
    deadline = time.monotonic() + (patience or PATIENCE)
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.01)


def quiet():
    """Waits until the machine does little else: a server that began on an empty cache fills it behind its first calls."""

    def is_quiet():
        (busy, idle), _, (busy_then, idle_then) = ticks(), time.sleep(1), ticks()
        return (busy_then - busy) <= (idle_then - idle) / 10

    eventually("a quiet machine", is_quiet, patience=120)


def ticks():
    user, nice, system, idle, waiting, *others = map(int, read("/proc/stat").split("\n", 1)[0].split()[1:])
    return user + nice + system + sum(others[:3]), idle + waiting


# Where a host's own interpreters are, without those of version managers, of which a machine may have many.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(**more):
    """What a command is started with: nothing of the caller's settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    return kept | more


class Server:
    """One `hearth serve`. `data` outlives it, so that another can be started on it."""

    def __init__(self, data, cache, *flags, before=(), binary=BINARY, authorities=None, **variables):
        self.data = pathlib.Path(data)
        self.cache = pathlib.Path(cache)
        self.flags = flags
        # A command that becomes the server.
        self.before = before
        self.binary = binary
        # A file with whom to trust, of a server that speaks TLS.
        self.authorities = authorities and str(authorities)
        self.variables = variables
        self.process = None
        self.log = self.data.with_name(self.data.name + ".log")

    def start(self, ready=True):
        arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", self.data, "--cache-dir", self.cache, *self.flags]
        begin = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.before, self.binary, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(**{"PATH": SYSTEM_PATH} | self.variables),
                cwd=self.data.parent,
                start_new_session=True,
            )

        def address():
            said = self.said(begin)
            found = re.search(r"listening on (https?://\S+)", said)
            assert found or self.process.poll() is None, f"ended at its start: {said}"
            return found and found[1]

        try:
            self.url = eventually("the address", address)
            self.port = urllib.parse.urlsplit(self.url).port
            if ready:
                eventually("readiness", lambda: self.status("/_hearth/ready") == 200)
        except BaseException as failure:
            self.kill()
            failure.add_note(f"its log:\n{self.said(begin)[-4000:]}")
            raise
        return self

    def said(self, begin=0):
        with open(self.log, "rb") as log:
            log.seek(begin)
            return log.read().decode(errors="replace")

    @property
    def instance(self):
        return (self.data / "instance").read_text().strip()

    def request(self, method, path, body=None, headers=None, timeout=30):
        """Status, headers (lower case) and body of one plain request."""
        if self.authorities:
            context = ssl.create_default_context(cafile=self.authorities)
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, names, answer.read()

    def status(self, path):
        try:
            return self.request("GET", path)[0]
        except OSError:
            return None

    def lambda_request(self, method, path, body=None, headers=None, account="test", region="us-east-1", timeout=30):
        """As `request`, with the signature scope of a Lambda call. A body that is not text becomes JSON."""
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        return self.request(method, path, body, scope("lambda", account, region) | (headers or {}), timeout)

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, patience=None):
        """Ends it as an operator does, and checks that it ends well and leaves nothing."""
        family = descendants(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=patience or PATIENCE)
        assert status == 0, f"ended with {status}: {self.said()[-2000:]}"
        self.assert_nothing_left(family)

    def assert_nothing_left(self, family=()):
        """The kernel takes namespaces and loop devices down a little after their last process."""
        deadline = time.monotonic() + 10
        while found := self.left(family):
            assert time.monotonic() < deadline, "left behind:\n" + "\n".join(found)
            time.sleep(0.05)

    def left(self, family):
        """Processes, mounts, loop devices and cgroups of this instance."""
        found = [f"process {pid}" for pid, started in family if start_of(pid) == started]
        found += held((self.instance, str(self.data)))
        for folder, folders, _ in os.walk("/sys/fs/cgroup"):
            found += [f"cgroup {folder}/{name}" for name in folders if self.instance in name]
        return found


def launcher(server):
    return next(pid for pid in children(server.process.pid) if read(f"/proc/{pid}/comm").startswith("hearth-launcher"))


def inits(server):
    """Of every sandbox, whether a function has it or it is prepared for one."""
    return [pid for pid in children(launcher(server)) if read(f"/proc/{pid}/comm").startswith("hearth-init")]


def runs_a_function(init):
    return any(not read(f"/proc/{pid}/comm").startswith("hearth") and not waits(pid) for pid in children(init))


def waits(pid):
    """Whether a process is a runtime that was started ahead of need: it has the socket by which it is told whose it is."""
    return os.path.lexists(f"/proc/{pid}/fd/61")


def parked(server):
    """The inits of prepared sandboxes in which a runtime waits."""
    return [pid for pid in inits(server) if any(waits(child) for child in children(pid))]


def stock(server, count):
    """The inits of prepared sandboxes without a runtime, once there are so many and each is complete: with its first
    process ready."""

    def complete():
        prepared = [pid for pid in inits(server) if not runs_a_function(pid) and pid not in parked(server)]
        return len(prepared) == count and all(
            "\nSeccomp:\t2\n" in read(f"/proc/{child}/status") for pid in prepared for child in children(pid) or [0]
        )

    eventually(f"a stock of {count}", complete)
    return [pid for pid in inits(server) if not runs_a_function(pid) and pid not in parked(server)]


def held(names):
    """Mounts and loop devices on files whose paths hold one of these names."""
    mounts = read("/proc/self/mountinfo").splitlines()
    found = [f"mount {line}" for line in mounts if any(name in line for name in names)]
    for device in pathlib.Path("/sys/block").glob("loop*/loop/backing_file"):
        backing = read(device)
        if any(name in backing for name in names):
            found.append(f"loop device {device} on {backing}")
    return found


def scope(service, account="test", region="us-east-1"):
    """The header that says who calls which service."""
    credential = f"{account}/20260101/{region}/{service}/aws4_request"
    signature = "AWS4-HMAC-SHA256 Credential={}, SignedHeaders=host;x-amz-date, Signature={}"
    return {"Authorization": signature.format(credential, "0" * 64), "X-Amz-Date": "20260101T000000Z"}


def read(path):
    try:
        return pathlib.Path(path).read_text(errors="replace")
    except OSError:
        return ""


def start_of(pid):
    """When a process was started, which with its id names it. None when it is gone, or only waits to be reaped."""
    fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if fields and fields[0] not in "ZX" else None


def resident(pid):
    """Memory that a process has now, bytes."""
    return int(re.search(r"^VmRSS:\s+(\d+) kB", read(f"/proc/{pid}/status"), re.M)[1]) << 10


def children(pid):
    found = []
    # It may end meanwhile.
    with contextlib.suppress(FileNotFoundError):
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
            found += [int(child) for child in read(task).split()]
    return found


def descendants(pid):
    """`(pid, start)` of every process below this one, and its own."""
    found, waiting = [], [pid]
    while waiting:
        current = waiting.pop()
        started = start_of(current)
        if started is not None:
            found.append((current, started))
            waiting += children(current)
    return found
