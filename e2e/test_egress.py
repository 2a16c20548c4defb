"""What functions reach on the network, and what they do not: in a made-up Internet (network.py), as root and as an
ordinary user."""

import errno
import json
import os
import shutil
import subprocess

import pytest

from conftest import Functions, caller, make_client
from hearth import BINARY, Server, eventually, read, runs_a_function, stock
from network import CLOSED, ECHO, HOST, HOST6, METADATA, NAMED, PRIVATE, PRIVATE6, PUBLIC, PUBLIC6, SHARED, SILENT, Relay, World
from packages import python

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces")

USER = 54400
# Of refusals that a kernel hears of at once.
REFUSED = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.ECONNREFUSED}
# Far from every time-out, also on a busy machine.
AT_ONCE = 5

CLIENT = """
import errno, json, os, socket, threading, time
def attempt(act, *arguments):
    began = time.monotonic()
    try:
        said = act(*arguments)
        error = None
    except OSError as e:
        said, error = repr(e), e.errno or type(e).__name__
    return {"said": said, "error": error, "s": time.monotonic() - began}
def stream(address, port, size=0):
    # Sends so much, half-closes, and reads everything that comes back.
    with socket.create_connection((address, port), 30) as s:
        file = s.makefile('rb')
        where = file.readline().decode().strip()
        payload = os.urandom(size)
        sender = threading.Thread(target=lambda: (s.sendall(payload), s.shutdown(socket.SHUT_WR)))
        sender.start()
        back = file.read()
        sender.join()
        assert back == payload, (len(back), len(payload))
        return where
def datagram(address, port, size=4):
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.settimeout(20)
        s.connect((address, port))
        payload = os.urandom(size)
        s.send(payload)
        return s.recv(65535) == payload
def names(name):
    return sorted({found[4][0] for found in socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)})
"""
ATTEMPTS = python("return [attempt(globals()[what], *arguments) for what, *arguments in event]", CLIENT)


@pytest.fixture(scope="module")
def world(base):
    folder = base / "world"
    folder.mkdir(mode=0o755)
    with World(folder) as world:
        yield world


class Inside(Server):
    """A server on the made-up host."""

    def __init__(self, world, *arguments, **settings):
        self.world, self.relay = world, None
        super().__init__(*arguments, **settings)

    def start(self, ready=True):
        super().start(ready=False)
        self.relay = Relay(self.world, self.port)
        self.url, self.port = f"http://127.0.0.1:{self.relay.port}", self.relay.port
        eventually("readiness", lambda: self.status("/_hearth/ready") == 200)
        return self

    def stop(self, patience=None):
        self.relay.close()
        super().stop(patience)


@pytest.fixture(scope="module", params=["root", "user"])
def begin(request, base, world):
    """Starts servers on the made-up host."""
    home = base / f"egress-{request.param}"
    home.mkdir(mode=0o755)
    binary = shutil.copy(BINARY, home / "hearth")
    before = world.before()
    if request.param == "user":
        os.chown(home, USER, USER)
        before += ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups"]
    servers = []

    def begin(*flags):
        flags = ("--runtimes-fetch", "false", *flags)
        servers.append(Inside(world, home / f"data-{len(servers)}", home / "cache", *flags, before=before, binary=str(binary), HOME=str(home)))
        return servers[-1].start()

    yield begin
    for server in servers:
        if server.alive():
            server.stop()


@pytest.fixture(scope="module")
def server(begin):
    return begin()


@pytest.fixture
def attempt(make, call):
    """Makes attempts in a function; answers what came of each."""
    name = make(ATTEMPTS, MemorySize=512, Timeout=120)

    def attempt(*attempts):
        answer = call(name, attempts)
        assert answer.error is None, answer.bytes
        return answer.payload

    attempt.function = name
    return attempt


def logged(server, name):
    """Lines of a function's log."""
    said = server.request("GET", f"/_hearth/v1/functions/{name}/logs")[2].decode()
    return [json.loads(line)["message"] for line in said.splitlines()]


def test_functions_reach_public_addresses(attempt):
    for made in attempt(
        ("stream", PUBLIC, ECHO), ("stream", PUBLIC6, ECHO), ("datagram", PUBLIC, ECHO), ("datagram", PUBLIC6, ECHO)
    ):
        assert made["said"] in (True, PUBLIC, PUBLIC6) and made["error"] is None, made


