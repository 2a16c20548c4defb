"""Errors: what callers are told (spec 2.2) and what the log shows."""

import os

from . import output
from .path import import_own


OLDEST = os.environ.get("AWS_EXECUTION_ENV") == "AWS_Lambda_python3.8"


class Fault(Exception):
    """An error that has a type of AWS's own."""

    def __init__(self, error_type, message, frames=()):
        super().__init__(message)
        self.error_type = error_type
        self.frames = list(frames)


def described(error):
    """Type, message and frames of an error; the bootstrap's own frames are left out."""
    if isinstance(error, Fault):
        return error.error_type, str(error), error.frames
    traceback = import_own("traceback")
    frames = [tuple(frame) for frame in traceback.extract_tb(error.__traceback__)]
    while frames and "_hearth_runtime" in frames[0][0]:
        del frames[0]
    return type(error).__name__, str(error), traceback.format_list(frames)


def log(error):
    """One event: its parts are those of the payload."""
    framed = output.LOG_FD is not None
    end = "" if framed else "\n"
    if output.JSON:
        from .values import to_json

        text = to_json({"timestamp": output.timestamp(), "level": "ERROR", **error})
        output.log(text + end, output.frame_type(40))
        return
    # One event of many lines, with spaces that do not break; where records are lines, a carriage return stays inside one.
    first = " ".join(filter(None, ("[ERROR]", ": ".join(filter(None, (error["errorType"], error["errorMessage"]))))))
    lines = [first, "Traceback (most recent call last):"]
    for frame in error["stackTrace"]:
        for line in frame.splitlines():
            text = line.lstrip(" ")
            lines.append("\u00a0" * (len(line) - len(text)) + text)
    output.log(("\n" if framed else "\r").join(lines) + end, output.frame_type(40))


def reported(error, request_id):
    """The payload of an error, which is logged."""
    from .values import to_json

    error_type, message, frames = described(error)
    payload = {"errorMessage": message, "errorType": error_type, "requestId": request_id, "stackTrace": frames}
    if OLDEST:
        del payload["requestId"]
    log(payload)
    return to_json(payload).encode(errors="backslashreplace")
