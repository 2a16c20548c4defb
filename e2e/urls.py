"""A function behind a URL, reached as its clients do."""

import base64
import contextlib
import http.client
import json
import urllib.parse

NONE = {"FunctionUrlAuthType": "NONE"}


def permit(client, name, principal="*", auth="NONE", qualifier=None):
    """Both permissions that a URL asks for."""
    also = {"Qualifier": qualifier} if qualifier else {}
    for sid, action, condition in (
        ("url", "lambda:InvokeFunctionUrl", {"FunctionUrlAuthType": auth}),
        ("via", "lambda:InvokeFunction", {"InvokedViaFunctionUrl": True}),
    ):
        client.add_permission(
            FunctionName=name, StatementId=sid, Action=action, Principal=principal, **condition, **also
        )


def create(client, name, auth="NONE", let=True, qualifier=None, **settings):
    also = {"Qualifier": qualifier} if qualifier else {}
    config = client.create_function_url_config(FunctionName=name, AuthType=auth, **settings, **also)
    if let and auth == "NONE":
        permit(client, name, qualifier=qualifier)
    return Url(config["FunctionUrl"])


class Url:
    def __init__(self, text):
        self.text = text
        self.parts = urllib.parse.urlsplit(text)
        self.id = self.parts.hostname.split(".")[0]
        # Reached by address: not every resolver knows names below localhost.
        self.by_path = f"http://127.0.0.1:{self.parts.port}/_hearth/v1/url/{self.id}"

    def request(self, method="GET", target="/", body=None, headers=None, timeout=60):
        connection = http.client.HTTPConnection("127.0.0.1", self.parts.port, timeout=timeout)
        with contextlib.closing(connection):
            return exchange(connection, self, method, target, body, headers)

    def event(self, *arguments, **settings):
        """What a function that returns its event was told."""
        return self.request(*arguments, **settings).json


def exchange(connection, url, method="GET", target="/", body=None, headers=None):
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    items = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
    if not any(name.lower() == "host" for name, _ in items):
        items.insert(0, ("Host", url.parts.netloc))
    body = body.encode() if isinstance(body, str) else body
    if body is not None and not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in items):
        items.append(("Content-Length", str(len(body))))
    for name, value in items:
        connection.putheader(name, value)
    connection.endheaders(body)
    return Answer(connection.getresponse())


class Answer:
    def __init__(self, answer):
        self.status = answer.status
        self.all = answer.getheaders()
        self.headers = {name.lower(): value for name, value in self.all}
        self.body = answer.read()

    @property
    def json(self):
        assert self.status == 200, (self.status, self.body)
        return json.loads(self.body)

    @property
    def text(self):
        return self.body.decode()

    def every(self, name):
        return [value for found, value in self.all if found.lower() == name]


def told(event):
    """The body of an event, as bytes."""
    body = event.get("body", "")
    return base64.b64decode(body) if event["isBase64Encoded"] else body.encode()
