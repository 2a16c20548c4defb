"""The command line: only public APIs beneath it."""

import io
import json
import os
import re
import subprocess
import tarfile
import uuid
import zipfile

import pytest

from conftest import command_line
from hearth import BINARY, environment, eventually

PROMISES = {"memory", "cpu", "processes", "tmp", "network", "filesystem", "uid", "seccomp", "landlock", "freeze"}


@pytest.fixture
def folder(base):
    """Makes a folder with a name of its own, holding `{path: text}`."""

    def folder(files):
        made = base / f"project-{uuid.uuid4().hex[:8]}"
        for path, content in files.items():
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            write = (made / path).write_bytes if isinstance(content, bytes) else (made / path).write_text
            write(content)
        return made

    return folder


@pytest.fixture
def deployed(hearth, folder):
    """A deployed Python function; deleted afterwards."""
    made = folder({"lambda_function.py": "def lambda_handler(event, context):\n    print('got', event)\n    return {'echo': event}\n"})
    hearth("deploy", made)
    yield made.name
    hearth("delete", made.name, "--yes")


def test_deploy_invoke_logs_list_delete(hearth, folder):
    made = folder({"lambda_function.py": "def lambda_handler(event, context):\n    print('got', event)\n    return {'echo': event}\n"})
    name = made.name
    hearth("deploy", made)
    assert json.loads(hearth("invoke", name, "--payload", '{"a": 1}').stdout) == {"echo": {"a": 1}}
    (made / "event.json").write_text('["from", "a file"]')
    assert json.loads(hearth("invoke", name, "--payload", f"@{made}/event.json").stdout) == {"echo": ["from", "a file"]}
    assert json.loads(hearth("invoke", name, "--payload", "-", input="7").stdout) == {"echo": 7}
    assert "got 7" in eventually("the line", lambda: found(hearth("logs", name).stdout, "got 7"))
    assert name in hearth("list").stdout
    listed = json.loads(hearth("list", "--json").stdout)["functions"]
    assert [f["Handler"] for f in listed if f["FunctionName"] == name] == ["lambda_function.lambda_handler"]
    hearth("delete", name, "--yes")
    assert name not in hearth("list").stdout
    hearth("invoke", name, status=1)


def found(text, part):
    return text if part in text else None


def test_deploy_again_updates(hearth, folder):
    made = folder({"app.py": "def handler(event, context):\n    return 1\n"})
    hearth("deploy", made)
    assert hearth("invoke", made.name).stdout.strip() == "1"
    (made / "app.py").write_text("def handler(event, context):\n    return 2\n")
    hearth("deploy", made)
    assert hearth("invoke", made.name).stdout.strip() == "2"
    hearth("delete", made.name, "--yes")


def test_deploy_infers_what_it_can_and_flags_override(hearth, folder, client):
    cases = [
        ({"index.js": "exports.handler = async () => 'node';"}, [], "index.handler", "nodejs"),
        ({"main.py": "def lambda_handler(e, c):\n    return 'python'\n"}, [], "main.lambda_handler", "python3."),
        ({"other.py": "def go(e, c):\n    return 'named'\n"}, ["--handler", "other.go", "--runtime", "python3.11"], "other.go", "python3.11"),
    ]
    for files, flags, handler, runtime in cases:
        made = folder(files)
        hearth("deploy", made, *flags)
        configuration = client.get_function_configuration(FunctionName=made.name)
        assert configuration["Handler"] == handler and configuration["Runtime"].startswith(runtime)
        assert configuration["Role"] == "arn:aws:iam::000000000000:role/hearth"
        assert json.loads(hearth("invoke", made.name).stdout) in ("node", "python", "named")
        hearth("delete", made.name, "--yes")


