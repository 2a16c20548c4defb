"""Function URLs: what a function is told of a request, and what its clients are answered."""

import concurrent.futures
import contextlib
import http.client
import json
import re
import socket
import subprocess
import time
import urllib.request
import uuid

import pytest
import requests
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from conftest import Functions, accounts, make_client
from packages import installed, python
from urls import NONE, Answer, Url, create, exchange, permit, told

FORBIDDEN = (
    "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
)
ECHO = python("return event")


@pytest.fixture
def echo(make, client):
    return create(client, make(ECHO))


@pytest.fixture
def returning(make, client):
    """A URL of a function that returns what it is sent, as Python reads it."""
    return create(client, make(python("return eval(event['body'])")))


def forbidden(answer):
    assert (answer.status, json.loads(answer.body)) == (403, {"Message": FORBIDDEN}), answer.body
    assert answer.headers["x-amzn-errortype"] == "AccessDeniedException"
    return True


# What the function is told.


def test_a_request_is_told_in_format_2(echo):
    headers = [("User-Agent", "me"), ("Cookie", "a=1; b=2"), ("X-Two", "1"), ("X-Two", "2"), ("Connection", "keep-alive")]
    answer = echo.request("GET", "/pa2%Fth/1?foo=%2Fbar&foo=b+c&d", headers=headers)
    event, context = answer.json, answer.json["requestContext"]
    assert (event["version"], event["routeKey"], event["rawPath"]) == ("2.0", "$default", "/pa2%Fth/1")
    assert event["rawQueryString"] == "foo=%2Fbar&foo=b+c&d"
    assert event["queryStringParameters"] == {"foo": "/bar,b c", "d": ""}
    assert event["cookies"] == ["a=1", "b=2"]
    assert "body" not in event and event["isBase64Encoded"] is False
    assert event["headers"]["x-two"] == "1,2" and event["headers"]["host"] == echo.parts.netloc
    assert not {"cookie", "connection", "X-Two"} & set(event["headers"])
    assert (event["headers"]["x-forwarded-for"], event["headers"]["x-forwarded-proto"]) == ("127.0.0.1", "http")
    assert context["http"] == {
        "method": "GET",
        "path": "/pa2%Fth/1",
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.1",
        "userAgent": "me",
    }
    assert (context["accountId"], context["apiId"], context["domainPrefix"]) == ("anonymous", echo.id, echo.id)
    assert context["domainName"] == echo.parts.hostname
    assert context["requestId"] == answer.headers["x-amzn-requestid"] == str(uuid.UUID(context["requestId"]))
    assert abs(context["timeEpoch"] / 1000 - time.time()) < 60
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", context["time"])
    assert event["headers"]["x-amzn-trace-id"].startswith("Root=1-")
    assert answer.headers["x-amzn-trace-id"].startswith(event["headers"]["x-amzn-trace-id"])


def test_the_request_id_and_the_arn_are_the_handlers(make, client):
    name = make(python("return [context.aws_request_id, context.invoked_function_arn]"))
    answer = create(client, name).request()
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    assert answer.json == [answer.headers["x-amzn-requestid"], arn]


@pytest.mark.parametrize(
    "kind, body, encoded",
    [
        ("text/plain", "é".encode(), False),
        ("application/json", b'{"a": 1}', False),
        ("application/xml", b"<a/>", False),
        (None, b"plain", False),
        (None, b"\xff\x00", True),
        ("text/plain", b"\xff", True),
        ("application/octet-stream", bytes(range(256)), True),
        ("application/x-www-form-urlencoded", b"a=1", True),
        ("multipart/form-data; boundary=x", b"--x--", True),
    ],
)
def test_bodies(echo, kind, body, encoded):
    event = echo.event("POST", "/", body, {"Content-Type": kind} if kind else {})
    assert (event["isBase64Encoded"], told(event)) == (encoded, body)
    assert event["headers"]["content-length"] == str(len(body))


def test_every_method_but_two(echo):
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert echo.event(method)["requestContext"]["http"]["method"] == method
    head = echo.request("HEAD")
    assert (head.status, head.body) == (200, b"") and int(head.headers["content-length"]) > 100
    for method in ("TRACE", "CONNECT", "PROPFIND"):
        assert echo.request(method).status in (400, 405), method


