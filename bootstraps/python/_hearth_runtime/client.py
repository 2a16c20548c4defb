"""HTTP/1.1 over one kept socket, by hand: importing an HTTP library would double the start of the interpreter."""

import sys

import _socket

# Bytes of a body that is copied to be sent in one piece with its head.
SMALL = 1 << 16


class Client:
    """One connection to the Runtime API. It answers in the order in which it is asked."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.host = f"Host: {address}\r\n"
        self.next = f"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n{self.host}\r\n".encode()
        self.socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self.socket.connect((host, int(port)))
        self.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self.rest = b""

    def ask(self):
        """Asks for an event, without waiting for it."""
        self.socket.sendall(self.next)

    def event(self):
        """Waits for what was asked for: request id, headers (lower case), body."""
        status, headers, body = self.answer()
        if status != 200:
            sys.exit(f"the Runtime API answered {status}")
        return headers["lambda-runtime-aws-request-id"], headers, body

    def post(self, path, headers, body):
        self.send(path, headers, body, b"")
        self.answer()

    def post_and_ask(self, path, headers, body):
        """Posts, and asks for the next event in the same breath: between the two there is nothing to decide, even where
        the post is refused."""
        self.send(path, headers, body, self.next)
        self.answer()

    def send(self, path, headers, body, after):
        lines = [f"{name}: {value}\r\n" for name, value in headers]
        head = f"POST /2018-06-01/runtime/{path} HTTP/1.1\r\n{self.host}Content-Length: {len(body)}\r\n{''.join(lines)}\r\n"
        head = head.encode("latin-1", "replace")
        if len(body) < SMALL:
            self.socket.sendall(head + body + after)
        else:
            self.socket.sendall(head)
            self.socket.sendall(body)
            self.socket.sendall(after)

    def answer(self):
        """Status, headers (lower case) and body."""
        data = self.rest
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self.receive()
        status, *lines = data[:end].decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        data = data[end + 4 :]
        length = int(headers.get("content-length", 0))
        if len(data) < length:
            parts, missing = [data], length - len(data)
            while missing > 0:
                parts.append(self.receive())
                missing -= len(parts[-1])
            data = b"".join(parts)
        self.rest = data[length:]
        return int(status.split(" ", 2)[1]), headers, data[:length]

    def receive(self):
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the Runtime API closed the connection")
        return data
