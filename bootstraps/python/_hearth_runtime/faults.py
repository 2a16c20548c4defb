"""Errors: what callers are told (spec 2.2) and what the log shows."""

import sys
import traceback


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
    frames = [tuple(frame) for frame in traceback.extract_tb(error.__traceback__)]
    while frames and "_hearth_runtime" in frames[0][0]:
        del frames[0]
    return type(error).__name__, str(error), traceback.format_list(frames)


def log(error_type, message, frames):
    """One event of many lines: the log keeps a carriage return inside it, and spaces that do not break."""
    lines = [f"[ERROR] {error_type}: {message}" if message else f"[ERROR] {error_type}"]
    lines.append("Traceback (most recent call last):")
    for frame in frames:
        for line in frame.splitlines():
            text = line.lstrip(" ")
            lines.append("\u00a0" * (len(line) - len(text)) + text)
    sys.stdout.write("\r".join(lines) + "\n")


def post(client, path, error, request_id, headers=()):
    """Logs an error and reports it."""
    from .values import dumps

    error_type, message, frames = described(error)
    log(error_type, message, frames)
    payload = {"errorMessage": message, "errorType": error_type, "requestId": request_id, "stackTrace": frames}
    client.post(path, [("Content-Type", "application/json"), *headers], dumps(payload).encode(errors="backslashreplace"))


def post_init(client, error):
    """As `post`, before there is a request. Only here does AWS's client name the type to the platform."""
    name = ("Lambda-Runtime-Function-Error-Type", described(error)[0])
    post(client, "init/error", error, "", [name])