def test_what_is_sent_arrives_whole(attempt):
    size = 8 << 20
    for made in attempt(("stream", PUBLIC, ECHO, size), ("stream", PUBLIC6, ECHO, size), ("datagram", PUBLIC, ECHO, 60000)):
        assert made["error"] is None, made


def test_many_connections_are_kept_apart(make, call):
    body = """
def one(n, found):
    found.append(attempt(stream, event, 7000, n * 1000)['error'])
found = []
threads = [threading.Thread(target=one, args=(n, found)) for n in range(100)]
for thread in threads: thread.start()
for thread in threads: thread.join()
return found
"""
    answer = call(make(python(body, CLIENT), MemorySize=512, Timeout=120), PUBLIC)
    assert answer.payload == [None] * 100, answer.bytes


def test_who_does_not_listen_refuses_at_once(attempt):
    for made in attempt(("stream", PUBLIC, CLOSED), ("stream", PUBLIC6, CLOSED), ("datagram", PUBLIC, CLOSED)):
        assert made["error"] == errno.ECONNREFUSED and made["s"] < AT_ONCE, made


def test_what_is_not_public_is_refused_at_once_and_the_log_names_the_setting(server, attempt):
    closed = [PRIVATE, PRIVATE6, METADATA, SHARED, NAMED, "224.0.0.9", "192.168.7.7", HOST, HOST6]
    for address in closed:
        stream, datagram = attempt(("stream", address, ECHO), ("datagram", address, ECHO))
        assert stream["error"] in REFUSED and stream["s"] < AT_ONCE, (address, stream)
        assert datagram["error"] in REFUSED and datagram["s"] < AT_ONCE, (address, datagram)
    lines = [line for line in logged(server, attempt.function) if "egress.allow" in line]
    assert any(f"TCP to {PRIVATE}:{ECHO} (a private range, 10.0.0.0/8)" in line for line in lines), lines


def test_the_hosts_loopback_is_out_of_reach(attempt):
    for made in attempt(("stream", "127.0.0.1", ECHO), ("stream", "::1", ECHO), ("stream", "0.0.0.0", ECHO)):
        assert made["error"] == errno.ECONNREFUSED, made


def test_lines_about_refusals_are_few(server, attempt):
    made = attempt(*[("stream", PRIVATE, ECHO)] * 300)
    assert all(one["error"] in REFUSED for one in made)
    lines = [line for line in logged(server, attempt.function) if "Blocked: TCP" in line]
    seconds = sum(one["s"] for one in made)
    assert 10 <= len(lines) <= 12 + seconds * 1.5, (len(lines), seconds)


def test_names_have_addresses(attempt):
    found, missing = attempt(("names", "public.example"), ("names", "missing.example"))
    assert found["said"] == sorted([PUBLIC, PUBLIC6]), found
    assert missing["error"] and missing["s"] < AT_ONCE, missing


def test_a_resolver_that_is_silent_is_not_waited_for_long(attempt):
    (made,) = attempt(("names", SILENT))
    assert made["error"] and made["s"] < 20, made


def test_names_are_answered_by_stream_too(make, call):
    body = """
question = bytes.fromhex('123401000001000000000000') + b'\\x06public\\x07example\\0\\0\\x01\\0\\x01'
with socket.create_connection(('169.254.78.1', 53), 20) as s:
    s.sendall(len(question).to_bytes(2, 'big') + question)
    length = int.from_bytes(s.recv(2, socket.MSG_WAITALL), 'big')
    return s.recv(length, socket.MSG_WAITALL)[-4:].hex()
"""
    answer = call(make(python(body, CLIENT)), None)
    assert answer.payload == "cb00710a", answer.bytes


def test_environments_do_not_reach_each_other(make, call):
    listen = """
global listener
listener = socket.create_server(('0.0.0.0', 8000))
return [line.split()[0].rstrip(':') for line in open('/proc/net/dev').readlines()[2:]]
"""
    listening, other = make(python(listen, CLIENT)), make(ATTEMPTS, Timeout=60)
    devices = call(listening).payload
    assert sorted(devices) == ["lo", "vinternal_1"], devices
    made = call(other, [["stream", "169.254.76.1", 8000], ["stream", "169.254.100.1", 8000], ["stream", "169.254.76.2", 8000]]).payload
    assert [one["error"] in REFUSED for one in made] == [True] * 3, made