def test_a_body_in_chunks_is_a_body(echo):
    body = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"
    event = echo.event("POST", "/", body, {"Transfer-Encoding": "chunked"})
    assert told(event) == b"hello world"
    assert event["headers"]["content-length"] == "11" and "transfer-encoding" not in event["headers"]


def test_the_path_form_is_the_same_request(echo):
    connection = http.client.HTTPConnection("127.0.0.1", echo.parts.port)
    with contextlib.closing(connection):
        connection.request("GET", f"/_hearth/v1/url/{echo.id}/a/b?c=d")
        event = Answer(connection.getresponse()).json
    assert (event["rawPath"], event["rawQueryString"]) == ("/a/b", "c=d")
    assert event["headers"]["host"] == echo.parts.netloc
    assert json.loads(urllib.request.urlopen(echo.by_path).read())["rawPath"] == "/"


# What clients are answered.


@pytest.mark.parametrize(
    "result, status, kind, body",
    [
        ("{'hello': 'world'}", 200, "application/json", b'{"hello":"world"}'),
        ("['hello', 3, True]", 200, "application/json", b'["hello",3,true]'),
        ("'hello'", 200, "application/json", b"hello"),
        ("3.1", 200, "application/json", b"3.1"),
        ("None", 200, "application/json", b"null"),
        ("{'statusCode': '418', 'body': 'tea'}", 418, "application/json", b"tea"),
        ("{'statusCode': 200, 'headers': {'Content-Type': 'text/html'}, 'body': '<b>'}", 200, "text/html", b"<b>"),
        ("{'statusCode': 200, 'body': 'aGk=', 'isBase64Encoded': True}", 200, "application/json", b"hi"),
    ],
)
def test_results(returning, result, status, kind, body):
    answer = returning.request("POST", "/", result)
    assert (answer.status, answer.headers["content-type"], answer.body) == (status, kind, body)
    assert answer.headers["content-length"] == str(len(body)) and "date" in answer.headers


def test_headers_and_cookies_of_a_result(returning):
    result = "{'statusCode': 204, 'headers': {'X-A': 'b', 'content-length': '99', 'transfer-encoding': 'chunked'}, 'cookies': ['a=1', 'b=2; Path=/']}"
    answer = returning.request("POST", "/", result)
    assert (answer.status, answer.body, answer.headers["x-a"]) == (204, b"", "b")
    assert answer.every("set-cookie") == ["a=1", "b=2; Path=/"]
    assert "transfer-encoding" not in answer.headers


@pytest.mark.parametrize(
    "result",
    [
        "1 / 0",
        "{'statusCode': 'no'}",
        "{'statusCode': 99}",
        "{'statusCode': 200, 'headers': {'x': 'a\\r\\nb: c'}}",
        "{'statusCode': 200, 'headers': {'x y': 'a'}}",
        "{'statusCode': 200, 'body': '%', 'isBase64Encoded': True}",
        "'x' * 6291557",
        "__import__('os')._exit(3)",
    ],
)
def test_what_is_no_answer_is_502(returning, result):
    answer = returning.request("POST", "/", result)
    assert (answer.status, answer.body) == (502, b"Internal Server Error")
    assert "x-amzn-errortype" in answer.headers
    assert returning.request("POST", "/", "1").text == "1"


def test_a_timeout_is_502(make, client):
    url = create(client, make(python("import time; time.sleep(60)"), Timeout=1))
    answer = url.request()
    assert (answer.status, answer.body) == (502, b"Internal Server Error")


def test_limits(returning, echo):
    assert returning.request("POST", "/", "'x' * 6000000").body == b"x" * 6000000
    answer = echo.request("POST", "/", b"x" * 6291457, {"Content-Type": "text/plain"})
    assert answer.status == 413 and b"6291456 bytes" in answer.body
    # What does not fit with all that is told beside it.
    assert echo.request("POST", "/", b"\xff" * 5000000).status == 413
    assert len(told(echo.event("POST", "/", b"x" * 3000000, {"Content-Type": "text/plain"}))) == 3000000


