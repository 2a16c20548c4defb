"""What each process may do: the server nothing, the launcher what making sandboxes takes, functions nothing."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from conftest import Functions, caller, make_client
from hearth import BINARY, children, environment, eventually, read, stock
from packages import python

ALL_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
# CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAP_SETUID, CAP_SETGID, CAP_DAC_OVERRIDE, CAP_MKNOD.
MAKING = sum(1 << bit for bit in (21, 18, 7, 6, 1, 27))
FIRST = 1879048192

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="about a server that root starts")


def status(pid):
    return dict(line.split(":\t", 1) for line in read(f"/proc/{pid}/status").splitlines() if ":\t" in line)


def capabilities(facts):
    return {name: int(facts[name], 16) for name in ALL_SETS}


def uids(facts):
    return set(map(int, facts["Uid"].split()))


def gids(facts):
    return set(map(int, facts["Gid"].split())) | set(map(int, facts["Groups"].split()))


def tasks(pid):
    return [int(task.name) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()]


@as_root
def test_only_the_launcher_has_privileges_and_only_those_it_needs(start):
    server = start()
    client = make_client(server)
    name = Functions(client).make(python("import os\nprint(open('/proc/self/status').read())\nreturn os.getpid()"), Timeout=60)
    caller(client)(name)
    # Beside the function's sandbox there is one that is nobody's yet.
    stock(server, 1)
    server_pid = server.process.pid
    for thread in tasks(server_pid):
        facts = status(f"{server_pid}/task/{thread}")
        assert uids(facts) == {FIRST} and gids(facts) == {FIRST}, facts
        assert capabilities(facts) == dict.fromkeys(ALL_SETS, 0), facts
        assert facts["NoNewPrivs"] == "1"
    [launcher] = [pid for pid in children(server_pid) if status(pid)["Name"] == "hearth-launcher"]
    facts = status(launcher)
    assert uids(facts) == {0} and facts["Threads"] == "1" and facts["NoNewPrivs"] == "1"
    held = capabilities(facts)
    assert held == {"CapInh": 0, "CapPrm": MAKING, "CapEff": MAKING, "CapBnd": MAKING, "CapAmb": 0}
    inits = children(launcher)
    assert inits
    users = []
    for init in inits:
        facts = status(init)
        assert facts["Name"] == "hearth-init" and facts["NoNewPrivs"] == "1"
        # In its own user namespace, where it has what it takes to mount and to become the function's user; an executed
        # program gets none of it.
        assert capabilities(facts)["CapBnd"] == 0 and capabilities(facts)["CapInh"] == 0
        assert os.readlink(f"/proc/{init}/ns/user") != os.readlink(f"/proc/{launcher}/ns/user")
        for function in children(init):
            for thread in tasks(function):
                facts = status(f"{function}/task/{thread}")
                assert capabilities(facts) == dict.fromkeys(ALL_SETS, 0), facts
                assert facts["NoNewPrivs"] == "1" and facts["Seccomp"] == "2"
                users.append(uids(facts) | uids(status(init)))
    everyone = [uid for pair in users for uid in pair]
    assert users and all(FIRST + 2 <= uid < FIRST + 65536 for uid in everyone), users


@as_root
def test_each_environment_has_host_uids_of_its_own(start):
    server = start()
    client = make_client(server)
    functions = Functions(client)
    for _ in range(3):
        caller(client)(functions.make(python("return 1"), Timeout=60))
    [launcher] = [pid for pid in children(server.process.pid) if status(pid)["Name"] == "hearth-launcher"]
    pairs = [set().union(*(uids(status(pid)) for pid in [init, *children(init)])) for init in children(launcher)]
    assert len(pairs) >= 3 and len(set().union(*pairs)) == sum(map(len, pairs)), pairs


@as_root
def test_the_server_runs_as_the_owner_of_its_data_folder(base, cache, data):
    data.mkdir(mode=0o700)
    os.chown(data, 54321, 54322)
    from hearth import Server

    server = Server(data, base / "cache-of-54321").start()
    facts = status(server.process.pid)
    assert uids(facts) == {54321} and gids(facts) == {54322}
    client = make_client(server)
    functions = Functions(client)
    assert caller(client)(functions.make({"index.py": "def handler(e, c):\n    return e\n"}), 1).payload == 1
    server.stop()
    assert {entry.stat().st_uid for entry in data.rglob("*")} == {54321}


@as_root
def test_roots_data_folder_is_given_to_the_first_uid_and_kept_on_the_next_start(start, data):
    data.mkdir()
    (data / "logs").mkdir()
    (data / "logs" / "old").write_text("from a server that was root")
    start().stop()
    assert {entry.stat().st_uid for entry in data.rglob("*")} == {FIRST} and data.stat().st_uid == FIRST
    start().stop()


def refused(*flags):
    done = subprocess.run(
        [BINARY, "serve", "--listen", "127.0.0.1:0", *map(str, flags)],
        capture_output=True,
        text=True,
        timeout=30,
        env=environment(),
    )
    assert done.returncode == 1, done
    return done.stderr


@as_root
def test_a_data_folder_below_a_closed_home_is_refused_with_the_reason(base, cache):
    home = base / "home"
    home.mkdir(mode=0o700)
    said = refused("--data-dir", home / "data", "--cache-dir", cache)
    assert f"{home} is closed" in said and str(FIRST) in said, said


@as_root
def test_a_folder_with_other_things_in_it_is_not_given_away(base, cache):
    folder = base / "precious"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    said = refused("--data-dir", folder, "--cache-dir", cache)
    assert "letter.txt" in said and (folder / "letter.txt").stat().st_uid == 0, said


@as_root
def test_a_cache_folder_of_somebody_else_is_refused(base, data):
    other = base / "cache-of-somebody"
    other.mkdir()
    os.chown(other, 54321, 54321)
    said = refused("--data-dir", data, "--cache-dir", other)
    assert "54321" in said and str(other) in said, said