def test_the_setting_lets_functions_reach_more(begin):
    server = begin("--egress-allow", f"10.9.0.0/24,db.internal:{ECHO},[{PRIVATE6}]:{ECHO},{HOST}")
    functions = Functions(make_client(server))
    name = functions.make(ATTEMPTS, MemorySize=512, Timeout=120)
    attempts = [
        ("stream", PRIVATE, ECHO),
        ("datagram", PRIVATE, ECHO),
        ("stream", "inside.example", ECHO),
        ("stream", "db.internal", ECHO),
        ("stream", PRIVATE6, ECHO),
        ("stream", HOST, ECHO),
        ("stream", "db.internal", CLOSED),
        ("stream", METADATA, ECHO),
        ("stream", SHARED, ECHO),
        ("stream", HOST6, ECHO),
    ]
    made = caller(server_client(server))(name, attempts).payload
    assert [one["error"] for one in made[:6]] == [None] * 6, made
    assert all(one["error"] in REFUSED for one in made[6:]), made
    functions.delete()
    server.stop()


def server_client(server):
    return make_client(server)


def test_a_prepared_sandbox_has_its_network_before_it_is_anybodys(begin):
    server = begin("--pools-memory", "1MiB")
    functions, call = Functions(make_client(server)), caller(server_client(server))
    assert call(functions.make(ATTEMPTS, Timeout=60), [["stream", PUBLIC, ECHO]]).payload[0]["said"] == PUBLIC
    [prepared] = stock(server, 1)
    assert "vinternal_1:" in read(f"/proc/{prepared}/net/dev")
    name = functions.make(ATTEMPTS, Timeout=60)
    public, private = call(name, [["stream", PUBLIC, ECHO], ["stream", PRIVATE, ECHO]]).payload
    assert runs_a_function(prepared)
    assert public["said"] == PUBLIC and private["error"] in REFUSED, (public, private)
    # Whose it is now hears of it, in its own log.
    assert any(f"TCP to {PRIVATE}:{ECHO}" in line for line in logged(server, name))
    functions.delete()
    server.stop()


def test_nothing_is_left_on_the_host(begin, world):
    devices = world.devices()
    server = begin()
    functions = Functions(make_client(server))
    name = functions.make(ATTEMPTS, Timeout=60)
    assert caller(server_client(server))(name, [["stream", PUBLIC, ECHO]]).payload[0]["said"] == PUBLIC
    # Nothing of it is there while it runs, either.
    assert world.devices() == devices
    server.kill()
    server.relay.close()
    assert world.devices() == devices
    server.start()
    server.stop()


def explain(server, *arguments):
    command = [BINARY, "--endpoint", server.url, "explain", "network", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"AWS_ACCESS_KEY_ID": "test"})
    return done.returncode, done.stdout, done.stderr


def test_explain_says_which_rule_decides(server, make):
    name = make(ATTEMPTS)
    assert explain(server, name, f"{PUBLIC}:443") == (0, f"{PUBLIC} allowed: a public address\n", "")
    status, said, _ = explain(server, name, "inside.example:5432", "--json")
    document = json.loads(said)
    assert status == 1 and document["allowed"] is False and document["destination"] == "inside.example:5432"
    assert document["functionArn"].endswith(f":function:{name}")
    (address,) = document["addresses"]
    assert address == {
        "address": PRIVATE,
        "allowed": False,
        "rule": "a private range, 10.0.0.0/8; functions reach it when egress.allow names it",
    }
    assert explain(server, name, f"{HOST}:22")[1].startswith(f"{HOST} blocked: an address of this host")
    for arguments, said in (((name, "nowhere"), "is not a host and a port"), (("missing", "a.example:1"), "no function missing")):
        status, _, complaint = explain(server, *arguments)
        assert status == 1 and said in complaint, complaint
    assert explain(server, name, "missing.example:1")[2].endswith("\n")
