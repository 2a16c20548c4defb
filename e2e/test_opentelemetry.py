"""An extension on the published SDK of OpenTelemetry, fed by the Telemetry API, whose spans reach a collector outside: on
a made-up Internet (network.py), where it is in a private range that `egress.allow` names."""

import http.server
import os
import sys
import threading

import pytest

import parts
from conftest import Functions, caller, make_client
from hearth import eventually
from network import PRIVATE, World, enter
from packages import python
from test_egress import Inside

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces"),
]
OTLP = 4318
PACKAGES = ("opentelemetry-sdk==1.45.2", "opentelemetry-exporter-otlp-proto-http==1.45.2")
START = "#!/bin/sh\nexec /var/lang/bin/python3 /opt/otel/extension.py\n"


class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.got.append((self.path, self.headers["Content-Type"], self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def world(base):
    folder = base / "world-of-telemetry"
    folder.mkdir(mode=0o755)
    with World(folder) as world:
        yield world


@pytest.fixture
def collector(world):
    """What was sent to it, in the order of arrival."""
    started = threading.Event()
    servers = []

    def serve():
        enter(world.world)
        server = http.server.ThreadingHTTPServer((PRIVATE, OTLP), Collector)
        server.got = []
        servers.append(server)
        started.set()
        server.serve_forever()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert started.wait(30)
    yield servers[0].got
    servers[0].shutdown()
    servers[0].server_close()


def test_spans_of_an_opentelemetry_extension_reach_a_collector(world, collector, data, base):
    packages = parts.python_packages(*PACKAGES) / "python"
    flags = ("--runtimes-fetch", "false", "--egress-allow", f"{PRIVATE}:{OTLP}")
    server = Inside(world, data, base / "cache-of-telemetry", *flags, before=world.before()).start()
    try:
        client = make_client(server)
        files = {"extensions/otel": START} | parts.files(packages, "otel/python") | parts.files(parts.FIXTURES / "otel-extension", "otel")
        layer = client.publish_layer_version(LayerName="otel", Content={"ZipFile": parts.zipped(files)})["LayerVersionArn"]
        body = "print('for', event)\nif event == 'bad': raise ValueError(event)\nreturn event"
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{PRIVATE}:{OTLP}"}
        name = Functions(client).make(python(body), Layers=[layer], MemorySize=512, Timeout=60, Environment={"Variables": variables})
        call = caller(client)
        good, bad = call(name, "good", LogType="Tail"), call(name, "bad", LogType="Tail")
        assert (good.payload, bad.error) == ("good", "Unhandled")
        eventually("three spans", lambda: len(collector) >= 3)
    finally:
        server.stop()

    sys.path.insert(0, str(packages))
    try:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    finally:
        sys.path.remove(str(packages))
    spans = []
    for path, kind, payload in collector:
        assert (path, kind) == ("/v1/traces", "application/x-protobuf")
        for resource in ExportTraceServiceRequest.FromString(payload).resource_spans:
            assert {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"] == name
            spans += [span for scope in resource.scope_spans for span in scope.spans]
    init, first, second = spans
    assert (init.name, first.name, second.name) == ("init", "invoke", "invoke")
    for span, answer, said in ((first, good, "for good"), (second, bad, "for bad")):
        about = {a.key: a.value for a in span.attributes}
        assert about["faas.invocation_id"].string_value == answer.request_id
        assert about["faas.responseLatency_ms"].double_value > 0
        assert said in [a.value.string_value.strip() for event in span.events for a in event.attributes]
    # Unset, and an error.
    assert (first.status.code, second.status.code) == (0, 2)
    assert init.end_time_unix_nano <= first.start_time_unix_nano < first.end_time_unix_nano <= second.start_time_unix_nano
