"""What a call is expected to answer."""

import sys

from botocore.exceptions import ClientError

# Called with every expectation that held, where somebody counts them.
on_held = None


def refused(code, status, message=None):
    """Expects an error of the service."""
    return Refused(code, status, message)


class Refused:
    def __init__(self, code, status, message):
        self.expected = (code, status, message)

    def __enter__(self):
        self.line = sys._getframe(1).f_lineno
        return self

    def __exit__(self, kind, error, _):
        code, status, message = self.expected
        assert isinstance(error, ClientError), f"expected {code}, got {error!r}"
        assert error.response["Error"]["Code"] == code, error
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == status
        said = error.response["Error"]["Message"]
        if message is not None:
            assert said == message or (hasattr(message, "search") and message.search(said)), said
        if on_held:
            on_held(self.line, *self.expected)
        return True