def test_throttles_are_429(own):
    name = own.make(ECHO)
    url = create(own.client, name)
    own.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    answer = url.request()
    assert (answer.status, json.loads(answer.body)) == (429, {"Message": "Rate Exceeded."})
    own.client.delete_function_concurrency(FunctionName=name)
    assert url.request().status == 200


def test_a_browsers_many_requests_on_one_connection(echo):
    connection = http.client.HTTPConnection("127.0.0.1", echo.parts.port)
    with contextlib.closing(connection):
        for number in range(20):
            assert exchange(connection, echo, "POST", f"/{number}", "x" * number).json["rawPath"] == f"/{number}"
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda number: echo.event("GET", f"/{number}")["rawPath"], range(40)))
    assert paths == [f"/{number}" for number in range(40)]


def test_a_client_that_goes_away_ends_nothing(make, client):
    url = create(client, make(python("import time; time.sleep(float(event['rawQueryString'] or 0)); return 'done'")))
    assert url.request().text == "done"
    with socket.create_connection(("127.0.0.1", url.parts.port)) as gone:
        gone.sendall(f"GET /?0.5 HTTP/1.1\r\nHost: {url.parts.netloc}\r\n\r\n".encode())
    assert url.request().text == "done"


def test_curl_finds_the_host_and_speaks_http_2(echo):
    resolve = ["--resolve", f"{echo.parts.hostname}:{echo.parts.port}:127.0.0.1"]
    for version in ("--http1.1", "--http2-prior-knowledge"):
        command = ["curl", "-sS", "--fail", version, *resolve, f"{echo.text}x?y=z", "-d", "body", "-H", "content-type: text/plain"]
        event = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
        assert (event["rawPath"], event["body"], event["headers"]["host"]) == ("/x", "body", echo.parts.netloc)


FRAMEWORK = """
from mangum import Mangum
from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route


async def greet(request):
    name = request.path_params["name"]
    response = JSONResponse({"hello": name, "seen": request.cookies.get("seen"), "q": request.query_params.getlist("q")})
    response.set_cookie("seen", name)
    response.set_cookie("second", "x")
    return response


async def upload(request):
    return Response((await request.body())[::-1], media_type="application/octet-stream")


async def away(request):
    return RedirectResponse(request.url_for("greet", name="you"))


routes = [Route("/hello/{name}", greet, name="greet"), Route("/upload", upload, methods=["POST"]), Route("/away", away)]
handler = Mangum(Starlette(routes=routes), lifespan="off")
"""


def test_a_web_framework_is_at_home(make, client):
    modules = ("mangum", "starlette", "anyio", "idna", "typing_extensions")
    url = create(client, make(installed(*modules) | {"index.py": FRAMEWORK}, MemorySize=512))
    session = requests.Session()
    answer = session.get(f"{url.by_path}/hello/w%C3%B6rld?q=1&q=2")
    assert answer.json() == {"hello": "wörld", "seen": None, "q": ["1", "2"]}
    assert {cookie.name for cookie in session.cookies} == {"seen", "second"}
    again = session.get(f"{url.by_path}/hello/again", headers={"Cookie": "seen=before; second=x"})
    assert again.json()["seen"] == "before"
    body = bytes(range(256)) * 10
    assert session.post(f"{url.by_path}/upload", data=body).content == body[::-1]
    away = session.get(f"{url.by_path}/away", allow_redirects=False)
    assert (away.status_code, away.headers["location"]) == (307, f"{url.text}hello/you")
    assert session.get(f"{url.by_path}/nowhere").status_code == 404


# Qualifiers and lives.


def test_an_alias_has_its_own_url_and_version(own):
    name = own.make(python("return 1"))
    own.client.create_alias(FunctionName=name, Name="live", FunctionVersion=own.publish(name))
    alias = create(own.client, name, qualifier="live")
    plain = create(own.client, name)
    own.change(name, python("return 2"))
    assert (alias.request().text, plain.request().text) == ("1", "2")
    own.client.update_alias(FunctionName=name, Name="live", FunctionVersion=own.publish(name))
    assert alias.request().text == "2"
    own.client.delete_alias(FunctionName=name, Name="live")
    assert forbidden(alias.request()) and plain.request().text == "2"


