"""The loop: an event, the handler, its answer."""

import os
import sys

from . import context, faults, handler, output, parked, values
from .client import Client
from .path import prepare_path


def main():
    output.unbuffer()
    output.prepare_logging()
    client = Client(os.environ["AWS_LAMBDA_RUNTIME_API"])
    parked.wait(client)
    prepare_path()
    try:
        function = handler.load(os.environ.get("_HANDLER", ""))
    except Exception as error:
        # Only here does AWS's client name the type to the platform.
        error_type = [("Lambda-Runtime-Function-Error-Type", faults.described(error)[0])]
        client.post("init/error", error_type, faults.reported(error, ""))
        sys.exit(1)
    client.ask()
    while True:
        request_id, headers, body = client.event()
        begin(request_id, headers)
        try:
            given = context.of(headers)
            content_type, answer = values.answer(function(values.read_event(body), given))
            path = f"invocation/{request_id}/response"
        except Exception as error:
            content_type, answer = "application/json", faults.reported(error, request_id)
            path = f"invocation/{request_id}/error"
        client.post_and_ask(path, [("Content-Type", content_type)], answer)
        # What a function returned and raised is not kept until the next event.
        given = body = answer = None


def begin(request_id, headers):
    output.request_id = request_id
    output.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
    trace = headers.get("lambda-runtime-trace-id")
    if trace:
        os.environ["_X_AMZN_TRACE_ID"] = trace
    else:
        os.environ.pop("_X_AMZN_TRACE_ID", None)
