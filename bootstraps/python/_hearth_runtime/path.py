"""The runtime's own place on Python's path, beside the function's."""

import os
import sys

own = sys.path[:]
"""Where the standard library is, without the function's folders."""


def prepare_path():
    """The function's code, then layers, then the runtime."""
    root = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    first = [root, f"/opt/python/lib/{version}/site-packages", "/opt/python"]
    sys.path[:] = first + [entry for entry in dict.fromkeys(sys.path) if entry not in first]


def import_own(name):
    """A module of the standard library, which a file of the same name in a function does not hide from the runtime."""
    if name in sys.modules:
        return sys.modules[name]
    functions, sys.path[:] = sys.path[:], own
    try:
        return __import__(name)
    finally:
        sys.path[:] = functions
