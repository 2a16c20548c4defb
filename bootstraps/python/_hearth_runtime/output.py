"""Standard output and error, unbuffered, and the `logging` module in AWS's format."""

import io
import os
import sys
import time

request_id = None
"""The request that log lines name."""


class Unbuffered(io.TextIOWrapper):
    """Text that is on its way when `write` returns, so that nothing is lost when the process is frozen or killed."""

    def write(self, text):
        written = super().write(text)
        self.flush()
        return written

    def writelines(self, lines):
        self.write("".join(lines))


def unbuffer():
    sys.stdout = Unbuffered(open(1, "wb", closefd=False), "utf-8", "backslashreplace", newline="\n")
    sys.stderr = Unbuffered(open(2, "wb", closefd=False), "utf-8", "backslashreplace", newline="\n")


def event(text):
    """Writes text of many lines as one event: the log keeps a lone carriage return inside it."""
    sys.stdout.write(text.replace("\n", "\r") + "\n")


class LoggingHook:
    """Prepares `logging` when it is imported: a function that does without it does not wait for it."""

    def find_spec(self, name, path=None, target=None):
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            prepare(module)

        spec.loader.exec_module = exec_module
        return spec


def prepare_logging():
    if "logging" in sys.modules:
        prepare(sys.modules["logging"])
    else:
        sys.meta_path.insert(0, LoggingHook())


def prepare(logging):
    """A handler on the root logger, whose level stays (spec 3.4)."""

    class RequestId(logging.Filter):
        def filter(self, record):
            record.aws_request_id = request_id
            return True

    class Formatter(logging.Formatter):
        converter = time.gmtime

    class LambdaLoggerHandler(logging.Handler):
        def emit(self, record):
            event(self.format(record))

    handler = LambdaLoggerHandler()
    form = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s"
    handler.setFormatter(Formatter(form, "%Y-%m-%dT%H:%M:%S"))
    handler.addFilter(RequestId())
    logging.root.addHandler(handler)
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL")
    if level and os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON":
        logging.root.setLevel({"TRACE": "NOTSET", "WARN": "WARNING", "FATAL": "CRITICAL"}.get(level, level))
