"""The server: its start, its door, its end."""

import base64
import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import time

import botocore.exceptions
import pytest

from conftest import Functions, caller, make_client
from hearth import BINARY, Server, descendants, environment, eventually
from packages import HEALTHY, python, zipped


def serve(data, *flags, cwd=None, **variables):
    """Starts a server that is expected to end by itself, and answers its status and what it said."""
    done = subprocess.run(
        [BINARY, "serve", "--listen", "127.0.0.1:0", "--data-dir", data, *flags],
        capture_output=True,
        text=True,
        timeout=20,
        env=environment(**variables),
        cwd=cwd or pathlib.Path(data).parent,
    )
    return done.returncode, done.stdout + done.stderr


def test_health_and_readiness(server):
    assert server.request("GET", "/_hearth/health")[0] == 200
    assert server.request("GET", "/_hearth/ready")[0] == 200


def test_a_second_server_on_the_same_folder_is_refused(server):
    status, said = serve(server.data, "--cache-dir", server.cache)
    assert status == 1
    assert str(server.data) in said and "in use" in said and str(server.process.pid) in said, said
    assert server.request("GET", "/_hearth/ready")[0] == 200


def test_two_servers_on_different_folders_do_not_disturb_each_other(start, base, cache):
    one, two = start(), start(data=base / "data-second")
    names = []
    for server in (one, two):
        functions = Functions(make_client(server))
        names.append(functions.make(HEALTHY))
        assert caller(functions.client)(names[-1], 1).payload == {"healthy": 1}
    assert one.instance != two.instance
    listed = [f["FunctionName"] for f in make_client(two).list_functions()["Functions"]]
    assert listed == [names[1]]
    one.stop()
    assert caller(make_client(two))(names[1], 2).payload == {"healthy": 2}


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:4566"])
def test_an_address_that_others_reach_is_refused_with_the_reason(data, address):
    status, said = serve(data, "--listen", address)
    assert status in (1, 2)
    assert "loopback" in said and "signature" in said, said


@pytest.mark.parametrize("host", ["example.com", "evil.localhost.example.com", "10.0.0.1", "localhost@example.com", ""])
def test_a_host_that_is_not_local_is_refused(server, host):
    status, _, _ = server.lambda_request("GET", "/2015-03-31/functions", headers={"Host": host})
    assert status in (400, 403, 421)


@pytest.mark.parametrize("host", ["localhost", "lambda.localhost", "127.0.0.1", "[::1]", "localhost:4566", "LOCALHOST"])
def test_a_host_that_is_local_is_served(server, host):
    assert server.lambda_request("GET", "/2015-03-31/functions", headers={"Host": host})[0] == 200


@pytest.mark.parametrize("origin", ["https://example.com", "http://localhost.example.com", "null"])
@pytest.mark.parametrize("method, path", [("GET", "/2015-03-31/functions"), ("OPTIONS", "/2015-03-31/functions"), ("GET", "/_hearth/v1/runtimes")])
def test_a_web_page_of_another_origin_is_refused(server, method, path, origin):
    status, headers, _ = server.lambda_request(method, path, headers={"Origin": origin})
    assert status == 403
    assert "access-control-allow-origin" not in headers


def test_a_flag_comes_before_a_variable_before_a_file_before_the_default(data, base, cache):
    folder = base / "settings"
    folder.mkdir()
    for n, (flags, variables, file, expected) in enumerate(
        [
            (["--account-concurrent-executions", "4"], {"HEARTH_ACCOUNT_CONCURRENT_EXECUTIONS": "3"}, "2", 4),
            ([], {"HEARTH_ACCOUNT_CONCURRENT_EXECUTIONS": "3"}, "2", 3),
            ([], {}, "2", 2),
            ([], {"HEARTH_ACCOUNT_CONCURRENT_EXECUTIONS": ""}, None, 1000),
        ]
    ):
        config = folder / f"{n}.toml"
        config.write_text(f"[account]\nconcurrent_executions = {file}\n" if file else "")
        server = Server(data, cache, *flags, HEARTH_CONFIG=str(config), **variables).start()
        limit = make_client(server).get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
        server.stop()
        assert limit == expected


def test_the_file_in_the_working_folder_is_read(base):
    folder = base / "here"
    folder.mkdir()
    (folder / "hearth.toml").write_text('[environments]\nidel_timeout = "1s"\n')
    status, said = serve(folder / "data", cwd=folder)
    assert status == 2
    assert "environments.idel_timeout" in said and "environments.idle_timeout" in said, said


@pytest.mark.parametrize(
    "flags, named",
    [
        (["--data-dri", "x"], "--data-dir"),
        (["--environments-idle-timeout", "soon"], "soon"),
        (["--account-concurrent-executions", "-1"], "account"),
        (["--listen", "nowhere"], "nowhere"),
        (["--sandbox-uids", "1879048192-1879049214"], "at least 1024 user ids"),
    ],
)
def test_a_wrong_setting_ends_the_start_and_is_named(data, flags, named):
    status, said = serve(data, *flags)
    assert status == 2 and named in said, said


def test_an_unknown_variable_is_one_warning(data, cache):
    server = Server(data, cache, HEARTH_NO_SUCH_SETTING="1").start()
    server.stop()
    assert server.said().count("HEARTH_NO_SUCH_SETTING") == 1


