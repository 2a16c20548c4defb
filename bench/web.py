"""What a web application costs behind Lambda Web Adapter and a function URL, over the same application reached directly."""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import urls
from servers import TARGET, bench, create, end, free_port, hearth, package, until_open

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
os.environ.setdefault("HEARTH_E2E_PARTS", str(TARGET / "e2e-parts"))
import parts  # noqa: E402

APPLICATION = """
from fastapi import FastAPI

app = FastAPI()

@app.post("/")
async def hello():
    return {"hello": "world"}
"""
COMMAND = ("-m", "uvicorn", "--log-level", "warning", "--host", "127.0.0.1")
START = f'#!/bin/bash\nexec python {" ".join(COMMAND)} --port "$PORT" main:app\n'
RUNTIME = "python{}.{}".format(*sys.version_info)
PORT, BODY = "8000", "{}"


def measure(folder):
    """In turns, one caller, on one interpreter."""
    packages, adapter = parts.python_packages(*parts.FASTAPI) / "python", parts.adapter("release")
    layer = {"extensions/lambda-adapter": adapter / "bin/lambda-adapter", "bootstrap": adapter / "bootstrap"}
    layer = package({name: path.read_bytes() for name, path in layer.items()})
    code = package({"main.py": APPLICATION.encode(), "run.sh": START.encode()} | parts.files(packages))
    port = free_port()
    with hearth(folder) as base, tempfile.TemporaryDirectory() as beside:
        (pathlib.Path(beside) / "main.py").write_text(APPLICATION)
        command = [sys.executable, *COMMAND, "--port", str(port), "main:app"]
        process = subprocess.Popen(command, cwd=beside, env={**os.environ, "PYTHONPATH": str(packages)})
        try:
            until_open(port, process)
            variables = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap", "PORT": PORT, "AWS_LWA_READINESS_CHECK_PATH": "/docs"}
            create(base, "web", RUNTIME, "run.sh", code, layers=[layer], variables=variables)
            through, directly = urls.url(base, "web", "/_hearth/v1/url"), f"http://127.0.0.1:{port}/"
            bench("once", through, BODY)
            load = lambda url: bench("load", url, BODY, 1, urls.SECONDS)
            turns = [(load(directly), load(through)) for _ in range(urls.ROUNDS)]
        finally:
            end(process)
    return {
        "directP50Us": round(statistics.median(one["p50Us"] for one, _ in turns)),
        "adapterP50Us": round(statistics.median(other["p50Us"] for _, other in turns)),
        "failed": sum(one["failed"] + other["failed"] for one, other in turns),
        "n": sum(other["requests"] for _, other in turns),
    }


def table(results, warm):
    """`warm`: what a warm call costs over a bare server, microseconds."""
    direct, adapter = results["directP50Us"], results["adapterP50Us"]
    return [
        "", "## A web application", "",
        "A hello of FastAPI under uvicorn, reached directly, and as a function behind Lambda Web Adapter and a function URL; one",
        f"caller, {urls.ROUNDS} turns of each.", "",
        "| | p50 | n | failed |", "|---|---|---|---|",
        f"| reached directly | {direct} | | |",
        f"| behind the adapter and a URL | {adapter} | {results['n']} | {results['failed']} |",
        "", f"That is {100 * adapter / (direct + warm):.0f} % of the application's own time and {warm} µs, which a warm call of a function of Rust costs over",
        "the raw echo.",
    ]
