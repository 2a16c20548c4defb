"""Where runtimes come from: the host, a home of it, a registry; and what runs in place of one that is missing."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from conftest import Functions, caller, make_client
from hearth import eventually
from packages import python
from test_functions import refused

NODE = {"index.mjs": "export const handler = async (event) => ({ event, version: process.version, path: process.execPath });\n"}
ABOUT = python(
    "import json, ssl, sqlite3, ctypes\n"
    "return [platform.python_version(), sys.prefix, sys.executable, [p for p in event if os.path.exists(p)]]",
    before="import os, platform, sys",
)


def installed(server):
    status, _, body = server.request("GET", "/_hearth/v1/runtimes")
    assert status == 200
    return {each["runtime"]: each for each in json.loads(body)["runtimes"]}


def without(*programs):
    """Starts what follows where these programs of the host do not run. Everything else sees them as ever."""
    hide = "".join(f"mount --bind /dev/null {os.path.realpath(program)}; " for program in programs)
    return ["unshare", "--mount", "sh", "-c", f'set -e; {hide}exec "$@"', "sh"]


def hosts(name):
    """The host's own interpreters of a name, which are found before those of `PATH`."""
    return [program for program in pathlib.Path("/usr/bin").glob(f"{name}*") if program.name in (name, f"{name}3.11")]


@pytest.fixture
def used(start):
    """A server started so, and a way to make and to call functions of it."""

    def used(*flags, **how):
        server = start(*flags, **how)
        client = make_client(server)
        return server, Functions(client).make, caller(client)

    return used


def test_a_missing_runtime_is_substituted_where_that_is_allowed_and_the_log_says_so(used):
    server, make, call = used("--runtimes-substitute", "true")
    newest = next(name for name in installed(server) if name.startswith("python"))
    asked = "python3.14" if newest != "python3.14" else "python3.8"
    name = make(python("return [platform.python_version(), os.environ['AWS_EXECUTION_ENV']]", "import os, platform"), Runtime=asked)
    assert call(name).payload == [installed(server)[newest]["version"], f"AWS_Lambda_{asked}"]
    said = f"Runtime {asked} is not installed on this host: {newest} runs in its place (runtimes.substitute)"
    eventually("the log says so", lambda: said in server.request("GET", f"/_hearth/v1/functions/{name}/logs")[2].decode())


def test_no_runtime_is_substituted_by_one_of_another_family(used):
    server, make, _ = used("--runtimes-substitute", "true")
    name = make(python("return 1"), Runtime="java21")
    message = "Runtime java21 is not installed on this host; see hearth runtimes."
    with refused("InvalidRuntimeException", 502, message):
        make_client(server).invoke(FunctionName=name)


def test_a_host_without_node_gets_one_of_the_registry(used):
    """Fetches some 50 MB, once in a session."""
    server, make, call = used(before=without(*hosts("node")), PATH="/usr/bin:/bin:/usr/sbin:/sbin")
    node = installed(server)["nodejs22.x"]
    assert node["source"] == "package"
    name = make(NODE, Runtime="nodejs22.x", Timeout=120)
    assert call(name, 1).payload == {"event": 1, "version": f"v{node['version']}", "path": "/var/lang/bin/node"}


def test_a_host_without_node_has_none_where_nothing_is_fetched(used):
    server, make, _ = used("--runtimes-fetch", "false", before=without(*hosts("node")), PATH="/usr/bin:/bin:/usr/sbin:/sbin")
    assert not any(name.startswith("nodejs") for name in installed(server))
    message = "Runtime nodejs22.x is not installed on this host; see hearth runtimes."
    with refused("InvalidRuntimeException", 502, message):
        make_client(server).invoke(FunctionName=make(NODE, Runtime="nodejs22.x"))


@pytest.mark.parametrize("mode", [0o755, 0o700], ids=["open", "closed"])
def test_interpreters_in_a_home_are_copied_and_the_home_is_not_seen(used, base, mode):
    """Also in one that only root can enter, who the server is not."""
    home = base / f"home-{mode:o}"
    python3, node = (pathlib.Path(shutil.which(name, path="/usr/bin") or shutil.which(name)).resolve() for name in ("python3", "node"))
    made = subprocess.run([python3, "-ISc", "import os; print(os.path.dirname(os.__file__))"], capture_output=True, text=True, check=True)
    standard = pathlib.Path(made.stdout.strip())
    (home / "bin").mkdir(parents=True)
    shutil.copy(python3, home / "bin/python3")
    shutil.copy(node, home / "bin/node")
    shutil.copytree(standard, home / "lib" / standard.name, symlinks=False, ignore_dangling_symlinks=True)

    home.chmod(mode)

    server, make, call = used(
        "--runtimes-fetch", "false",
        before=without(*hosts("python3"), *hosts("node")),
        PATH=f"{home}/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        HOME=str(home),
    )  # fmt: skip
    found = installed(server)
    runtime = next(name for name in found if name.startswith("python"))
    nodejs = next(name for name in found if name.startswith("nodejs"))
    assert {found[runtime]["source"], found[nodejs]["source"]} == {"host"}

    about = make(ABOUT, Runtime=runtime)
    expected = [found[runtime]["version"], "/var/lang", f"/var/lang/bin/{runtime}", []]
    assert call(about, [str(base), str(home)]).payload == expected
    assert call(make(NODE, Runtime=nodejs)).payload["path"] == "/var/lang/bin/node"

    # What runs is the copy.
    shutil.rmtree(home)
    again = make(ABOUT, Runtime=runtime)
    assert call(again, [str(home)]).payload == expected


def test_a_response_that_is_streamed_is_answered_as_a_whole(make, call, server):
    nodejs = next(name for name in installed(server) if name.startswith("nodejs"))
    source = (
        "export const handler = awslambda.streamifyResponse(async (event, stream) => {\n"
        "  stream.setContentType('text/plain'); stream.write('one '); stream.write('two');\n"
        "  if (event === 'fail') throw new RangeError('middle');\n"
        "  stream.end();\n"
        "});\n"
    )
    name = make({"index.mjs": source}, Runtime=nodejs)
    for event in ("well", "fail", "well"):
        answer = call(name, event)
        if event == "well":
            assert (answer.error, answer.bytes) == (None, b"one two")
        else:
            assert (answer.error, answer.payload["errorType"], answer.payload["errorMessage"]) == ("Unhandled", "RangeError", "middle")
