"""Errors: what callers are told (spec 2.2) and what the log shows."""

import sys
import traceback

from . import output


class Fault(Exception):
    """An error that has a type of AWS's own."""

    def __init__(self, error_type, message, frames=()):
        super().__init__(message)
        self.error_type = error_type
        self.frames = list(frames)


def described(error, own):
    """Type, message and frames of an error; `own` says which frames at the beginning are not the function's."""
    if isinstance(error, Fault):
        return error.error_type, str(error), error.frames
    frames = traceback.extract_tb(error.__traceback__)
    while frames and own(frames[0].filename):
        frames = frames[1:]
    return type(error).__name__, str(error), traceback.format_list(frames)


def is_own(filename):
    return "_hearth_runtime" in filename or filename.endswith("/var/runtime/bootstrap.py")


def is_import(filename):
    return is_own(filename) or "importlib" in filename


def log(error_type, message, frames):
    """One event of many lines, whose indentation survives."""
    lines = [f"[ERROR] {error_type}: {message}" if error_type else f"[ERROR] {message}"]
    if frames:
        lines.append("Traceback (most recent call last):")
        lines += (line.replace(" ", "\u00a0", len(line) - len(line.lstrip(" "))) for frame in frames for line in frame.split("\n") if line)
    output.event("\n".join(lines))


def post(client, path, error, request_id, own=is_own):
    """Logs an error and reports it."""
    import json

    error_type, message, frames = described(error, own)
    log(error_type, message, frames)
    payload = {"errorMessage": message, "errorType": error_type, "requestId": request_id, "stackTrace": frames}
    headers = [("Content-Type", "application/json"), ("Lambda-Runtime-Function-Error-Type", error_type)]
    client.post(path, headers, json.dumps(payload).encode())
    sys.stdout.flush()
