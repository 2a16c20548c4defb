"""Servers that are measured, and what is asked of them."""

import base64
import contextlib
import io
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile

TARGET = pathlib.Path(sys.argv[1])
BENCH = TARGET / "release/bench"


def package(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def call(base, method, path, body=None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(base + path, data=data, method=method, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{method} {path}: {error.code} {error.read().decode()}") from None


def create(base, name, runtime, handler, code, memory=1769, layers=(), variables=None):
    publish = lambda layer: call(base, "POST", f"/2018-10-31/layers/{name}/versions", {"Content": {"ZipFile": text(layer)}})
    body = {
        "FunctionName": name, "Runtime": runtime, "Handler": handler, "Role": "arn:aws:iam::000000000000:role/bench",
        "MemorySize": memory, "Timeout": 30, "Code": {"ZipFile": text(code)}, "Environment": {"Variables": variables or {}},
        "Layers": [publish(layer)["LayerVersionArn"] for layer in layers],
    }
    call(base, "POST", "/2015-03-31/functions", body)
    while call(base, "GET", f"/2015-03-31/functions/{name}")["Configuration"]["State"] != "Active":
        time.sleep(0.01)


def invocations(base, name):
    return f"{base}/2015-03-31/functions/{name}/invocations"


def text(code):
    return base64.b64encode(code).decode()


def bench(*arguments):
    return json.loads(subprocess.run([BENCH, *map(str, arguments)], check=True, capture_output=True, text=True).stdout)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until_open(port, process):
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"{process.args[0]} ended with {process.returncode}")
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"{process.args[0]} does not listen")


def until_ready(url, process):
    for _ in range(2400):
        if process.poll() is not None:
            raise SystemExit(f"{process.args[0]} ended with {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=60):
                return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"{url} does not become ready")


def end(process):
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def hearth(folder, *flags, process=False):
    """A server; its URL, and its process where that is asked for."""
    os.makedirs(folder, 0o755, exist_ok=True)
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    served = subprocess.Popen(
        [TARGET / "release/hearth", "serve", "--listen", f"127.0.0.1:{port}", "--data-dir", f"{folder}/data",
         "--cache-dir", f"{folder}/cache", "--log-level", "warn",
         # 32 functions of one CPU each hold little, but may hold more than the host has.
         "--environments-memory-budget", "64GiB", *flags], stderr=subprocess.DEVNULL)
    try:
        until_ready(f"{base}/_hearth/ready", served)
        yield (base, served) if process else base
    finally:
        end(served)


@contextlib.contextmanager
def rival(program, *flags, **variables):
    """Another emulator, where it can be installed; its URL. Functions of it run on this interpreter."""
    port = free_port()
    flags = [flag.format(port=port) for flag in flags]
    variables = {name: value.format(port=port) for name, value in variables.items()}
    process = subprocess.Popen(
        [pathlib.Path(sys.executable).with_name(program), *flags], env={**os.environ, **variables},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/var/tmp")
    try:
        until_open(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process)


def ministack():
    return rival("ministack", GATEWAY_PORT="{port}", LAMBDA_EXECUTOR="local", PERSIST_STATE="0")


def moto():
    return rival("moto_server", "-p", "{port}")