def test_deploy_takes_a_zip_and_a_bootstrap(hearth, folder, client):
    made = folder({"a": "b"})
    package = made / f"{made.name}-zip.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("index.mjs", "export const handler = async (event) => event;")
    hearth("deploy", package)
    assert hearth("invoke", package.stem, "--payload", "5").stdout.strip() == "5"
    script = "#!/bin/sh\nwhile true; do\n  id=$(curl -sS -D - -o /dev/null http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next | sed -n 's/^lambda-runtime-aws-request-id: *//Ip' | tr -d '\\r')\n  curl -sS -o /dev/null -d '\"shell\"' http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/$id/response\ndone\n"
    own = folder({"bootstrap": script})
    os.chmod(own / "bootstrap", 0o755)
    hearth("deploy", own)
    assert client.get_function_configuration(FunctionName=own.name)["Runtime"] == "provided.al2023"
    assert json.loads(hearth("invoke", own.name).stdout) == "shell"
    for name in (package.stem, own.name):
        hearth("delete", name, "--yes")


def wheel():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("greet.py", "def hello():\n    return 'hello from a dependency'\n")
        archive.writestr("greet-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: greet\nVersion: 1.0\n")
        archive.writestr("greet-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: e2e\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("greet-1.0.dist-info/RECORD", "greet.py,,\ngreet-1.0.dist-info/METADATA,,\ngreet-1.0.dist-info/WHEEL,,\ngreet-1.0.dist-info/RECORD,,\n")
    return out.getvalue()


def tarball():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, text in (
            ("package/package.json", '{"name": "greet", "version": "1.0.0", "main": "index.js"}'),
            ("package/index.js", "exports.hello = () => 'hello from a dependency';"),
        ):
            entry = tarfile.TarInfo(path)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


def test_deploy_installs_what_a_python_project_requires(hearth, folder):
    source = "import greet\ndef handler(event, context):\n    return greet.hello()\n"
    wheels = folder({"greet-1.0-py3-none-any.whl": wheel()})
    made = folder({"app.py": source, "requirements.txt": f"greet @ file://{wheels}/greet-1.0-py3-none-any.whl\n"})
    hearth("deploy", made)
    assert json.loads(hearth("invoke", made.name).stdout) == "hello from a dependency"
    assert sorted(path.name for path in made.iterdir()) == ["app.py", "requirements.txt"], "the project stays as it was"
    hearth("delete", made.name, "--yes")


def test_deploy_installs_what_a_node_project_requires(hearth, folder):
    made = folder(
        {
            "index.js": "const greet = require('greet');\nexports.handler = async () => greet.hello();",
            "greet-1.0.0.tgz": tarball(),
            "package.json": '{"name": "project", "version": "1.0.0", "dependencies": {"greet": "file:greet-1.0.0.tgz"}}',
        }
    )
    hearth("deploy", made)
    assert json.loads(hearth("invoke", made.name).stdout) == "hello from a dependency"
    hearth("delete", made.name, "--yes")


def test_deploy_refuses_typescript_and_says_what_to_run(hearth, folder):
    made = folder({"index.ts": "export const handler = async () => 1;"})
    said = hearth("deploy", made, status=1).stderr
    assert "TypeScript" in said and ("esbuild" in said or "tsc" in said), said
    hearth("invoke", made.name, status=1)


def test_a_function_error_is_status_one_and_its_payload_is_printed(hearth, folder):
    made = folder({"app.py": "def handler(event, context):\n    raise ValueError('no good')\n"})
    hearth("deploy", made)
    done = hearth("invoke", made.name, status=1)
    assert json.loads(done.stdout)["errorType"] == "ValueError"
    hearth("delete", made.name, "--yes")


def test_the_tail_goes_to_stderr(hearth, deployed):
    done = hearth("invoke", deployed, "--payload", "1", "--tail")
    assert json.loads(done.stdout) == {"echo": 1}
    assert "START RequestId: " in done.stderr and "got 1" in done.stderr and "REPORT RequestId: " in done.stderr


def test_logs_are_followed_live(server, hearth, deployed):
    follow = subprocess.Popen(
        [BINARY, "logs", deployed, "--follow"],
        stdout=subprocess.PIPE,
        env=environment(AWS_ENDPOINT_URL=server.url),
    )
    # As bytes: what decodes them cannot take that there are none yet.
    os.set_blocking(follow.stdout.fileno(), False)
    said = b""

    def line(part):
        nonlocal said
        hearth("invoke", deployed, "--payload", '"live"')
        said += follow.stdout.read() or b""
        return part in said

    try:
        eventually("the line", lambda: line(b"got live"))
        assert follow.poll() is None
    finally:
        follow.kill()
        follow.wait()


def test_env_prints_exports_that_work(server, hearth):
    printed = hearth("env").stdout
    script = printed + '\nprintf "%s %s %s" "$AWS_ENDPOINT_URL" "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY"'
    found = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, env={}).stdout.split()
    assert found[0] == server.url and len(found) == 3


