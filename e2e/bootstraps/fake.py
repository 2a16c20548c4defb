"""A Runtime API for one runtime process: hands out events, takes answers, keeps what was said."""

import http.client
import http.server
import json
import threading
import time

ARN = "arn:aws:lambda:us-east-1:000000000000:function:case"
DEADLINE_MS = 60_000
# Seconds for an answer that comes after the next question.
GRACE = 2
# As on AWS: a client tells the cause of an error in a header, which is long after a deep recursion.
http.client._MAXLINE = 1 << 20


class Server(http.server.ThreadingHTTPServer):
    """Events are pairs of a body and headers that replace the usual ones."""

    daemon_threads = True

    def __init__(self, events):
        super().__init__(("127.0.0.1", 0), Handler)
        self.events = list(events)
        self.answers = []
        self.number = 0
        # Tells when everything was answered, or init was reported to have failed.
        self.done = threading.Event()
        self.answered = threading.Condition()

    @property
    def address(self):
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_):
        # A process that is ended lets its connections fall.
        pass

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        if server.number == len(server.events):
            # A stream may still end on another connection. An invocation may also have no answer.
            with server.answered:
                server.answered.wait_for(lambda: len(server.answers) >= len(server.events), GRACE)
            server.done.set()
            # Nothing more comes: the process is ended while it waits.
            threading.Event().wait(60)
            return
        event, headers = server.events[server.number]
        server.number += 1
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        usual = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Lambda-Runtime-Aws-Request-Id": request_id(server.number),
            "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + DEADLINE_MS),
            "Lambda-Runtime-Invoked-Function-Arn": ARN,
            "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
        }
        self.send_response(200)
        for name, value in (usual | headers).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.read_body()
        path = self.path.removeprefix("/2018-06-01/runtime/")
        kept = ("Content-Type", *(f"Lambda-Runtime-Function-{name}" for name in ("Error-Type", "Error-Body", "Response-Mode")))
        with self.server.answered:
            self.server.answers.append({"path": path, "headers": {k: self.headers.get(k) for k in kept}, "body": body})
            self.server.answered.notify_all()
        answer = b'{"status":"OK"}\n'
        self.send_response(413 if body == b'"refused"' else 202)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        if path == "init/error":
            self.server.done.set()

    def read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        # What a stream says after its end counts as headers.
        while line := self.rfile.readline().strip():
            name, _, value = line.decode().partition(":")
            self.headers[name] = value.strip()
        return b"".join(parts)


def request_id(number):
    return f"00000000-0000-4000-8000-{number:012}"
