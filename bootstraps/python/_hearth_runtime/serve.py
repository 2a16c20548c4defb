"""The loop: an event, the handler, its answer."""

import os
import sys

from . import faults, output
from .client import Client
from .faults import Fault


def main():
    output.unbuffer()
    output.prepare_logging()
    prepare_path()
    client = Client(os.environ["AWS_LAMBDA_RUNTIME_API"])
    from . import handler

    try:
        function = handler.load(os.environ.get("_HANDLER", ""))
    except Exception as error:
        faults.post(client, "init/error", error, "", faults.is_import)
        sys.exit(1)
    # The first event must not wait for these.
    from . import context  # noqa: F401

    import json  # noqa: F401

    serve(client, function)


def prepare_path():
    """The function's code, then layers, then the runtime."""
    root = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    first = [root, f"/opt/python/lib/{version}/site-packages", "/opt/python"]
    sys.path[:] = first + [entry for entry in dict.fromkeys(sys.path) if entry not in first]


def serve(client, function):
    while True:
        status, headers, body = client.get("invocation/next")
        if status != 200:
            sys.exit(f"the Runtime API answered {status}")
        request_id = headers["lambda-runtime-aws-request-id"]
        output.request_id = request_id
        trace = headers.get("lambda-runtime-trace-id")
        if trace:
            os.environ["_X_AMZN_TRACE_ID"] = trace
        else:
            os.environ.pop("_X_AMZN_TRACE_ID", None)
        try:
            content_type, answer = call(function, headers, body)
        except Exception as error:
            faults.post(client, f"invocation/{request_id}/error", error, request_id)
        else:
            client.post(f"invocation/{request_id}/response", [("Content-Type", content_type)], answer)


def call(function, headers, body):
    """Content type and bytes of the answer."""
    event = read_event(body)
    context = read_context(headers)
    result = function(event, context)
    if isinstance(result, (bytes, bytearray)):
        return "application/unknown", bytes(result)
    return "application/json", to_json(result)


def read_event(body):
    import json

    try:
        return json.loads(body)
    except Exception as error:
        raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from None


def read_context(headers):
    import json

    from .context import LambdaContext

    def parsed(name):
        value = headers.get(name)
        # The bytes of a header are UTF-8.
        return json.loads(value.encode("latin-1").decode()) if value else None

    try:
        client_context = parsed("lambda-runtime-client-context")
        identity = parsed("lambda-runtime-cognito-identity")
    except Exception as error:
        raise Fault("Runtime.LambdaContextUnmarshalError", f"Unable to parse Client Context: {error}") from None
    return LambdaContext(
        headers["lambda-runtime-aws-request-id"],
        client_context,
        identity,
        int(headers["lambda-runtime-deadline-ms"]),
        headers.get("lambda-runtime-invoked-function-arn"),
        headers.get("lambda-runtime-aws-tenant-id"),
    )


def to_json(value):
    import json

    try:
        return json.dumps(value, ensure_ascii=False, default=decimal).encode()
    except Exception as error:
        raise Fault("Runtime.MarshalError", f"Unable to marshal response: {error}") from None


def decimal(value):
    """Decimals become numbers; all else that JSON has no word for is an error."""
    decimals = sys.modules.get("decimal")
    if decimals and isinstance(value, decimals.Decimal):
        return float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
