"""JSON as AWS's client reads and writes it."""

import json
import os
import sys

from .faults import Fault

# Runtimes before 3.12 escape what is not ASCII.
ASCII = os.environ.get("AWS_EXECUTION_ENV", "") in {f"AWS_Lambda_python3.{minor}" for minor in range(8, 12)}

# Around the text of a decimal number, which then loses its quotes. Not to be guessed by who chooses a value.
MARK = os.urandom(16).hex()


def read_event(body):
    try:
        return json.loads(body)
    except Exception as error:
        raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from None


def answer(value):
    """Content type and bytes of what a handler returned."""
    if isinstance(value, bytes):
        return "application/unknown", value
    try:
        return "application/json", to_json(value).encode()
    except Exception as error:
        raise Fault("Runtime.MarshalError", f"Unable to marshal response: {reason(error)}") from None


def reason(error):
    """As AWS's client says it, which names the type of a bad key without its module."""
    text = str(error)
    head, separator, name = text.rpartition(", not ")
    return head + separator + name.rpartition(".")[2] if text.startswith("keys must be ") else text


def to_json(value):
    text = dumps(value)
    if has_names(value):
        text = dumps(with_names(value))
    if MARK in text:
        import re

        text = re.sub(f'"{MARK}([^"]*)"', r"\1", text)
    return text


def dumps(value):
    return json.dumps(value, ensure_ascii=ASCII, default=decimal)


def decimal(value):
    """Decimals become numbers with all their digits; what JSON has no word for is an error."""
    decimals = sys.modules.get("decimal")
    if decimals is not None and isinstance(value, decimals.Decimal):
        return MARK + str(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def is_named(value):
    return isinstance(value, tuple) and callable(getattr(value, "_asdict", None))


def has_names(value):
    """Whether there is a named tuple in it: those become objects. It holds no cycle."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind is dict:
            waiting.extend(value.values())
        elif kind is list or kind is tuple:
            waiting.extend(value)
        elif is_named(value):
            return True
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, (list, tuple)):
            waiting.extend(value)
    return False


def with_names(value):
    if is_named(value):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: with_names(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [with_names(member) for member in value]
    return value
