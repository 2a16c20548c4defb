"""What a handler is given as its second argument (AWS documentation, "Lambda context object in Python")."""

import os
import time

from . import output, values
from .faults import Fault

# Fields of W3C's trace context that the client context may carry beside its own.
TRACE_FIELDS = ("traceparent", "tracestate", "baggage")


def of(headers):
    """The context of an event, from the headers that it came with."""
    return LambdaContext(
        headers["lambda-runtime-aws-request-id"],
        parsed(headers.get("lambda-runtime-client-context"), "Client Context"),
        parsed(headers.get("lambda-runtime-cognito-identity"), "Cognito Identity"),
        int(headers["lambda-runtime-deadline-ms"]),
        headers.get("lambda-runtime-invoked-function-arn"),
        headers.get("lambda-runtime-aws-tenant-id"),
    )


def parsed(text, name):
    if not text:
        return None
    try:
        # Headers were read as Latin-1; what they carry is UTF-8.
        return values.loads(text.encode("latin-1").decode())
    except Exception as error:
        raise Fault("Runtime.LambdaContextUnmarshalError", f"Unable to parse {name} JSON: {error}") from None


def trace_context(client_context):
    fields = client_context.get("w3c") if isinstance(client_context, dict) else None
    if not isinstance(fields, dict):
        return {}
    return {name: fields[name] for name in TRACE_FIELDS if isinstance(fields.get(name), str)}


def shown(name, value, members):
    return f"{name}([" + ",".join(f"{member}={getattr(value, member)}" for member in members) + "])"


class CognitoIdentity:
    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self, values):
        self.cognito_identity_id = values.get("cognitoIdentityId")
        self.cognito_identity_pool_id = values.get("cognitoIdentityPoolId")

    def __repr__(self):
        return shown("CognitoIdentity", self, self.__slots__)


class Client:
    __slots__ = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")

    def __init__(self, values):
        for member in self.__slots__:
            setattr(self, member, values.get(member))

    def __repr__(self):
        return shown("Client", self, self.__slots__)


class ClientContext:
    __slots__ = ("custom", "env", "client")

    def __init__(self, values):
        self.custom = values.get("custom")
        self.env = values.get("env")
        client = values.get("client")
        self.client = Client(client) if client is not None else None

    def __repr__(self):
        return shown("ClientContext", self, self.__slots__)


class LambdaContext:
    def __init__(self, request_id, client_context, cognito_identity, deadline_ms, arn, tenant_id):
        self.aws_request_id = request_id
        self.log_group_name = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self.function_name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
        self.memory_limit_in_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.function_version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.invoked_function_arn = arn
        self.tenant_id = tenant_id
        self._trace_context = trace_context(client_context)
        self.client_context = ClientContext(client_context) if client_context is not None else None
        self.identity = CognitoIdentity({} if cognito_identity is None else cognito_identity)
        self._epoch_deadline_time_in_ms = deadline_ms

    def get_remaining_time_in_millis(self):
        return max(int(self._epoch_deadline_time_in_ms - int(time.time() * 1000)), 0)

    def w3c(self):
        return dict(self._trace_context)

    def log(self, message):
        output.log(str(message), output.PLAIN)

    def __repr__(self):
        members = (
            "aws_request_id",
            "log_group_name",
            "log_stream_name",
            "function_name",
            "memory_limit_in_mb",
            "function_version",
            "invoked_function_arn",
            "client_context",
            "identity",
            "tenant_id",
        )
        return shown("LambdaContext", self, members)
