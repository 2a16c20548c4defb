"""Confinement as the shipped binary has it. What a function cannot do stands in crates/sandbox/tests/escapes."""

import importlib.util
import os
import pathlib

from hearth import BINARY
from packages import python


def test_the_shipped_binary_cannot_be_told_to_do_without_a_layer():
    assert b"HEARTH_TEST_WITHOUT" not in pathlib.Path(BINARY).read_bytes()


def test_numpy_computes_under_the_filter(make, call):
    folder = pathlib.Path(importlib.util.find_spec("numpy").origin).parent
    files = {
        str(path.relative_to(folder.parent)): path.read_bytes()
        for part in (folder, folder.parent / "numpy.libs")
        for path in part.rglob("*")
        if path.is_file() and "tests" not in path.parts and path.suffix not in (".pyc", ".a")
    }
    body = "import numpy\nmatrix = numpy.eye(300) * 2\nreturn [float((matrix @ matrix).sum()), numpy.linalg.inv(matrix)[0, 0].item()]"
    name = make(files | python(body), MemorySize=1024, Timeout=60)
    assert call(name).payload == [1200.0, 0.5]


def test_a_function_has_one_filter_and_no_capability(make, call):
    body = "return dict([part.strip() for part in line.split(':\\t', 1)] for line in open('/proc/self/status') if ':\\t' in line)"
    status = call(make(python(body))).payload
    assert (status["Seccomp"], status["Seccomp_filters"], status["NoNewPrivs"]) == ("2", "1", "1")
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}


def test_node_lists_the_interfaces(make, call):
    source = "const os = require('os');\nexports.handler = async () => Object.keys(os.networkInterfaces());\n"
    name = make({"index.js": source}, Runtime="nodejs20.x")
    # The second is the address on which newer runtimes see the Runtime API, the third the way out, as on AWS.
    out = ["vinternal_1"] if os.path.exists("/dev/net/tun") else []
    assert call(name).payload == ["lo", "lo:0", *out]


def test_nothing_of_the_host_is_in_etc_and_sys_and_at_the_top(make, call):
    body = """
empty = ['/sys', '/mnt', '/opt', '/home', '/root', '/run', '/srv', '/media', '/boot']
found = {top: sorted(os.listdir(top)) for top in ['/', '/etc', '/dev', *empty] if os.path.isdir(top)}
return [found, open('/etc/passwd').read(), socket.gethostname()]
"""
    found, users, name = call(make(python(body, "import os, socket"))).payload
    filled = {"bin", "dev", "etc", "lib", "lib64", "proc", "sbin", "tmp", "usr", "var"}
    assert "sys" in found["/"] and {name for name in found["/"] if found.get(f"/{name}") != []} <= filled, found
    assert set(found["/dev"]) == {"fd", "full", "null", "random", "stderr", "stdin", "stdout", "urandom", "zero"}
    made = {"group", "hosts", "localtime", "mtab", "nsswitch.conf", "os-release", "passwd", "pki", "resolv.conf"}
    # Of the host's there are certificates, and where its libraries are.
    assert made <= set(found["/etc"]) <= made | {"ssl", "ld.so.cache"}, found["/etc"]
    assert {line.split(":")[0] for line in users.splitlines()} == {"root", "sbx_user1051"}
    assert name == "localhost"
