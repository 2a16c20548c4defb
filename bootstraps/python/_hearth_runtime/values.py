"""JSON as AWS's client reads and writes it.

The `json` module imports five others before it reads a byte; what it is made of, in C, needs none of them. It is imported
when there is an error to tell.
"""

import os
import sys

from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

from .faults import Fault
from .path import import_own

# Runtimes before 3.12 escape what is not ASCII.
UNESCAPED = {f"AWS_Lambda_python3.{minor}" for minor in range(12, 16)}
encode_string = encode_basestring if os.environ.get("AWS_EXECUTION_ENV") in UNESCAPED else encode_basestring_ascii

# Around the text of a decimal number, which then loses its quotes. Not to be guessed by who chooses a value.
MARK = os.urandom(16).hex()


class Reading:
    """How the scanner reads: as `json.loads` does."""

    strict = True
    # The last is asked for since 3.15.
    object_hook = object_pairs_hook = array_hook = None
    parse_float, parse_int = float, int
    parse_constant = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.__getitem__


scan = make_scanner(Reading)


def loads(text):
    """Raises what `json.loads` raises."""
    bare = text.strip(" \t\n\r")
    try:
        value, end = scan(bare, 0)
    except Exception:
        # The scanner has no errors of its own: those are of `json`.
        end = -1
    if end != len(bare):
        import_own("json").loads(text)
    return value


def read_event(body):
    try:
        text = body.decode()
        # A byte order mark is passed over.
        return loads(text[1:] if text.startswith("\ufeff") else text)
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
        text = import_own("re").sub(f'"{MARK}([^"]*)"', r"\1", text)
    return text


def dumps(value):
    if isinstance(value, str):
        return encode_string(value)
    # What was met on the way down, to find cycles; not shared, because an error leaves its path there.
    met = {}
    return "".join(make_encoder(met, decimal, encode_string, None, ": ", ", ", False, False, True)(value, 0))


def decimal(value):
    """Decimals become numbers with all their digits; what JSON has no word for is an error."""
    decimals = sys.modules.get("decimal")
    if decimals is not None and isinstance(value, decimals.Decimal):
        return float("nan") if value.is_nan() else MARK + str(value)
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