def test_the_help_lists_every_setting():
    said = subprocess.run([BINARY, "serve", "--help"], capture_output=True, text=True, timeout=20).stdout
    for key in ("listen", "data_dir", "cache_dir", "shutdown.drain", "environments.idle_timeout", "runtimes.substitute", "logs.retention"):
        flag, variable = "--" + re.sub(r"[._]", "-", key), "HEARTH_" + key.upper().replace(".", "_")
        assert flag in said and variable in said, key


def test_a_slip_in_the_name_of_a_setting_that_is_not_built_yet_names_that_setting(data):
    status, said = serve(data, "--async-retry-base-dela", "1s")
    assert status == 2 and "the nearest is --async-retry-base-delay" in said, said


def test_a_newer_stored_format_is_refused(start, data):
    start().stop()
    (data / "format").write_text("999999\n")
    status, said = serve(data)
    assert status == 1 and "newer" in said, said


def test_the_data_folder_is_its_owners_alone(start, data):
    start()
    assert oct(data.stat().st_mode & 0o777) == "0o700"


def test_sigint_ends_it_as_sigterm_does(start):
    server = start()
    family = descendants(server.process.pid)
    server.process.send_signal(2)
    assert server.process.wait(30) == 0
    server.assert_nothing_left(family)


def test_a_drain_has_an_end(start):
    server = start("--shutdown-drain", "300ms")
    client = make_client(server)
    name = Functions(client).make(python("import time\nprint('begun')\ntime.sleep(30)"), Timeout=60)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(caller(client), name)
        eventually("the call", lambda: b"begun" in server.request("GET", f"/_hearth/v1/functions/{name}/logs")[2])
        began = time.monotonic()
        server.stop()
        # Far from the function's 30 s; what the caller is told is an answer or a closed connection, and soon.
        assert time.monotonic() - began < 20
        with contextlib.suppress(botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            assert running.result().error == "Unhandled"


def test_a_reader_of_its_words_that_goes_away_ends_nothing(data, cache):
    process = subprocess.Popen(
        [BINARY, "serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--cache-dir", cache, "--log-level", "debug"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
        cwd=data.parent,
        text=True,
    )
    with process:
        address = next(found[1] for line in process.stderr if (found := re.search(r"listening on (http://\S+)", line)))
        process.stderr.close()
        server = Server(data, cache)
        server.process, server.url, server.port = process, address, int(address.rpartition(":")[2])
        eventually("readiness", lambda: server.status("/_hearth/ready") == 200)
        client = make_client(server)
        name = Functions(client).make(HEALTHY)
        assert caller(client)(name, 1).payload == {"healthy": 1}
        process.terminate()
        assert process.wait(30) == 0


def test_idle_connections_do_not_hold_the_end_back(start):
    server = start()
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
    idle[0].sendall(b"GET /_hearth/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert idle[0].recv(4096).startswith(b"HTTP/1.1 200")
    server.stop(patience=10)
    for connection in idle:
        connection.close()


def test_the_processes_are_named_after_hearth(server, make, call):
    call(make(HEALTHY))
    names = []
    for pid, _ in descendants(server.process.pid):
        try:
            names.append(os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)"))
        except OSError:
            continue
    assert len([name for name in names if name.startswith("hearth")]) >= 2, names


def test_the_log_of_the_server_holds_no_secret_and_no_payload(start):
    server = start(HEARTH_LOG_LEVEL="debug")
    client = make_client(server, account="100000000000")
    secret = "SECRET-9f1c"
    name = Functions(client).make(
        zipped(HEALTHY), Environment={"Variables": {"KEY": secret}}, Description="plain"
    )
    assert caller(client)(name, {"payload": secret}).payload == {"healthy": {"payload": secret}}
    server.stop()
    assert secret not in server.said()
    assert base64.b64encode(secret.encode()).decode() not in server.said()


def test_hearths_own_documents(server, make):
    runtimes = json.loads(server.request("GET", "/_hearth/v1/runtimes")[2])["runtimes"]
    found = {runtime["runtime"]: runtime for runtime in runtimes}
    assert {"python3.11", "provided.al2023", "provided.al2"} <= set(found)
    assert found["python3.11"]["version"].startswith("3.11.")
    assert found["python3.11"]["source"] in ("host", "package")
    coverage = json.loads(server.request("GET", "/_hearth/v1/coverage")[2])
    assert [service["service"] for service in coverage["services"]].count("lambda") == 1
    status, _, body = server.request("GET", "/_hearth/v1/functions/missing/logs")
    assert status in (200, 404) and (status == 200 or set(json.loads(body)) == {"code", "message"})
    status, _, body = server.request("GET", "/_hearth/v1/nothing")
    assert status == 404 and set(json.loads(body)) == {"code", "message"}


def test_logs_are_filtered(server, make, call):
    name = make({"index.py": "def handler(event, context):\n    print('number', event)\n"})
    answers = [call(name, n) for n in range(3)]
    path = f"/_hearth/v1/functions/{name}/logs"

    def messages(query=""):
        status, _, body = server.request("GET", path + query)
        assert status == 200
        return [json.loads(line)["message"] for line in body.splitlines()]

    assert [line for line in eventually("lines", messages) if line.startswith("number")] == [f"number {n}" for n in range(3)]
    assert messages("?grep=number%201") == ["number 1"]
    one = messages(f"?request={answers[1].request_id}")
    assert one[0].startswith("START ") and one[1] == "number 1" and one[-1].startswith("REPORT ") and len(one) == 4
