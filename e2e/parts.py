"""What tests need of the ecosystem, unmodified: fetched from the registries and built when it is first needed, and kept in
the target folder, by a name that follows from what it is made of."""

import functools
import hashlib
import inspect
import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile

from packages import zipped

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
TARGET = pathlib.Path(os.environ.get("HEARTH_E2E_PARTS", "parts"))


def part(*sources):
    """A function that fills a folder becomes one that answers where that folder is kept. It is made of these files, and of
    the function's own text and arguments."""

    def wrap(fill):
        @functools.cache
        def kept(*arguments):
            key = hashlib.sha256(inspect.getsource(fill).encode() + repr(arguments).encode())
            for source in sources:
                for path in sorted((FIXTURES / source).rglob("*")):
                    key.update(path.read_bytes() if path.is_file() else b"")
            place = TARGET / f"{fill.__name__}-{key.hexdigest()[:16]}"
            if not place.exists():
                TARGET.mkdir(parents=True, exist_ok=True)
                made = pathlib.Path(tempfile.mkdtemp(dir=TARGET))
                try:
                    fill(made, *arguments)
                    made.chmod(0o755)
                    made.rename(place)
                finally:
                    shutil.rmtree(made, ignore_errors=True)
            return place

        return kept

    return wrap


def run(*command, cwd=None, **variables):
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=os.environ | variables, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def files(folder, below="", without=()):
    """What a folder holds, as files of a package below another; folders of these names are left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not set(without) & set(inside.parts):
            found[str(pathlib.Path(below) / inside)] = path.read_bytes()
    return found


def layer(folder, name="layer.zip"):
    """The zip that a part keeps."""
    return (folder / name).read_bytes()


# Programs.


@part("go-function")
def go_function(place):
    go(place, ".")


@part("go-function")
def go_stress(place):
    go(place, "./stress")


def go(place, program):
    """A program of `fixtures/go-function`: `bootstrap`."""
    shutil.copytree(FIXTURES / "go-function", place / "source")
    # As AWS says to build for `provided` runtimes.
    flags = ["-trimpath", "-tags", "lambda.norpc", "-ldflags", "-s -w"]
    run("go", "build", *flags, "-o", place / "bootstrap", program, cwd=place / "source", CGO_ENABLED="0", GOFLAGS="-mod=readonly")


def rust(name):
    """A program of `fixtures/rust-bootstrap`."""
    return pathlib.Path(os.environ["HEARTH_E2E_RUST"]).with_name(name).read_bytes()


@part()
def crate(place, name, version, program, *profile):
    """A program as it is published on crates.io; quickly built where no other profile is named."""
    # What is built of other versions stays beside it.
    built = TARGET / "crates"
    run(
        "cargo", "install", "--quiet", "--locked", "--profile", *(profile or ["dev"]), "--root", place, "--target-dir", built,
        "--version", version, "--bin", program, name,
        cwd=place, CARGO_PROFILE_DEV_DEBUG="false", CARGO_PROFILE_DEV_STRIP="true", CARGO_INCREMENTAL="0",
    )  # fmt: skip


@part()
def kinesis_local(place):
    """A Kinesis whose shards come to an end: `main.js`."""
    run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "kinesis-local@0.6.2", cwd=place)
    for path in list((place / "node_modules/kinesis-local").iterdir()):
        path.rename(place / path.name)


# Java.


@part("java-function")
def java_function(place):
    """`lib` with AWS's client and what it needs, and the compiled function."""
    source = FIXTURES / "java-function"
    plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
    run("mvn", "-B", "-q", "-f", source / "pom.xml", plugin, "-DincludeScope=runtime", f"-DoutputDirectory={place}/lib")
    run("javac", "--release", "17", "-cp", f"{place}/lib/*", "-d", place / "classes", *source.rglob("*.java"))


JAVA_MODULES = "java.base,java.desktop,java.management,java.sql,jdk.unsupported"


@part()
def java_layer(place):
    """The parts of Debian's JDK that AWS's client needs, below `java` of a layer."""
    options = ["--strip-debug", "--no-header-files", "--no-man-pages", "--add-modules", JAVA_MODULES]
    run("jlink", *options, "--output", place / "java")
    (place / "layer.zip").write_bytes(zipped(files(place / "java", "java")))
    shutil.rmtree(place / "java")


JAVA_BOOTSTRAP = """#!/bin/sh
exec /opt/java/bin/java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto \\
    -cp '/var/task:/var/task/lib/*' com.amazonaws.services.lambda.runtime.api.client.AWSLambda "$_HANDLER"
"""


