"""What a call is expected to answer."""

from botocore.exceptions import ClientError


def refused(code, status, message=None):
    """Expects an error of the service."""
    return Refused(code, status, message)


class Refused:
    def __init__(self, code, status, message):
        self.expected = (code, status, message)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        code, status, message = self.expected
        assert isinstance(error, ClientError), f"expected {code}, got {error!r}"
        assert error.response["Error"]["Code"] == code, error
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == status
        said = error.response["Error"]["Message"]
        if message is not None:
            assert said == message or (hasattr(message, "search") and message.search(said)), said
        return True
