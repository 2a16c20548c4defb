"""Standard output and error, unbuffered, and the `logging` module in AWS's format."""

import io
import sys
import time

request_id = ""
"""The request that log lines name; empty before the first."""


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

    class LambdaLoggerFilter(logging.Filter):
        def filter(self, record):
            record.aws_request_id = request_id
            return True

    class LambdaLoggerHandler(logging.Handler):
        def emit(self, record):
            text = self.format(record)
            # A traceback follows the format's own end of line, and has none itself.
            sys.stdout.write(text if text.endswith("\n") else text + "\n")

    handler = LambdaLoggerHandler()
    form = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
    formatter = logging.Formatter(form, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handler.addFilter(LambdaLoggerFilter())
    logging.root.addHandler(handler)
