"""A server in the tests' own process whose content comes whole, from where it is asked for, or breaks off."""

import contextlib
import http.server
import re


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def part(self, content, ranges=True, break_after=None):
        """Content from where it is asked for, where `ranges` are known; after so many bytes the connection is closed."""
        begin, status, more = 0, 200, {}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked and ranges:
            begin, status = int(asked[1]), 206
            more = {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"}
        content = content[begin:]
        if break_after is None or len(content) <= break_after:
            return self.answer(status, content, **more)
        self.head(status, len(content), more)
        self.wfile.write(content[:break_after])
        self.wfile.flush()
        self.close_connection = True
        return None

    def answer(self, status, body, **headers):
        self.head(status, len(body), headers)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body)

    def head(self, status, length, headers):
        self.send_response(status)
        for name, value in ({"Content-Length": str(length)} | headers).items():
            self.send_header(name, value)
        self.end_headers()
