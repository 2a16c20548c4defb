"""Hearth's Runtime API client for Python: takes events, calls the handler, posts what it returns.

It speaks HTTP/1.1 over one kept socket by hand, because importing an HTTP library would double the start of the
interpreter. What functions can see follows AWS's runtime: the context, error payloads, log lines, `sys.path`.
"""

import os
import sys
import time

API = os.environ["AWS_LAMBDA_RUNTIME_API"]
TASK_ROOT = os.environ["LAMBDA_TASK_ROOT"]


class Connection:
    """One kept connection to the Runtime API."""

    def __init__(self, address):
        import _socket

        host, port = address.rsplit(":", 1)
        self.host = address
        self.socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self.socket.connect((host, int(port)))
        self.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self.rest = b""

    def request(self, method, path, headers=(), body=b""):
        head = [f"{method} /2018-06-01/runtime/{path} HTTP/1.1", f"Host: {self.host}", f"Content-Length: {len(body)}"]
        head += [f"{name}: {value}" for name, value in headers]
        self.socket.sendall("\r\n".join(head + ["", ""]).encode("latin-1", "replace") + body)
        return self.read()

    def read(self):
        data = self.rest
        while b"\r\n\r\n" not in data:
            data += self.receive()
        head, data = data.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, value = line.split(":", 1)
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", 0))
        parts, have = [data], len(data)
        while have < length:
            more = self.receive()
            parts.append(more)
            have += len(more)
        data = b"".join(parts)
        self.rest = data[length:]
        return int(lines[0].split(" ", 2)[1]), headers, data[:length]

    def receive(self):
        data = self.socket.recv(1 << 16)
        if not data:
            sys.exit("the Runtime API closed the connection")
        return data


class Fault(Exception):
    """An error of init that has a type of AWS's own."""

    def __init__(self, error_type, message, frames=()):
        super().__init__(message)
        self.error_type = error_type
        self.frames = list(frames)


class Identity:
    def __init__(self, values):
        values = values or {}
        self.cognito_identity_id = values.get("cognitoIdentityId")
        self.cognito_identity_pool_id = values.get("cognitoIdentityPoolId")

    def __repr__(self):
        return (
            f"CognitoIdentity([cognito_identity_id={self.cognito_identity_id},"
            f"cognito_identity_pool_id={self.cognito_identity_pool_id}])"
        )


class Client:
    FIELDS = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")

    def __init__(self, values):
        for field in self.FIELDS:
            setattr(self, field, values.get(field))

    def __repr__(self):
        return "Client([" + ",".join(f"{field}={getattr(self, field)}" for field in self.FIELDS) + "])"


class ClientContext:
    def __init__(self, values):
        self.custom = values.get("custom")
        self.env = values.get("env")
        self.client = Client(values["client"]) if values.get("client") else None

    def __repr__(self):
        return f"ClientContext([custom={self.custom},env={self.env},client={self.client}])"


class LambdaContext:
    """What a handler is given as its second argument (AWS documentation, "Python context object")."""

    def __init__(self, request_id, client_context, identity, deadline_ms, arn, tenant_id):
        self.aws_request_id = request_id
        self.log_group_name = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self.function_name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
        self.memory_limit_in_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.function_version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.invoked_function_arn = arn
        self.tenant_id = tenant_id
        self.client_context = ClientContext(client_context) if client_context else None
        self.identity = Identity(identity)
        self._epoch_deadline_time_in_ms = deadline_ms

    def get_remaining_time_in_millis(self):
        return max(int(self._epoch_deadline_time_in_ms - int(time.time() * 1000)), 0)

    def log(self, message):
        sys.stdout.write(str(message))

    def __repr__(self):
        members = (
            "aws_request_id", "log_group_name", "log_stream_name", "function_name", "memory_limit_in_mb",
            "function_version", "invoked_function_arn", "client_context", "identity", "tenant_id",
        )
        return "LambdaContext([" + ",".join(f"{member}={getattr(self, member)}" for member in members) + "])"


class Request:
    """The request id that log lines carry; empty before the first event."""

    id = ""


def to_json(value):
    import json

    class Encoder(json.JSONEncoder):
        def default(self, o):
            # As AWS's client does: decimals become numbers.
            import decimal

            if isinstance(o, decimal.Decimal):
                return float(o)
            return super().default(o)

    return json.dumps(value, ensure_ascii=False, cls=Encoder)


def frames_of(traceback):
    import traceback as module

    return module.format_list([tuple(frame) for frame in module.extract_tb(traceback)])


def describe(error_type, message, frames, request_id):
    return {"errorMessage": message, "errorType": error_type, "requestId": request_id, "stackTrace": frames}


def log_error(error_type, message, frames):
    """One event with AWS's non-breaking spaces, so that indentation survives."""
    parts = [f"[ERROR] {error_type}: {message}" if message or error_type else "[ERROR]"]
    if frames:
        parts.append("Traceback (most recent call last):")
        parts += [line.replace(" ", "\u00a0") for frame in frames for line in frame.splitlines()]
    sys.stdout.write("\r".join(parts) + "\n")
    sys.stdout.flush()