def java_package():
    place = java_function()
    return {"bootstrap": JAVA_BOOTSTRAP} | files(place / "lib", "lib") | files(place / "classes")


# Ruby: the host's own, as no registry that the tests reach has another.

RUBY = pathlib.Path("/usr/bin/ruby")


@part()
def ruby_layer(place):
    """The host's Ruby and its standard library, below `ruby` of a layer; what is compiled of it is with the host's libraries,
    which every function sees."""
    library = run(RUBY, "-e", "print RbConfig::CONFIG['rubylibdir']")
    content = files(pathlib.Path(library), "ruby/lib")
    content["ruby/bin/ruby"] = pathlib.Path(os.path.realpath(RUBY)).read_bytes()
    (place / "layer.zip").write_bytes(zipped(content))


# Python.


@part()
def python_layer(place):
    """This interpreter and its standard library, below `python-own` of a layer: `provided` runtimes have none."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = pathlib.Path(sysconfig.get_path("stdlib"))
    unwanted = ("__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "ensurepip", "turtledemo", "tkinter")
    content = files(library, f"python-own/lib/{version}", (*unwanted, f"config-{version[6:]}-{sys.platform}"))
    content["python-own/bin/python3"] = pathlib.Path(os.path.realpath(sys.executable)).read_bytes()
    (place / "layer.zip").write_bytes(zipped(content))


@part()
def python_packages(place, *requirements):
    """Packages of PyPI as `pip install --target` lays them."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--target", place / "python", *requirements)
    for folder in list((place / "python").rglob("__pycache__")) + [place / "python/bin"]:
        shutil.rmtree(folder, ignore_errors=True)


# A web framework, and what serves it.
FASTAPI = ("fastapi==0.165.0", "uvicorn==0.54.0")

PYTHON_BOOTSTRAP = """#!/bin/sh
exec /opt/python-own/bin/python3 -m awslambdaric "$_HANDLER"
"""


def python_package():
    """A function beside AWS's client for Python."""
    client = python_packages("awslambdaric==4.2.2")
    return {"bootstrap": PYTHON_BOOTSTRAP} | files(client / "python") | files(FIXTURES / "python-function")


# Node.js.


def installed(place, source):
    for name in ("package.json", "package-lock.json"):
        shutil.copy(FIXTURES / source / name, place)


@part("node-client")
def node_client(place):
    """AWS's client for Node.js with its compiled part, which npm builds by the headers of the Node.js beside it."""
    installed(place, "node-client")
    machine = {"x86_64": "x64", "aarch64": "arm64"}[os.uname().machine]
    node = place / f"node_modules/node-22-{machine}"
    run("npm", "ci", "--no-audit", "--no-fund", cwd=place, npm_config_nodedir=str(node))
    (place / "layer.zip").write_bytes(zipped({"bin/node": (node / "bin/node").read_bytes()}))
    client = place / "node_modules/aws-lambda-ric"
    shutil.move(client, place / "client")
    shutil.rmtree(place / "node_modules")
    assert (place / "client/rapid-client.node").exists()


NODE_BOOTSTRAP = """#!/bin/sh
exec /opt/bin/node /var/task/node_modules/aws-lambda-ric/index.mjs
"""


def node_package():
    client = files(node_client() / "client", "node_modules/aws-lambda-ric", ("deps", "src", "scripts", "node-addon-api"))
    return {"bootstrap": NODE_BOOTSTRAP} | client | files(FIXTURES / "node-function")


@part("node-packages")
def node_packages(place):
    """What functions of Node.js bring along: Powertools, Express, sharp."""
    installed(place, "node-packages")
    run("npm", "ci", "--no-audit", "--no-fund", cwd=place)


def needed(modules, *names):
    """Packages of a `node_modules`, and those that they need, as files of a package."""
    found, waiting = {}, list(names)
    while waiting:
        name = waiting.pop()
        folder = modules / name
        if name in found or not folder.exists():
            continue
        found[name] = files(folder, f"node_modules/{name}")
        about = json.loads((folder / "package.json").read_text())
        waiting += [*about.get("dependencies", {}), *about.get("optionalDependencies", {})]
    return {path: content for content in found.values() for path, content in content.items()}


@part()
def adapter(place, *profile):
    """Lambda Web Adapter, as its layer has it: the extension, and the script that starts applications."""
    built = crate("lambda_web_adapter", "0.9.1", "lambda-adapter", *profile)
    shutil.copytree(built / "bin", place / "bin")
    home = pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo")
    source = next(home.glob("registry/src/*/lambda_web_adapter-0.9.1"))
    shutil.copy(source / "layer/bootstrap", place / "bootstrap")
