"""The loop: an event, the handler, its answer."""

import os
import sys

from . import faults, output
from .client import Client


def main():
    output.unbuffer()
    output.prepare_logging()
    prepare_path()
    client = Client(os.environ["AWS_LAMBDA_RUNTIME_API"])
    from . import handler

    try:
        function = handler.load(os.environ.get("_HANDLER", ""))
    except Exception as error:
        faults.post_init(client, error)
        sys.exit(1)
    # After the function's own modules, but not in the first event's time.
    from . import context, values

    while True:
        status, headers, body = client.get("invocation/next")
        if status != 200:
            sys.exit(f"the Runtime API answered {status}")
        request_id = headers["lambda-runtime-aws-request-id"]
        begin(request_id, headers)
        try:
            event = values.read_event(body)
            content_type, answer = values.answer(function(event, context.of(headers)))
        except Exception as error:
            faults.post(client, f"invocation/{request_id}/error", error, request_id)
        else:
            client.post(f"invocation/{request_id}/response", [("Content-Type", content_type)], answer)
        # What a function returned and raised is not kept until the next event.
        event = answer = None


def prepare_path():
    """The function's code, then layers, then the runtime."""
    root = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    first = [root, f"/opt/python/lib/{version}/site-packages", "/opt/python"]
    sys.path[:] = first + [entry for entry in dict.fromkeys(sys.path) if entry not in first]


def begin(request_id, headers):
    output.request_id = request_id
    trace = headers.get("lambda-runtime-trace-id")
    if trace:
        os.environ["_X_AMZN_TRACE_ID"] = trace
    else:
        os.environ.pop("_X_AMZN_TRACE_ID", None)