def post_error(connection, path, error_type, message, frames, request_id):
    header_type = error_type if error_type.startswith("Runtime.") else "Unhandled"
    log_error(error_type, message, frames)
    body = to_json(describe(error_type, message, frames, request_id)).encode()
    headers = [("Content-Type", "application/json"), ("Lambda-Runtime-Function-Error-Type", header_type)]
    connection.request("POST", path, headers, body)


def fault_of(error, own_frames):
    """Type, message and frames of an error that user code raised; the bootstrap's own frames are left out."""
    frames = frames_of(error.__traceback__)[own_frames:]
    return type(error).__name__, str(error), frames


def load_handler(name):
    import importlib

    try:
        module_name, function_name = name.rsplit(".", 1)
    except ValueError as e:
        raise Fault("Runtime.MalformedHandlerName", f"Bad handler '{name}': {e}") from None
    if module_name.split(".")[0] in sys.builtin_module_names:
        message = f"Cannot use built-in module {module_name} as a handler module"
        raise Fault("Runtime.BuiltInModuleConflict", message)
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as e:
        raise Fault("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {e}") from None
    except SyntaxError as e:
        frames = [f'  File "{e.filename}" Line {e.lineno}\n    {e.text}']
        raise Fault("Runtime.UserCodeSyntaxError", f"Syntax error in module '{module_name}': {e}", frames) from None
    if not hasattr(module, function_name):
        raise Fault("Runtime.HandlerNotFound", f"Handler '{function_name}' missing on module '{module_name}'")
    return getattr(module, function_name)


def prepare_logging():
    """The `logging` module writes AWS's format. Installed when it is imported, so that a function without it pays
    nothing."""
    import importlib.abc

    class Hook(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name != "logging":
                return None
            sys.meta_path.remove(self)
            import importlib.util

            spec = importlib.util.find_spec("logging")
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                install_logging(module)

            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, Hook())


def install_logging(logging):
    class AddRequestId(logging.Filter):
        def filter(self, record):
            record.aws_request_id = Request.id
            return True

    class Formatter(logging.Formatter):
        converter = time.gmtime

    class Handler(logging.Handler):
        def emit(self, record):
            sys.stdout.write(self.format(record))
            sys.stdout.flush()

    handler = Handler()
    form = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
    handler.setFormatter(Formatter(form, "%Y-%m-%dT%H:%M:%S"))
    handler.addFilter(AddRequestId())
    logging.root.addHandler(handler)


def context_of(headers):
    import json

    def parsed(name):
        value = headers.get(name)
        # Headers carry UTF-8 here.
        return json.loads(value.encode("latin-1").decode("utf-8")) if value else None

    return LambdaContext(
        headers["lambda-runtime-aws-request-id"],
        parsed("lambda-runtime-client-context"),
        parsed("lambda-runtime-cognito-identity"),
        int(headers["lambda-runtime-deadline-ms"]),
        headers.get("lambda-runtime-invoked-function-arn"),
        headers.get("lambda-runtime-aws-tenant-id"),
    )


def call(handler, body, headers):
    """What to post: content type and bytes."""
    import json

    try:
        event = json.loads(body)
    except Exception as e:
        raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {e}") from None
    try:
        context = context_of(headers)
    except Exception as e:
        raise Fault("Runtime.LambdaContextUnmarshalError", f"Unable to parse Client Context: {e}") from None
    response = handler(event, context)
    try:
        return to_json(response).encode()
    except Exception as e:
        raise Fault("Runtime.MarshalError", f"Unable to marshal response: {e}") from None


def serve(connection, handler):
    while True:
        status, headers, body = connection.request("GET", "invocation/next")
        if status != 200:
            sys.exit(f"the Runtime API answered {status}")
        request_id = headers["lambda-runtime-aws-request-id"]
        Request.id = request_id
        trace = headers.get("lambda-runtime-trace-id")
        if trace:
            os.environ["_X_AMZN_TRACE_ID"] = trace
        else:
            os.environ.pop("_X_AMZN_TRACE_ID", None)
        path = f"invocation/{request_id}/"
        try:
            response = call(handler, body, headers)
        except Fault as fault:
            post_error(connection, path + "error", fault.error_type, str(fault), fault.frames, request_id)
        except Exception as error:
            # The first two frames are `serve` and `call`.
            post_error(connection, path + "error", *fault_of(error, 2), request_id)
        else:
            sys.stdout.flush()
            connection.request("POST", path + "response", [("Content-Type", "application/json")], response)


def main():
    sys.stdout.reconfigure(line_buffering=True)
    # The bootstrap's own folder is on the path as the script's; the code comes first, layers after it.
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    layers = ["/opt/python", f"/opt/python/lib/{version}/site-packages"]
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [TASK_ROOT, *layers, *(entry for entry in sys.path if entry != own), own]
    prepare_logging()
    connection = Connection(API)
    try:
        handler = load_handler(os.environ.get("_HANDLER", ""))
    except Fault as fault:
        post_error(connection, "init/error", fault.error_type, str(fault), fault.frames, "")
        sys.exit(1)
    except Exception as error:
        frames = [frame for frame in frames_of(error.__traceback__) if "importlib" not in frame][2:]
        post_error(connection, "init/error", type(error).__name__, str(error), frames, "")
        sys.exit(1)
    serve(connection, handler)


main()
