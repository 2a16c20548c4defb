"""Runs a function under a client of the Runtime API, and tells what came of it."""

import dataclasses
import os
import pathlib
import subprocess
import threading
import time

import fake

HERE = pathlib.Path(__file__).parent
BOOTSTRAPS = HERE.parent.parent / "bootstraps"
PYTHON = os.environ.get("HEARTH_RIC_PYTHON", "")
# A folder with `node_modules`; in it are both versions of AWS's client, and a Node.js for each.
NODE_CLIENTS = pathlib.Path(os.environ.get("HEARTH_RIC_NODE", "")) / "node_modules"
NODE_22 = os.environ.get("HEARTH_NODE") or next(NODE_CLIENTS.glob("node-22-*/bin/node"), "")
NODE_24 = next(NODE_CLIENTS.glob("node-24-*/bin/node"), "")
# For one case on a busy machine.
PATIENCE = float(os.environ.get("HEARTH_E2E_PATIENCE", "30"))


def aws_node(node, package, entry):
    """AWS's client for Node.js, with its compiled part where that was built."""
    client = NODE_CLIENTS / package
    built = any((client / folder / "rapid-client.node").exists() for folder in (".", "dist"))
    return [node, *([] if built else ["--import", HERE / "transport.mjs"]), client / entry]


COMMANDS = {
    ("python", "hearth"): lambda handler: [PYTHON, BOOTSTRAPS / "python/bootstrap.py"],
    ("python", "aws"): lambda handler: [PYTHON, "-m", "awslambdaric", handler],
    # Before Node.js 24, and since.
    ("node", "hearth"): lambda handler: [NODE_22, BOOTSTRAPS / "node/bootstrap.cjs"],
    ("node", "aws"): lambda handler: [*aws_node(NODE_22, "aws-lambda-ric-3", "bin/index.mjs"), handler],
    ("node24", "hearth"): lambda handler: [NODE_24, BOOTSTRAPS / "node/bootstrap.cjs"],
    ("node24", "aws"): lambda handler: aws_node(NODE_24, "aws-lambda-ric-4", "index.mjs"),
}


@dataclasses.dataclass
class Case:
    """A function, and what it is called with: pairs of an event and headers."""

    files: dict
    handler: str = "index.handler"
    events: list = dataclasses.field(default_factory=lambda: [({"key": "value"}, {})])
    variables: dict = dataclasses.field(default_factory=dict)
    # Log records go to a pipe of their own.
    framed: bool = False


@dataclasses.dataclass
class Outcome:
    answers: list
    output: str
    # None when the process went on.
    status: int | None
    # Types and messages of log records.
    frames: list = dataclasses.field(default_factory=list)


def run(language, client, case, folder):
    for name, content in case.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    log, writer = os.pipe()
    framed = {"_LAMBDA_TELEMETRY_LOG_FD": str(writer)} if case.framed else {}
    with fake.Server(case.events) as server:
        process = subprocess.Popen(
            [str(part) for part in COMMANDS[language, client](case.handler)],
            cwd=folder,
            env=variables(case, folder, server.address) | framed,
            pass_fds=(writer,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        os.close(writer)
        output, records = [], []
        readers = [
            threading.Thread(target=lambda: output.append(process.stdout.read())),
            threading.Thread(target=lambda: records.append(open(log, "rb").read())),
        ]
        for reader in readers:
            reader.start()

        def ended():
            process.wait()
            server.done.set()

        threading.Thread(target=ended, daemon=True).start()
        in_time = server.done.wait(PATIENCE)
        if server.answers and server.answers[-1]["path"] == "init/error":
            process.wait(PATIENCE)
        # What is between the last answer and an end of its own accord belongs to the outcome.
        status = process.poll()
        process.kill()
        for reader in readers:
            reader.join()
        assert in_time, f"{client} did not come to an end; it wrote: {output[0].decode(errors='replace')}"
    return Outcome(server.answers, output[0].decode(), status, list(frames(records[0])))


def frames(data):
    """Types and messages of what was written to the log pipe."""
    while data:
        kind, length = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
        seconds = int.from_bytes(data[8:16], "big") / 1e6
        assert abs(time.time() - seconds) < 3600, "its time"
        yield f"{kind:08x}", data[16 : 16 + length].decode()
        data = data[16 + length :]


def variables(case, folder, address):
    return {
        "PATH": os.environ["PATH"],
        "LANG": "en_US.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "TZ": ":UTC",
        "_HANDLER": case.handler,
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
        "AWS_LAMBDA_FUNCTION_NAME": "case",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/case",
        "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/02/[$LATEST]0123456789abcdef0123456789abcdef",
        "AWS_LAMBDA_RUNTIME_API": address,
        "AWS_REGION": "us-east-1",
        "LAMBDA_TASK_ROOT": str(folder),
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
    } | case.variables
