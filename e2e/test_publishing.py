"""Publishing a large package: 50 MB with 4,000 files. What it takes is reported; the memory it takes is bounded always, by
the size of what is sent.

With `HEARTH_E2E_PUBLISH=1` the times are promises, too: for a release build on a machine with nothing else to do.
"""

import base64
import hashlib
import io
import json
import os
import random
import statistics
import subprocess
import sys
import time
import uuid
import zipfile

import pytest

from conftest import ROLE, caller, make_client, wait_active
from hearth import quiet, read
from packages import HEALTHY, zipped

STRICT = os.environ.get("HEARTH_E2E_PUBLISH") == "1"
FILES, SIZE = 4000, 50_000_000
# From the call to the function's readiness, seconds.
TIME_MAX = 1.5
# What a package may add to the server's memory beside the request that brings it, bytes: it goes in pieces. A debug build is
# no smaller.
GROWTH_MAX = 32 << 20


@pytest.fixture(scope="module")
def package():
    return of_files(FILES, SIZE)


@pytest.fixture(scope="module")
def brief():
    """Of few files; a request can hold it also where some of its characters take six."""
    return of_files(40, 40_000_000)


def of_files(count, size):
    """Bytes that no compression makes smaller, with a seed."""
    chance, out = random.Random(1), io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("index.py", HEALTHY["index.py"])
        for number in range(count - 1):
            archive.writestr(f"lib/p{number % 40}/m{number}.bin", chance.randbytes(size // count - 150))
    return out.getvalue()


CALLS = """
import json, sys, threading, time
from conftest import caller, make_client
from types import SimpleNamespace

call, took, ending = caller(make_client(SimpleNamespace(url=sys.argv[1], authorities=None))), [], threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ending.set()), daemon=True).start()
while not ending.is_set() or len(took) < int(sys.argv[2]):
    begin = time.perf_counter()
    assert call("neighbour", 1).payload == {"healthy": 1}
    took.append(time.perf_counter() - begin)
    if len(took) == 1:
        print("begun", flush=True)
print(json.dumps(took))
"""


class Neighbour:
    """Another process calls a warm function again and again, and keeps how long each call took."""

    def __init__(self, server, at_least=2):
        command = [sys.executable, "-c", CALLS, server.url, str(at_least)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        assert self.process.stdout.readline() == "begun\n"
        return self

    def __exit__(self, *_):
        with self.process:
            self.took = json.loads(self.process.communicate()[0])

    @property
    def p99(self):
        return statistics.quantiles(self.took, n=100)[98]


def peak(server):
    fields = dict(line.split(":", 1) for line in read(f"/proc/{server.process.pid}/status").splitlines())
    return int(fields["VmHWM"].split()[0]) << 10


def forget_peak(server):
    with open(f"/proc/{server.process.pid}/clear_refs", "w") as file:
        file.write("5")


def in_bucket(server, package):
    s3, bucket = make_client(server, "s3"), f"b-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="code.zip", Body=package)
    return {"S3Bucket": bucket, "S3Key": "code.zip"}


def as_text(package):
    return base64.b64encode(package).decode()


@pytest.mark.parametrize("way", ["s3", "request"])
def test_a_large_package_is_published_beside_other_calls(start, package, record_property, way):
    server = start()
    client = make_client(server)
    settings = {"Runtime": "python3.11", "Handler": "index.handler", "Role": ROLE, "Timeout": 30}
    code = in_bucket(server, package) if way == "s3" else {"ZipFile": package}
    growth_max = GROWTH_MAX if way == "s3" else GROWTH_MAX + len(as_text(package))
    # With a CPU of its own: what its own quota holds up says nothing of others.
    client.create_function(FunctionName="neighbour", Code={"ZipFile": zipped(HEALTHY)}, MemorySize=1769, **settings)
    wait_active(client, "neighbour")
    caller(client)("neighbour", 1)
    if STRICT:
        quiet()
    with Neighbour(server, at_least=1000) as alone:
        pass
    forget_peak(server)
    before = peak(server)
    with Neighbour(server) as beside:
        begin = time.perf_counter()
        client.create_function(FunctionName="large", Code=code, **settings)
        answered = time.perf_counter() - begin
        wait_active(client, "large")
        ready = time.perf_counter() - begin
    growth, ratio = peak(server) - before, beside.p99 / alone.p99
    said = (
        f"{way}: {len(package) / 1e6:.1f} MB, {FILES} files: answered after {answered:.2f} s, ready after {ready:.2f} s; "
        f"memory +{growth / (1 << 20):.0f} MiB; p99 of {len(beside.took)} calls beside it {beside.p99 * 1000:.1f} ms, "
        f"{ratio:.1f} times that of {len(alone.took)} before"
    )
    print(said)
    record_property("publishing", said)
    assert growth <= growth_max, said
    assert caller(client)("large", 2).payload == {"healthy": 2}
    if STRICT:
        assert ready <= TIME_MAX and ratio <= 2, said


@pytest.fixture
def small(start):
    server = start()
    client = make_client(server)
    settings = {"Runtime": "python3.11", "Handler": "index.handler", "Role": ROLE}
    client.create_function(FunctionName="f", Code={"ZipFile": zipped(HEALTHY)}, **settings)
    wait_active(client, "f")
    return server, client


PATHS = {
    "update": ("PUT", "/2015-03-31/functions/f/code", '{"ZipFile": "%s"}'),
    "dry run": ("PUT", "/2015-03-31/functions/f/code", '{"DryRun": true, "ZipFile": "%s"}'),
    "layer": ("POST", "/2018-10-31/layers/l/versions", '{"Content": {"ZipFile": "%s"}, "Description": "d"}'),
}
# Some clients write a slash like this, or whatever HTML knows.
SPELLINGS = {
    "plain": lambda text: text,
    "slashes": lambda text: text.replace("/", "\\/"),
    "html": lambda text: text.replace("+", "\\u002b").replace("=", "\\u003D"),
}


@pytest.mark.parametrize(
    ("operation", "spelling"),
    [("update", "plain"), ("dry run", "plain"), ("layer", "plain"), ("layer", "slashes"), ("update", "html")],
)
def test_a_package_in_a_request_is_in_memory_once(small, brief, record_property, operation, spelling):
    (server, _), package = small, brief
    method, path, frame = PATHS[operation]
    body = frame % SPELLINGS[spelling](as_text(package))
    forget_peak(server)
    before = peak(server)
    status, _, said = server.lambda_request(method, path, body, timeout=100)
    growth, growth_max = peak(server) - before, GROWTH_MAX + len(body)
    assert status in (200, 201), said
    answer = json.loads(said)
    content = answer.get("Content", answer)
    assert content["CodeSha256"] == base64.b64encode(hashlib.sha256(package).digest()).decode()
    said = f"{operation}, {spelling}: memory +{growth / (1 << 20):.0f} MiB for a request of {len(body) / (1 << 20):.0f}"
    print(said)
    record_property("publishing", said)
    assert growth <= growth_max, said


def test_a_layer_from_s3_is_read_in_pieces(small, package):
    server, client = small
    content = in_bucket(server, package)
    forget_peak(server)
    before = peak(server)
    assert client.publish_layer_version(LayerName="l", Content=content)["Content"]["CodeSize"] == len(package)
    assert peak(server) - before <= GROWTH_MAX
