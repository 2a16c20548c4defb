"""HTTP/1.1 over one kept socket, by hand: importing an HTTP library would double the start of the interpreter."""

import _socket


class Client:
    """One connection to the Runtime API; a request is answered before the next is sent."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.host = address
        self.socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self.socket.connect((host, int(port)))
        self.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self.rest = b""

    def get(self, path):
        """Status, headers (lower case) and body."""
        self.socket.sendall(f"GET /2018-06-01/runtime/{path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
        return self.answer()

    def post(self, path, headers, body):
        lines = [f"POST /2018-06-01/runtime/{path} HTTP/1.1", f"Host: {self.host}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        head = "\r\n".join(lines + ["", ""]).encode("latin-1", "replace")
        # Small ones in one packet; a large body is not copied.
        if len(body) < 16384:
            self.socket.sendall(head + body)
        else:
            self.socket.sendall(head)
            self.socket.sendall(body)
        return self.answer()

    def answer(self):
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
