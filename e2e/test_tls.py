"""TLS: the door with a certificate, and connections to an S3 and a database that have one."""

import contextlib
import secrets
import socket
import ssl
import subprocess
import urllib.request

import pytest
import trustme

import urls
from conftest import Functions, caller, make_client
from hearth import BINARY, Server, environment, eventually
from packages import python, zipped
from postgres import Postgres

# How its caller reached it.
HELLO = python("return {'statusCode': 200, 'body': event.get('headers', {}).get('x-forwarded-proto', 'called')}")


class Authority:
    """Who vouches, and what it vouched for, in files that everybody can read."""

    def __init__(self, folder):
        self.folder = folder
        self.ca = trustme.CA()
        self.bundle = folder / "authorities.pem"
        self.ca.cert_pem.write_to_path(self.bundle)
        self.certificate, self.key = folder / "certificate.pem", folder / "key.pem"
        self.issue("127.0.0.1", "localhost", "*.lambda-url.us-east-1.localhost")

    def issue(self, *names):
        issued = self.ca.issue_cert(*names)
        issued.private_key_pem.write_to_path(self.key)
        self.certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))

    @property
    def flags(self):
        return ["--tls-certificate", str(self.certificate), "--tls-key", str(self.key)]

    def context(self, protocols=()):
        context = ssl.create_default_context(cafile=self.bundle)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context


@pytest.fixture(scope="module")
def authority(base):
    folder = base / "authority"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture(scope="module")
def secure(base, cache, authority):
    server = Server(base / "data-secure", cache, *authority.flags, authorities=authority.bundle).start()
    yield server
    server.stop()


@pytest.fixture
def functions(secure):
    functions = Functions(make_client(secure))
    yield functions
    functions.delete()


