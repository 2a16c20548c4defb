"""Writes inputs from which mutations get further than from nothing: `seeds.py FOLDER`, a folder in it for each target."""

import gzip
import io
import json
import pathlib
import stat
import struct
import sys
import tarfile
import zipfile

CORPUS = pathlib.Path(sys.argv[1])


def write(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed-{name}").write_bytes(data)


def zipped(entries, method=zipfile.ZIP_DEFLATED, streamed=False):
    """Entries are name, content, mode; a zip that was streamed says sizes after contents."""

    class Pipe(io.BytesIO):
        def seekable(self):
            return not streamed

    file = Pipe()
    with zipfile.ZipFile(file, "w", method) as package:
        for name, content, mode in entries:
            entry = zipfile.ZipInfo(name, (2024, 1, 2, 3, 4, 6))
            entry.external_attr, entry.create_system, entry.compress_type = mode << 16, 3, method
            package.writestr(entry, content)
        package.comment = b"a comment"
    return file.getvalue()


def packages():
    file, link = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777
    plain = [("index.py", "def handler(event, context): return event", file), ("a/b/bootstrap", "#!/bin/sh", file | 0o111)]
    write("package", "deflated", zipped(plain))
    write("package", "stored", zipped(plain, zipfile.ZIP_STORED))
    write("package", "streamed", zipped(plain, streamed=True))
    write("package", "links", zipped([("link", "/etc/passwd", link), ("d/link", "../../x", link), ("d/", "", 0o40755)]))
    write("package", "names", zipped([("é/ü.txt", "x", file), ("a\\b", "x", file), ("./c", "x", file)]))
    write("package", "outside", zipped([("../x", "x", file)]))
    write("package", "device", zipped([("null", "", stat.S_IFCHR | 0o666)]))
    write("package", "bomb", zipped([("zeros", b"\0" * 300_000, file)]))
    write("package", "before", b"#!/bin/sh\n" + zipped(plain))


def tar(entries):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, link, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size, entry.mode = kind, link, len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def layers():
    file, folder, soft, hard = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
    plain = tar([("d", folder, "", b""), ("d/f", file, "", b"content"), ("d/l", soft, "f", b""), ("h", hard, "d/f", b"")])
    # The first byte says how it is packed: 0 by gzip, 1 by zstd, 2 not at all.
    write("layer", "plain", b"\2" + plain)
    write("layer", "gzip", b"\0" + gzip.compress(plain))
    # One frame of one raw block.
    write("layer", "zstd", b"\1" + b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", 5) + struct.pack("<I", 5 << 3 | 1)[:3] + b"hello")
    write("layer", "gone", b"\2" + tar([("d/.wh.f", file, "", b""), ("d/.wh..wh..opq", file, "", b""), (".wh.x", file, "", b"")]))
    write("layer", "outside", b"\2" + tar([("l", soft, "/", b""), ("l/etc/x", file, "", b"x"), ("h", hard, "../../x", b"")]))
    write("layer", "long", b"\2" + tar([("n" * 150 + "/" + "é" * 60, file, "", b"x"), ("dev/null", tarfile.CHRTYPE, "", b"")]))


def commands():
    def text(value):
        return struct.pack("<I", len(value)) + value

    def texts(*values):
        return struct.pack("<I", len(values)) + b"".join(map(text, values))

    command = text(b"/var/task") + text(b"/bin/sh") + texts(b"sh", b"-c") + texts(b"A=b")
    write("init_command", "plain", command + struct.pack("<I", 0))
    write("init_command", "walls", command + struct.pack("<I", 2) + texts(b"/usr") + texts(b"/tmp") + struct.pack("<II", 1, 9001))


def subscriptions():
    # The first byte says of which API: 0 of the Telemetry API, 1 of the Logs API.
    http = {"protocol": "HTTP", "URI": "http://sandbox.localdomain:1234/path?x=1"}
    limits = {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 100}
    types = ["platform", "function", "extension"]
    full = {"schemaVersion": "2022-12-13", "types": types, "buffering": limits, "destination": http}
    write("subscription", "telemetry", b"\0" + json.dumps(full).encode())
    logs = {"schemaVersion": "2021-03-18", "types": types, "destination": {"protocol": "TCP", "port": 53}}
    write("subscription", "logs", b"\1" + json.dumps(logs).encode())


def packets():
    question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x00\x00\x01\x00\x01"
    udp = struct.pack(">HHHH", 40000, 53, 8 + len(question), 0) + question
    syn = struct.pack(">HHIIBBHHH", 40000, 443, 1, 0, 5 << 4, 2, 65535, 0, 0)

    def v4(protocol, payload):
        inside, outside = bytes([169, 254, 76, 1]), bytes([203, 0, 113, 7])
        return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0) + inside + outside + payload

    def v6(protocol, payload):
        inside, outside = bytes([0xFD, *[0] * 14, 1]), bytes([0x20, 1, 0xD, 0xB8, *[0] * 11, 7])
        return struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64) + inside + outside + payload

    for name, make in (("v4", v4), ("v6", v6)):
        write("tunnel_packet", f"{name}-udp", make(17, udp))
        write("tunnel_packet", f"{name}-syn", make(6, syn))


for seeds in (packages, layers, commands, subscriptions, packets):
    seeds()