def test_a_url_that_is_gone_and_one_that_never_was(own, server):
    name = own.make(ECHO)
    url = create(own.client, name)
    own.client.delete_function_url_config(FunctionName=name)
    assert forbidden(url.request())
    again = create(own.client, name, let=False)
    assert again.request().status == 200 and forbidden(url.request())
    own.client.delete_function(FunctionName=name)
    assert forbidden(again.request())
    never = Url(f"http://{'a' * 32}.lambda-url.us-east-1.localhost:{server.port}/")
    answer = never.request()
    assert (answer.status, json.loads(answer.body)) == (403, {"Message": None})
    elsewhere = Url(url.text.replace("us-east-1", "eu-west-1"))
    assert elsewhere.request().status == 403


# Who may call.


def test_both_permissions_are_asked_for(own):
    name = own.make(ECHO)
    url = create(own.client, name, let=False)
    assert forbidden(url.request())
    own.client.add_permission(
        FunctionName=name, StatementId="url", Action="lambda:InvokeFunctionUrl", Principal="*", **NONE
    )
    assert forbidden(url.request())
    own.client.add_permission(
        FunctionName=name, StatementId="via", Action="lambda:InvokeFunction", Principal="*", InvokedViaFunctionUrl=True
    )
    assert url.request().status == 200
    own.client.remove_permission(FunctionName=name, StatementId="url")
    assert forbidden(url.request())


def test_a_permission_for_an_account_is_not_everybodys(own):
    name = own.make(ECHO)
    url = create(own.client, name, let=False)
    permit(own.client, name, principal=own.account)
    assert forbidden(url.request())


def signed(
    url,
    key,
    secret="test",
    token=None,
    method="GET",
    target="/",
    body=b"",
    auth=SigV4Auth,
    region="us-east-1",
    service="lambda",
    headers=None,
):
    credentials = Credentials(key, secret, token)
    request = AWSRequest(method, url.text.rstrip("/") + target, data=body, headers=headers or {})
    if auth is SigV4Auth:
        auth(credentials, service, region).add_auth(request)
        return list(request.headers.items()), target
    auth(credentials, service, region, expires=60).add_auth(request)
    return [], request.url[len(url.text) - 1 :]


def send(url, key, method="GET", body=b"", **settings):
    headers, target = signed(url, key, method=method, body=body, **settings)
    return url.request(method, target, body or None, headers)


@pytest.fixture
def guarded(own):
    own.name = own.make(ECHO)
    own.url = create(own.client, own.name, auth="AWS_IAM")
    return own


def test_an_account_may_call_its_own(guarded):
    url = guarded.url
    for target in ("/", "/a/../b//c?x=1&a=%20&x=%2F", "/%C3%A9%20x"):
        assert send(url, guarded.account, target=target).status == 200, target
    for method, body in (("POST", b'{"a": 1}'), ("PUT", bytes(range(256)) * 100)):
        event = send(url, guarded.account, method=method, body=body).json
        assert told(event) == body
    iam = event["requestContext"]["authorizer"]["iam"]
    assert iam == {
        "accessKey": guarded.account,
        "accountId": guarded.account,
        "callerId": guarded.account,
        "cognitoIdentity": None,
        "principalOrgId": None,
        "userArn": f"arn:aws:iam::{guarded.account}:root",
        "userId": guarded.account,
    }
    assert event["requestContext"]["accountId"] == guarded.account
    assert "authorization" not in event["headers"] and "x-amz-date" in event["headers"]


def test_a_presigned_request_is_signed(guarded):
    event = send(guarded.url, guarded.account, target="/x?y=z", auth=SigV4QueryAuth).json
    assert event["requestContext"]["authorizer"]["iam"]["accountId"] == guarded.account


def test_what_is_not_signed_as_it_must_be_is_forbidden(guarded):
    url, account = guarded.url, guarded.account
    assert forbidden(url.request())
    assert forbidden(send(url, account, secret="wrong"))
    assert forbidden(send(url, account, service="s3"))
    assert forbidden(send(url, account, region="eu-west-1"))
    headers, _ = signed(url, account, method="POST", body=b"one")
    assert forbidden(url.request("POST", "/", b"two", headers))
    assert forbidden(url.request("POST", "/x", b"one", headers))
    assert forbidden(url.request("PUT", "/", b"one", headers))
    assert url.request("POST", "/", b"one", headers).status == 200
    assert forbidden(url.request("POST", "/", b"one", headers + [("Authorization", dict(headers)["Authorization"])]))
    old = [(name, "20200101T000000Z" if name == "X-Amz-Date" else value) for name, value in headers]
    assert forbidden(url.request("POST", "/", b"one", old))
    assert forbidden(send(url, account, headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}))