def test_runtimes_doctor_version_and_coverage(hearth):
    runtimes = json.loads(hearth("runtimes", "--json").stdout)["runtimes"]
    assert {"python3.11", "nodejs20.x"} <= {runtime["runtime"] for runtime in runtimes}
    assert "python3.11" in hearth("runtimes").stdout
    doctor = json.loads(hearth("doctor", "--json").stdout)
    assert {promise["name"] for promise in doctor["promises"]} == PROMISES
    assert doctor["isolation"] == "process" and doctor["cgroup"] in ("v1", "v2", "hybrid") and doctor["kernel"]
    held = {promise["name"] for promise in doctor["promises"] if promise["held"]}
    if os.geteuid() == 0:
        assert {"memory", "tmp", "network", "filesystem", "uid", "seccomp", "freeze"} <= held
    text = hearth("doctor").stdout
    assert all(name in text for name in PROMISES)
    version = json.loads(hearth("version", "--json").stdout)
    assert re.fullmatch(r"hearth \d+\.\d+\.\d+ \([0-9a-f]{7,}\)\n", hearth("version").stdout)
    assert hearth("version").stdout.startswith(f"hearth {version['version']} ")
    coverage = json.loads(hearth("coverage", "--json").stdout)["services"]
    operations = {o["operation"]: o for s in coverage if s["service"] == "lambda" for o in s["operations"]}
    assert len(operations) == 91
    statuses = {name: operation["status"] for name, operation in operations.items()}
    assert statuses["GetFunction"] == "works" and statuses["CreateFunction"] == "partial"
    assert operations["GetFunction"]["complete"] and operations["CreateFunction"]["complete"]
    assert not operations["CreateEventSourceMapping"]["complete"] and not operations["ListCapacityProviders"]["complete"]
    assert statuses["CreateEventSourceMapping"] == "partial" and statuses["ListCapacityProviders"] == "refused"
    parameters = {p["name"]: p["status"] for p in operations["CreateFunction"]["parameters"]}
    assert parameters["VpcConfig"] == "kept" and parameters["Layers"] == "works" and parameters["PublishTo"] == "refused"
    assert "ListLayers" in hearth("coverage").stdout


def test_what_needs_no_server_asks_none_and_the_rest_says_that_it_is_not_reached(base):
    away = command_line("http://127.0.0.1:9", base)
    for command in ("version", "coverage", "env"):
        away(command)
    for command in (["list"], ["invoke", "any"], ["logs", "any"], ["runtimes"], ["delete", "any", "--yes"]):
        assert "127.0.0.1:9" in away(*command, status=3).stderr


def test_wrong_usage_is_status_two(hearth):
    hearth("no-such-command", status=2)
    hearth("invoke", status=2)


def test_global_flags_stand_anywhere(server, base):
    nowhere = command_line("http://127.0.0.1:9", base)
    for arguments in (["--endpoint", server.url, "list", "--json"], ["list", "--json", "--endpoint", server.url]):
        assert "functions" in json.loads(nowhere(*arguments).stdout)
    assert "functions" in json.loads(nowhere("--json", "list", HEARTH_ENDPOINT=server.url).stdout)


def test_completions_are_printed(hearth):
    for shell in ("bash", "zsh", "fish"):
        assert "hearth" in hearth("completions", shell).stdout