def handshake(server, authority, protocols=()):
    """The secure connection, by its protocol and its certificate."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as plain:
        with authority.context(protocols).wrap_socket(plain, server_hostname="127.0.0.1") as connection:
            return connection.selected_alpn_protocol(), connection.getpeercert()["serialNumber"]


def test_the_sdk_uses_functions_over_https(secure, authority, functions):
    assert secure.url.startswith("https://")
    name = functions.make(HELLO)
    assert caller(functions.client)(name, {}).payload["body"] == "called"
    location = functions.client.get_function(FunctionName=name)["Code"]["Location"]
    assert location.startswith(secure.url + "/")
    with urllib.request.urlopen(location, context=authority.context()) as answer:
        assert answer.read(2) == b"PK"


def test_a_function_url_is_https(secure, functions):
    name = functions.make(HELLO)
    url = functions.client.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"]
    assert url.startswith("https://") and url.endswith(f":{secure.port}/")
    urls.permit(functions.client, name)
    host = url.removeprefix("https://").removesuffix("/")
    assert secure.request("GET", "/", headers={"Host": host})[::2] == (200, b"https")


def test_both_versions_of_http_are_offered(secure, authority):
    for offered, chosen in ((["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], None)):
        assert handshake(secure, authority, offered)[0] == chosen


def test_plain_http_is_told_so(secure):
    with socket.create_connection(("127.0.0.1", secure.port), timeout=30) as plain:
        plain.sendall(b"GET /_hearth/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = plain.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.endswith(b"This port speaks HTTPS only: use https://.\n")


def test_what_is_neither_ends_the_connection_alone(secure):
    for noise in (b"\x16\x03\x01\x00\x02\xff\xff", b"\x00" * 100):
        with socket.create_connection(("127.0.0.1", secure.port), timeout=30) as plain:
            plain.sendall(noise)
            plain.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                plain.makefile("rb").read()
    assert secure.status("/_hearth/health") == 200


def test_the_command_line_trusts_whom_it_is_told_to(secure, authority):
    def ask(**variables):
        command = [BINARY, "list", "--endpoint", secure.url]
        return subprocess.run(command, capture_output=True, text=True, env=environment(**variables))

    trusting = ask(AWS_CA_BUNDLE=str(authority.bundle))
    assert trusting.returncode == 0, trusting.stderr
    doubting = ask()
    assert doubting.returncode != 0 and "certificate" in doubting.stderr
    lost = ask(AWS_CA_BUNDLE="/no/such/file")
    assert lost.returncode != 0 and "AWS_CA_BUNDLE (/no/such/file)" in lost.stderr


def test_a_renewed_certificate_is_taken_and_a_broken_one_is_not(start, base):
    folder = base / "renewed"
    folder.mkdir()
    authority = Authority(folder)
    server = start(*authority.flags, authorities=authority.bundle)
    first = handshake(server, authority)[1]
    authority.issue("127.0.0.1")
    eventually("the renewed certificate", lambda: handshake(server, authority)[1] != first)
    second = handshake(server, authority)[1]
    authority.key.write_text("nothing")
    eventually("a complaint", lambda: handshake(server, authority) and "cannot be used" in server.said())
    assert handshake(server, authority)[1] == second


def test_half_a_certificate_is_refused(data, cache, authority):
    def refused(*flags):
        command = [BINARY, "serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--cache-dir", cache, *flags]
        return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)

    half = refused(*authority.flags[:2])
    assert half.returncode == 2 and "tls.certificate and tls.key go together" in half.stderr
    other = trustme.CA().issue_cert("127.0.0.1")
    key = authority.folder / "other-key.pem"
    other.private_key_pem.write_to_path(key)
    unfit = refused(*authority.flags[:3], str(key))
    assert unfit.returncode == 1 and "do not go together" in unfit.stderr
    missing = refused("--tls-certificate", "/no/such", "--tls-key", str(key))
    assert missing.returncode == 1 and "/no/such: No such file" in missing.stderr


def test_code_comes_from_an_s3_that_speaks_tls(secure, authority, start):
    s3 = make_client(secure, "s3")
    s3.create_bucket(Bucket="code")
    s3.put_object(Bucket="code", Key="hello.zip", Body=zipped(HELLO))
    endpoint = f"https://test:test@127.0.0.1:{secure.port}"
    trusting = start("--endpoints-s3", endpoint, AWS_CA_BUNDLE=str(authority.bundle))
    functions = Functions(make_client(trusting))
    name = functions.make(HELLO, Code={"S3Bucket": "code", "S3Key": "hello.zip"})
    assert caller(functions.client)(name, {}).payload["body"] == "called"


def test_an_s3_whom_nobody_vouches_for_is_not_asked(secure, start):
    doubting = start("--endpoints-s3", f"https://test:test@127.0.0.1:{secure.port}")
    functions = Functions(make_client(doubting))
    with pytest.raises(Exception, match="certificate"):
        functions.make(HELLO, Code={"S3Bucket": "code", "S3Key": "hello.zip"})


def test_records_are_kept_in_a_database_over_tls(base, server, authority, start):
    postgres = Postgres(base / "postgres-tls", (authority.certificate, authority.key))
    try:
        path = postgres.database().split("///")[1].split("?")[0]
        s3 = make_client(server, "s3")
        s3.create_bucket(Bucket="tls-packages")
        variables = {
            "HEARTH_STORE_URL": f"postgres://hearth@127.0.0.1:{postgres.port}/{path}?sslmode=verify-full",
            "HEARTH_STORE_PACKAGES": f"http://test:test@127.0.0.1:{server.port}/tls-packages",
            "HEARTH_ENCRYPTION_KEY": secrets.token_hex(32),
        }
        with pytest.raises(AssertionError, match="certificate"):
            start(**variables)
        shared = start(AWS_CA_BUNDLE=str(authority.bundle), **variables)
        functions = Functions(make_client(shared))
        name = functions.make(HELLO)
        assert caller(functions.client)(name, {}).payload["body"] == "called"
        secured = postgres.sql("SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_port > 0")
        assert secured.strip() == "t"
        shared.stop()
    finally:
        postgres.end()
