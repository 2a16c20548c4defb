"""The `logging` module in AWS's formats (spec 3.4). Imported when a function imports `logging`."""

import os
import time

from . import output

TEXT = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"

# Members of a record that are of `logging` itself, or told by another name.
KNOWN = frozenset(
    "name msg args levelname levelno pathname filename module exc_info exc_text stack_info lineno funcName created msecs"
    " relativeCreated thread threadName processName process aws_request_id tenant_id _frame_type".split()
)


def prepare(logging):
    """A handler on the root logger, whose level stays unless the function's configuration has one."""
    logging.Formatter.converter = time.gmtime

    class LambdaLoggerFilter(logging.Filter):
        def filter(self, record):
            record.aws_request_id = output.request_id
            record.tenant_id = output.tenant_id
            return True

    class LambdaLoggerHandler(logging.Handler):
        def emit(self, record):
            text = self.format(record)
            if output.LOG_FD is None and not text.endswith("\n"):
                # What follows a format's own end of line, such as a traceback, has none itself.
                text += "\n"
            output.log(text, output.frame_type(level_of(record)) if levels else output.PLAIN)

    class JsonFormatter(logging.Formatter):
        def format(self, record):
            record.levelno = level_of(record)
            record.levelname = logging.getLevelName(record.levelno)
            return encode(described(self, record)) + "\n"

    # As in AWS's client: without either of the two no record says its level.
    levels = output.JSON or os.environ.get("AWS_LAMBDA_LOG_LEVEL")
    handler = LambdaLoggerHandler()
    if output.JSON:
        from json import JSONEncoder

        # What JSON has no word for is told as text, so that no record is lost for it.
        encode = JSONEncoder(ensure_ascii=False, default=str).encode
        handler.setFormatter(JsonFormatter(datefmt="%Y-%m-%dT%H:%M:%SZ"))
    else:
        handler.setFormatter(logging.Formatter(TEXT, "%Y-%m-%dT%H:%M:%S"))
    handler.addFilter(LambdaLoggerFilter())
    if (level := configured_level()) in logging._nameToLevel:
        logging.root.setLevel(level)
    logging.root.addHandler(handler)


def level_of(record):
    return min(50, max(0, record.levelno)) // 10 * 10


def configured_level():
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "")
    # Python has no such level.
    return "DEBUG" if level == "TRACE" else level.upper()


def described(formatter, record):
    """A record as members of JSON; what is `None` is left out."""
    kind, error, trace = record.exc_info or (None, None, None)
    from traceback import format_tb

    members = {
        "timestamp": formatter.formatTime(record, formatter.datefmt),
        "level": record.levelname,
        "message": record.msg if isinstance(record.msg, dict) and not record.args else record.getMessage(),
        "logger": record.name,
        "stackTrace": format_tb(trace) if record.exc_info else None,
        "errorType": kind.__name__ if record.exc_info else None,
        "errorMessage": str(error) if record.exc_info else None,
        "requestId": record.aws_request_id,
        "location": f"{record.pathname}:{record.funcName}:{record.lineno}" if record.exc_info else None,
        "tenantId": record.tenant_id,
    }
    extra = {name: value for name, value in record.__dict__.items() if name not in KNOWN and name not in members}
    return {name: value for name, value in {**members, **extra}.items() if value is not None}