def test_another_account_needs_the_functions_policy(guarded):
    other = str(next(accounts))
    assert forbidden(send(guarded.url, other))
    permit(guarded.client, guarded.name, principal=other, auth="AWS_IAM")
    event = send(guarded.url, other).json
    assert event["requestContext"]["authorizer"]["iam"]["accountId"] == other
    assert event["requestContext"]["accountId"] == guarded.account
    assert forbidden(send(guarded.url, str(next(accounts))))


def test_a_role_may_do_what_its_policies_say(guarded, server):
    iam, sts = (make_client(server, service, account=guarded.account) for service in ("iam", "sts"))
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"AWS": guarded.account}, "Action": "sts:AssumeRole"}]}
    arn = iam.create_role(RoleName="caller", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    session = sts.assume_role(RoleArn=arn, RoleSessionName="me")
    keys = session["Credentials"]
    key, secret, token = keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"]
    call = lambda: send(guarded.url, key, secret=secret, token=token)
    assert forbidden(call())

    def let(effect, *actions):
        statement = {"Effect": effect, "Action": actions, "Resource": guarded.arn + guarded.name}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_role_policy(RoleName="caller", PolicyName=effect, PolicyDocument=document)

    let("Allow", "lambda:InvokeFunctionUrl")
    assert forbidden(call())
    let("Allow", "lambda:InvokeFunctionUrl", "lambda:InvokeFunction")
    told = call().json["requestContext"]["authorizer"]["iam"]
    assert told["userArn"] == session["AssumedRoleUser"]["Arn"]
    assert told["callerId"] == told["userId"] == session["AssumedRoleUser"]["AssumedRoleId"]
    assert forbidden(send(guarded.url, key, secret="test", token=token)), "not the session's own secret"
    assert forbidden(send(guarded.url, key, secret=secret)), "without its token"
    let("Deny", "lambda:InvokeFunctionUrl")
    assert forbidden(call())
    iam.delete_role_policy(RoleName="caller", PolicyName="Deny")
    iam.delete_role_policy(RoleName="caller", PolicyName="Allow")
    # The function's policy alone, when it names the role; not when it names the account.
    permit(guarded.client, guarded.name, principal=guarded.account, auth="AWS_IAM")
    assert forbidden(call())
    for sid in ("url", "via"):
        guarded.client.remove_permission(FunctionName=guarded.name, StatementId=sid)
    permit(guarded.client, guarded.name, principal=arn, auth="AWS_IAM")
    assert call().status == 200


def test_a_function_calls_another_with_its_own_credentials(guarded, server):
    body = """
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.session import Session
import urllib.request
url = event["url"]
request = AWSRequest("POST", url, data=b"inside")
SigV4Auth(Session().get_credentials(), "lambda", "us-east-1").add_auth(request)
sent = urllib.request.Request(url, b"inside", dict(request.headers), method="POST")
sent.add_header("Content-Type", "text/plain")
return json.loads(urllib.request.urlopen(sent).read())
"""
    caller = guarded.make(python(body, "import json"), Timeout=60)
    url = guarded.url
    answer = guarded.client.invoke(FunctionName=caller, Payload=json.dumps({"url": url.by_path + "/x"}))
    told_of = json.loads(answer["Payload"].read())
    if "requestContext" not in told_of and "botocore" in str(told_of):
        pytest.skip("this host's Python has no SDK for functions")
    assert told_of["requestContext"]["authorizer"]["iam"]["userArn"].endswith(f":assumed-role/hearth/{caller}"), told_of
    assert told_of["body"] == "inside"


def test_the_operators_secret(start):
    server = start(HEARTH_AUTH_LOCAL_SECRET="better")
    functions = Functions(make_client(server))
    url = create(functions.client, functions.make(ECHO), auth="AWS_IAM")
    assert send(url, "test", secret="better").status == 200
    assert forbidden(send(url, "test"))
    assert "better" not in server.said()


# Browsers.

ORIGIN = {"Origin": "https://app.example"}
PREFLIGHT = ORIGIN | {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-a"}


def test_cors_is_hearths_where_there_are_rules(own):
    name = own.make(python("return {'statusCode': 200, 'headers': {'Access-Control-Allow-Origin': 'https://wrong.example'}}"))
    cors = {"AllowOrigins": ["https://app.example"], "AllowMethods": ["PUT"], "AllowHeaders": ["x-a"], "MaxAge": 5}
    url = create(own.client, name, Cors=cors)
    answer = url.request("OPTIONS", headers=PREFLIGHT)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["access-control-allow-methods"] == "PUT"
    assert (answer.headers["access-control-allow-headers"], answer.headers["access-control-max-age"]) == ("x-a", "5")
    answer = url.request("PUT", headers=ORIGIN)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "https://app.example")
    for headers in ({"Origin": "https://evil.example"}, {}):
        answer = url.request("PUT", headers=headers)
        assert answer.status == 200 and "access-control-allow-origin" not in answer.headers
    evil = url.request("OPTIONS", headers=PREFLIGHT | {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in evil.headers


def test_a_preflight_needs_no_signature(own):
    url = create(own.client, own.make(ECHO), auth="AWS_IAM", Cors={"AllowOrigins": ["*"], "AllowMethods": ["*"]})
    answer = url.request("OPTIONS", headers=PREFLIGHT)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "*")
    assert forbidden(url.request("PUT", headers=ORIGIN))


def test_without_rules_the_function_sees_preflights_and_foreign_origins(echo):
    event = echo.event("OPTIONS", "/", None, PREFLIGHT)
    assert event["headers"]["origin"] == "https://app.example"
    # Everywhere else they are refused.
    connection = http.client.HTTPConnection("127.0.0.1", echo.parts.port)
    with contextlib.closing(connection):
        connection.request("GET", "/2015-03-31/functions", headers=ORIGIN)
        assert connection.getresponse().status == 403


def test_foreign_hosts_are_refused(echo):
    for host in ("evil.example", f"{echo.id}.lambda-url.us-east-1.on.aws"):
        assert echo.request("GET", f"/_hearth/v1/url/{echo.id}/", headers={"Host": host}).status == 403


# Hostile clients.


def raw(url, data, patience=20):
    """All that is answered to these bytes until the connection is closed."""
    with socket.create_connection(("127.0.0.1", url.parts.port), timeout=patience) as client:
        client.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := client.recv(65536):
                answer += piece
        return answer


@pytest.fixture
def counted(make, client):
    """A URL whose function tells how often it has run before."""
    url = create(client, make(python("global count; count += 1; return count", "count = 0")))
    url.ran = int(url.request().text)
    return url


HOSTILE = {
    "both lengths": "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, the other way": "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a signed length": "Content-Length: +5\r\n\r\nhello",
    "a length with a space": "Content-Length : 5\r\n\r\nhello",
    "another encoding": "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two encodings": "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a chunk in C": "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "a negative chunk": "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    "a chunk that is longer than it says": "Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
    "a chunk with one byte for its end": "Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
    "a huge chunk": "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
    "a folded header": "X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "broken UTF-8": "X: \udcff\udcfe\r\nContent-Length: 0\r\n\r\n",
    "ten thousand headers": "".join(f"x-{number}: y\r\n" for number in range(10_000)) + "\r\n",
    "a header of a megabyte": f"X: {'y' * 1_000_000}\r\n\r\n",
    "two hosts": "Host: evil.example\r\nContent-Length: 0\r\n\r\n",
    "a byte that is none of HTTP": "X\0: y\r\n\r\n",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_requests_are_refused_and_reach_nothing(counted, what):
    head = f"POST /_hearth/v1/url/{counted.id}/ HTTP/1.1\r\nHost: {counted.parts.netloc}\r\n"
    # Behind it what must not be taken for another request.
    hidden = f"GET / HTTP/1.1\r\nHost: {counted.parts.netloc}\r\n\r\n" if what != "two hosts" else ""
    request = (head + HOSTILE[what] + hidden).encode(errors="surrogateescape")
    answer = b""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        answer = raw(counted, request)
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", answer)
    if len(request) < 10_000:
        assert statuses == [b"400"], answer
    else:
        # Who is refused while they still send may not hear of it.
        assert statuses in ([], [b"431"]), answer
    assert int(counted.request().text) == counted.ran + 1


def test_a_request_before_a_hostile_one_is_answered(counted):
    good = f"POST / HTTP/1.1\r\nHost: {counted.parts.netloc}\r\nContent-Length: 2\r\n\r\nab"
    bad = f"POST / HTTP/1.1\r\nHost: {counted.parts.netloc}\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"
    answer = raw(counted, (good + bad + good).encode())
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"400"], answer
    assert int(counted.request().text) == counted.ran + 2


PATIENCE = 2


def slowly(address, said, more, deadline):
    """Says so much, and `more` bit by bit until the connection ends: what was answered. Fails if it does not end."""
    with socket.create_connection(address) as connection:
        connection.sendall(said)
        connection.settimeout(PATIENCE / 20)
        answer = b""
        while time.monotonic() < deadline:
            try:
                if more:
                    connection.send(more)
                piece = connection.recv(65536)
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                return answer
            if not piece:
                return answer
            answer += piece
    raise AssertionError(f"not let go after {said[:40]}, then {more}: {answer}")


def test_slow_clients_are_let_go_and_others_are_served(start):
    server = start(HEARTH_CLIENTS_TIMEOUT=f"{PATIENCE}s")
    client = make_client(server)
    counted = create(client, Functions(client).make(python("global count; count += 1; return count", "count = 0")))
    head = f"POST /_hearth/v1/url/{counted.id}/ HTTP/1.1\r\nHost: {counted.parts.netloc}\r\n".encode()
    invoke = b"POST /2015-03-31/functions/none/invocations HTTP/1.1\r\nHost: localhost\r\n"
    kinds = {
        "nothing": (b"", b""),
        "half a head": (head, b""),
        "a head without end": (head, b"x: y\r\n"),
        "a body that does not come": (head + b"Content-Length: 100000\r\n\r\n", b""),
        "a body bit by bit": (head + b"Content-Length: 100000\r\n\r\n", b"x"),
        "chunks bit by bit": (head + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        "the body of a call": (invoke + b"Content-Length: 100000\r\n\r\n", b"x"),
        "HTTP/2, and nothing": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""),
    }
    address, each = ("127.0.0.1", server.port), 25
    deadline = time.monotonic() + 20 * PATIENCE
    with concurrent.futures.ThreadPoolExecutor(each * len(kinds)) as pool:
        slow = {kind: [pool.submit(slowly, address, *said, deadline) for _ in range(each)] for kind, said in kinds.items()}
        calls = 0
        while calls < 20 or not all(one.done() for of_kind in slow.values() for one in of_kind):
            calls += 1
            assert counted.request().text == str(calls)
        answers = {kind: {one.result()[:12] for one in of_kind} for kind, of_kind in slow.items()}
    too_slow = {b"HTTP/1.1 408"}
    for kind in ("a body that does not come", "a body bit by bit", "chunks bit by bit", "the body of a call"):
        assert answers[kind] == too_slow, kind
    for kind in ("nothing", "half a head", "a head without end"):
        assert answers[kind] <= {b""} | too_slow, kind
    assert counted.request().text == str(calls + 1)


def test_who_does_not_read_an_answer_is_let_go(start):
    server = start(HEARTH_CLIENTS_TIMEOUT=f"{PATIENCE}s")
    client = make_client(server)
    size = 6_000_000
    large = create(client, Functions(client).make(python(f"return 'x' * {size}")))
    with socket.socket() as connection:
        # Less than what the kernel would take from the server for a client that does not read.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(f"GET /_hearth/v1/url/{large.id}/ HTTP/1.1\r\nHost: {large.parts.netloc}\r\n\r\n".encode())
        time.sleep(3 * PATIENCE)
        connection.settimeout(20)
        read = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(1 << 20):
                read += len(piece)
    assert 0 < read < size
    assert len(large.request().body) == size
