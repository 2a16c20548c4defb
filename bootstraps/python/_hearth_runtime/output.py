"""Standard output and error, unbuffered, and the `logging` module in AWS's formats."""

import io
import os
import sys
import time

JSON = os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"

LOG_FD = os.environ.pop("_LAMBDA_TELEMETRY_LOG_FD", None)
"""Where log records go as frames, so that one may have many lines; else they go to standard output."""

# Frame types: without a level, and by a level of `logging`.
PLAIN = 0xA55A0003
LEVELS = {0: 0, 10: 2, 20: 3, 30: 4, 40: 5, 50: 6}

request_id = ""
"""The request that log lines name; empty before the first."""

tenant_id = None
"""The tenant of that request."""


def timestamp():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Unbuffered(io.TextIOWrapper):
    """Text that is on its way when `write` returns, so that nothing is lost when the process is frozen or killed."""

    def write(self, text):
        written = super().write(text)
        self.flush()
        return written

    def writelines(self, lines):
        self.write("".join(lines))


def unbuffer():
    sys.stdout = unbuffered(sys.stdout)
    sys.stderr = unbuffered(sys.stderr)


def unbuffered(stream):
    file = open(stream.fileno(), "wb", closefd=False)
    return Unbuffered(file, stream.encoding, stream.errors, newline="\n")


def frame_type(level):
    """For a record of this level, in tens."""
    return 0xA55A0002 | (not JSON) | LEVELS[level] << 2


def log(text, frame_type):
    """One record. It has left the process when this returns."""
    if LOG_FD is None:
        sys.stdout.write(text)
        return
    message = text.encode()
    head = (frame_type << 96 | len(message) << 64 | time.time_ns() // 1000).to_bytes(16, "big")
    frame = memoryview(head + message)
    while frame:
        frame = frame[os.write(int(LOG_FD), frame) :]


class LoggingHook:
    """Prepares `logging` when it is imported: a function that does without it does not wait for it."""

    def find_spec(self, name, path=None, target=None):
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            # A function's own module of that name is none of this.
            if hasattr(module, "Handler"):
                prepare(module)

        spec.loader.exec_module = exec_module
        return spec


def prepare_logging():
    if "logging" in sys.modules:
        prepare(sys.modules["logging"])
    else:
        sys.meta_path.insert(0, LoggingHook())


def prepare(logging):
    from . import records

    records.prepare(logging)
