"""S3, embedded: with boto3, the AWS CLI and plain requests, from outside and from inside of functions."""

import base64
import concurrent.futures
import contextlib
import datetime
import hashlib
import http.client
import io
import json
import os
import pathlib
import re
import socket
import subprocess
import textwrap
import threading
import urllib.error
import urllib.request
import uuid
import zlib

import botocore.exceptions
import pytest

from conftest import accounts, make_client, wait_active, wait_updated
from hearth import Server, environment, eventually, scope
from packages import zipped

MB = 1 << 20


def s3_client(server, account="test", region="us-east-1", **config):
    return make_client(server, "s3", account, region, **config)


@pytest.fixture
def s3(server):
    """A client with an account of its own."""
    return s3_client(server, str(next(accounts)))


@pytest.fixture
def bucket(s3):
    name = f"b-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return name


@contextlib.contextmanager
def refused(code, status=None, text=None):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        yield caught
    answer = caught.value.response
    assert answer["Error"]["Code"] == code, answer
    assert status in (None, answer["ResponseMetadata"]["HTTPStatusCode"]), answer
    assert text is None or text in answer["Error"]["Message"], answer


def keys(listed):
    return [found["Key"] for found in listed.get("Contents", [])]


# Buckets


def test_a_bucket_is_made_listed_and_deleted_when_it_is_empty(s3, bucket):
    assert [found["Name"] for found in s3.list_buckets()["Buckets"]] == [bucket]
    assert s3.head_bucket(Bucket=bucket)["BucketRegion"] == "us-east-1"
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    with refused("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=bucket)
    s3.delete_object(Bucket=bucket, Key="k")
    s3.delete_bucket(Bucket=bucket)
    with refused("404"):
        s3.head_bucket(Bucket=bucket)
    with refused("NoSuchBucket", 404, "The specified bucket does not exist"):
        s3.list_objects_v2(Bucket=bucket)


def test_buckets_are_their_accounts_and_regions(server, s3, bucket):
    with refused("NoSuchBucket"):
        s3_client(server, str(next(accounts))).get_object(Bucket=bucket, Key="k")
    account = str(next(accounts))
    elsewhere = s3_client(server, account, "eu-west-1")
    with refused("IllegalLocationConstraintException"):
        elsewhere.create_bucket(Bucket="there")
    elsewhere.create_bucket(Bucket="there", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert elsewhere.get_bucket_location(Bucket="there")["LocationConstraint"] == "eu-west-1"
    with refused("BucketAlreadyOwnedByYou", 409):
        elsewhere.create_bucket(Bucket="there", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})


def test_a_name_is_one_bucket_in_every_region(server):
    account = str(next(accounts))
    here, there = s3_client(server, account), s3_client(server, account, "eu-west-1")
    there.create_bucket(Bucket="there", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    there.put_object(Bucket="there", Key="k", Body=b"of Ireland")
    here.create_bucket(Bucket="here")
    with refused("BucketAlreadyOwnedByYou", 409):
        here.create_bucket(Bucket="there")
    with refused("BucketAlreadyOwnedByYou", 409):
        there.create_bucket(Bucket="here", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    # Whoever signs for another region is told which one it is, and the SDK goes there by itself.
    for method, path in [("GET", "/there/k"), ("HEAD", "/there"), ("PUT", "/there/other"), ("DELETE", "/there/k")]:
        status, headers, body = server.request(method, path, headers=scope("s3", account=account))
        assert status == 301 and headers["x-amz-bucket-region"] == "eu-west-1", (method, path)
        if method != "HEAD":
            text = body.decode()
            assert "<Code>PermanentRedirect</Code>" in text and "<Bucket>there</Bucket>" in text, text
            assert "must be addressed using the specified endpoint" in text
            assert f"<Endpoint>127.0.0.1:{server.port}</Endpoint>" in text
    assert here.get_object(Bucket="there", Key="k")["Body"].read() == b"of Ireland"
    assert here.head_bucket(Bucket="there")["BucketRegion"] == "eu-west-1"
    here.put_object(Bucket="there", Key="by redirect", Body=b"x")
    assert keys(there.list_objects_v2(Bucket="there")) == ["by redirect", "k"]
    assert here.get_bucket_location(Bucket="there")["LocationConstraint"] == "eu-west-1"
    assert there.get_bucket_location(Bucket="here")["LocationConstraint"] is None
    # Lists are of the account; copies read from any region.
    for client in here, there:
        assert [(b["Name"], b["BucketRegion"]) for b in client.list_buckets()["Buckets"]] == [
            ("here", "us-east-1"),
            ("there", "eu-west-1"),
        ]
    assert [b["Name"] for b in there.list_buckets(BucketRegion="eu-west-1")["Buckets"]] == ["there"]
    here.copy_object(Bucket="here", Key="copied", CopySource={"Bucket": "there", "Key": "k"})
    assert here.get_object(Bucket="here", Key="copied")["Body"].read() == b"of Ireland"
    # Code comes from the function's own region.
    there.put_object(Bucket="there", Key="f.zip", Body=returning("there"))
    text = (
        "Error occurred while GetObject. S3 Error Code: PermanentRedirect. S3 Error Message: The bucket is in this region: "
        "eu-west-1. Please use this region to retry the request"
    )
    with refused("InvalidParameterValueException", 400, text):
        create(make_client(server, account=account), "f", S3Bucket="there", S3Key="f.zip")
    for key in keys(there.list_objects_v2(Bucket="there")):
        there.delete_object(Bucket="there", Key=key)
    there.delete_bucket(Bucket="there")
    # Its name is free again, for any region. (The SDK remembers to which region it was led.)
    s3_client(server, account).create_bucket(Bucket="there")
    assert there.get_bucket_location(Bucket="there")["LocationConstraint"] is None


def test_a_name_goes_to_one_of_those_who_ask_for_it_at_once(server):
    account = str(next(accounts))
    regions = ["eu-west-1", "eu-north-1", "ap-south-1", "us-west-2"]

    def make(region):
        try:
            s3_client(server, account, region).create_bucket(
                Bucket="wanted", CreateBucketConfiguration={"LocationConstraint": region}
            )
            return region
        except botocore.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] in ("BucketAlreadyOwnedByYou", "OperationAborted"), error
            return None

    with concurrent.futures.ThreadPoolExecutor(len(regions)) as pool:
        made = [region for region in pool.map(make, regions) if region]
    assert len(made) == 1
    assert s3_client(server, account).get_bucket_location(Bucket="wanted")["LocationConstraint"] == made[0]


def test_names_that_are_none_are_refused(server, s3):
    with refused("InvalidBucketName", 400):
        status, _, answer = server.request("PUT", "/Not_a_name", headers=scope("s3"))
        raise botocore.exceptions.ClientError(xml_error(status, answer), "CreateBucket")


def xml_error(status, answer):
    text = answer.decode()
    part = lambda name: text.partition(f"<{name}>")[2].partition(f"</{name}>")[0]
    error = {"Code": part("Code"), "Message": part("Message")}
    return {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}


def test_tags_of_buckets_and_objects(s3, bucket):
    with refused("NoSuchTagSet", 404):
        s3.get_bucket_tagging(Bucket=bucket)
    tags = [{"Key": "team", "Value": "a b"}, {"Key": "empty", "Value": ""}]
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == tags
    s3.delete_bucket_tagging(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1&b=c%20d")
    assert s3.get_object(Bucket=bucket, Key="k")["TagCount"] == 2
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tags})
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == tags
    s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
    with refused("InvalidTag"):
        s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [tags[0], tags[0]]})
    with refused("BadRequest", 400):
        many = [{"Key": str(n), "Value": ""} for n in range(11)]
        s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": many})


# Objects


def test_an_object_comes_back_as_it_was_put(s3, bucket):
    body = os.urandom(3 * MB + 7)
    put = s3.put_object(
        Bucket=bucket,
        Key="a folder/é ü+%.bin",
        Body=body,
        ContentType="application/x-test",
        CacheControl="no-store",
        ContentEncoding="identity",
        Metadata={"Author": "ada"},
        StorageClass="STANDARD_IA",
    )
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="a folder/é ü+%.bin")
    assert got["Body"].read() == body
    assert got["ETag"] == put["ETag"] and got["ContentLength"] == len(body)
    assert (got["ContentType"], got["CacheControl"], got["Metadata"]) == ("application/x-test", "no-store", {"author": "ada"})
    assert got["StorageClass"] == "STANDARD_IA" and got["ContentEncoding"] == "identity"
    head = s3.head_object(Bucket=bucket, Key="a folder/é ü+%.bin")
    assert head["ContentLength"] == len(body) and "VersionId" not in head
    assert abs(datetime.datetime.now(datetime.UTC) - head["LastModified"]) < datetime.timedelta(minutes=5)


def test_no_bytes_are_an_object(s3, bucket):
    s3.put_object(Bucket=bucket, Key="empty")
    got = s3.get_object(Bucket=bucket, Key="empty")
    assert got["Body"].read() == b"" and got["ContentLength"] == 0 and got["ContentType"] == "binary/octet-stream"


def test_what_is_not_there_is_said(s3, bucket):
    with refused("NoSuchKey", 404, "The specified key does not exist."):
        s3.get_object(Bucket=bucket, Key="none")
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="none")
    s3.delete_object(Bucket=bucket, Key="none")


@pytest.mark.parametrize(
    ("range", "expected"),
    [("bytes=0-3", (0, 4)), ("bytes=10-", (10, 20)), ("bytes=-5", (15, 20)), ("bytes=18-99", (18, 20))],
)
def test_a_range_is_read_alone(s3, bucket, range, expected):
    body = bytes(b"0123456789abcdefghij")
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    got = s3.get_object(Bucket=bucket, Key="k", Range=range)
    begin, end = expected
    assert got["Body"].read() == body[begin:end]
    assert got["ContentRange"] == f"bytes {begin}-{end - 1}/20"
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    with refused("InvalidRange", 416):
        s3.get_object(Bucket=bucket, Key="k", Range="bytes=20-30")


def test_reads_may_want_something_first(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    modified = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    hour = datetime.timedelta(hours=1)
    get = lambda **wants: s3.get_object(Bucket=bucket, Key="k", **wants)
    get(IfMatch=etag)
    get(IfNoneMatch='"other"')
    get(IfModifiedSince=modified - hour)
    with refused("PreconditionFailed", 412):
        get(IfMatch='"other"')
    with refused("PreconditionFailed", 412):
        get(IfUnmodifiedSince=modified - hour)
    for wants in ({"IfNoneMatch": etag}, {"IfModifiedSince": modified + hour}):
        with refused("304"):
            get(**wants)


def test_writes_may_want_something_first(s3, bucket):
    put = lambda **wants: s3.put_object(Bucket=bucket, Key="k", Body=b"x", **wants)
    with refused("NoSuchKey", 404):
        put(IfMatch='"other"')
    etag = put(IfNoneMatch="*")["ETag"]
    with refused("PreconditionFailed", 412):
        put(IfNoneMatch="*")
    put(IfMatch=etag)
    with refused("PreconditionFailed", 412):
        put(IfMatch='"other"')


def test_of_many_writers_who_want_nothing_there_one_wins(server, s3, bucket):
    won = []

    def put(n):
        with contextlib.suppress(botocore.exceptions.ClientError):
            s3.put_object(Bucket=bucket, Key="k", Body=str(n).encode(), IfNoneMatch="*")
            won.append(str(n).encode())

    threads = [threading.Thread(target=put, args=(n,)) for n in range(12)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(won) == 1 and s3.get_object(Bucket=bucket, Key="k")["Body"].read() == won[0]


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums_are_checked_kept_and_answered(s3, bucket, algorithm):
    if algorithm in ("CRC32C", "CRC64NVME"):
        known = {"CRC32C": "4waSgw==", "CRC64NVME": "rosUhgp5mIg="}
        given = {f"Checksum{algorithm}": known[algorithm]}
    else:
        given = {"ChecksumAlgorithm": algorithm}
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"123456789", **given)
    got = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got[f"Checksum{algorithm}"] == put[f"Checksum{algorithm}"] and got["ChecksumType"] == "FULL_OBJECT"
    with refused("BadDigest", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"12345678!", **{f"Checksum{algorithm}": put[f"Checksum{algorithm}"]})
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"123456789"


def test_a_body_that_is_not_what_was_announced_is_no_object(s3, bucket, server):
    md5 = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    with refused("BadDigest", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentMD5=md5)
    headers = scope("s3", s3._request_signer._credentials.access_key)
    sha = {"x-amz-content-sha256": hashlib.sha256(b"other").hexdigest()}
    status, _, answer = server.request("PUT", f"/{bucket}/k", b"x", headers | sha)
    assert status == 400 and b"<Code>XAmzContentSHA256Mismatch</Code>" in answer
    # The client goes away in the middle.
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = f"PUT /{bucket}/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection.sendall(head.encode() + b"\r\n" + b"x" * 70_000)
    with refused("NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="k")


@pytest.mark.parametrize("pieces", ["signed", "unsigned"])
def test_bodies_in_chunks_are_put_together(s3, bucket, server, pieces):
    chunk = b"x" * 70_000
    signature = b";chunk-signature=" + b"0" * 64 if pieces == "signed" else b""
    crc = base64.b64encode(zlib.crc32(chunk * 2).to_bytes(4, "big"))
    body = (b"%x" % len(chunk) + signature + b"\r\n" + chunk + b"\r\n") * 2
    body += b"0" + signature + b"\r\nx-amz-checksum-crc32:" + crc + b"\r\n\r\n"
    kind = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" if pieces == "signed" else "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    headers = scope("s3", s3._request_signer._credentials.access_key) | {
        "x-amz-content-sha256": kind,
        "x-amz-decoded-content-length": str(2 * len(chunk)),
        "x-amz-trailer": "x-amz-checksum-crc32",
        "content-encoding": "aws-chunked",
    }
    status, _, answer = server.request("PUT", f"/{bucket}/k", body, headers)
    assert status == 200, answer
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == chunk * 2 and "ContentEncoding" not in got
    assert got["ChecksumCRC32"] == crc.decode()
    status, _, answer = server.request("PUT", f"/{bucket}/k", body.replace(crc, b"AAAAAA=="), headers)
    assert status == 400 and b"BadDigest" in answer


def test_a_copy_shares_or_replaces_what_describes_it(s3, bucket):
    s3.put_object(Bucket=bucket, Key="a", Body=b"body", ContentType="text/a", Metadata={"m": "1"}, Tagging="t=1")
    source = {"Bucket": bucket, "Key": "a"}
    copied = s3.copy_object(Bucket=bucket, Key="b", CopySource=source)
    assert copied["CopyObjectResult"]["ETag"] == s3.head_object(Bucket=bucket, Key="a")["ETag"]
    s3.delete_object(Bucket=bucket, Key="a")
    got = s3.get_object(Bucket=bucket, Key="b")
    assert (got["Body"].read(), got["ContentType"], got["Metadata"], got["TagCount"]) == (b"body", "text/a", {"m": "1"}, 1)
    source = {"Bucket": bucket, "Key": "b"}
    with refused("InvalidRequest", 400, "to itself without changing"):
        s3.copy_object(Bucket=bucket, Key="b", CopySource=source)
    s3.copy_object(Bucket=bucket, Key="b", CopySource=source, MetadataDirective="REPLACE", Metadata={"m": "2"})
    got = s3.get_object(Bucket=bucket, Key="b")
    assert (got["Body"].read(), got["Metadata"]) == (b"body", {"m": "2"})
    with refused("PreconditionFailed", 412):
        s3.copy_object(Bucket=bucket, Key="c", CopySource=source, CopySourceIfMatch='"other"')
    with refused("NoSuchKey"):
        s3.copy_object(Bucket=bucket, Key="c", CopySource={"Bucket": bucket, "Key": "none"})


def test_many_objects_are_deleted_at_once(s3, bucket):
    for n in range(5):
        s3.put_object(Bucket=bucket, Key=f"k{n}", Body=b"x")
    objects = [{"Key": f"k{n}"} for n in (0, 1, 9)]
    deleted = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})
    assert [found["Key"] for found in deleted["Deleted"]] == ["k0", "k1", "k9"] and "Errors" not in deleted
    quiet = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k2"}], "Quiet": True})
    assert "Deleted" not in quiet
    assert keys(s3.list_objects_v2(Bucket=bucket)) == ["k3", "k4"]


def test_attributes(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"123456789", ChecksumAlgorithm="CRC32")
    wanted = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
    got = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=wanted)
    assert (got["ObjectSize"], got["StorageClass"], got["Checksum"]["ChecksumCRC32"]) == (9, "STANDARD", "y/Q5Jg==")
    assert got["ETag"].strip('"') == hashlib.md5(b"123456789").hexdigest() and "ObjectParts" not in got


# Lists

NAMES = ["a", "a/1", "a/2", "a/b/c", "b", "b-1", "c/", "c/x", "d é", "d+", "z"]


@pytest.fixture
def filled(s3, bucket):
    for name in NAMES:
        s3.put_object(Bucket=bucket, Key=name, Body=name.encode())
    return bucket


@pytest.mark.parametrize("operation", ["list_objects_v2", "list_objects"])
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize("arguments", [{}, {"Prefix": "a/"}, {"Delimiter": "/"}, {"Prefix": "a", "Delimiter": "/"}, {"Delimiter": "-"}, {"Prefix": "c/", "Delimiter": "/"}])
def test_lists_are_the_same_in_pages_of_any_size(s3, filled, operation, size, arguments):
    pages = s3.get_paginator(operation).paginate(Bucket=filled, PaginationConfig={"PageSize": size}, **arguments)
    found, common = [], []
    for page in pages:
        found += keys(page)
        common += [row["Prefix"] for row in page.get("CommonPrefixes", [])]
        assert len(page.get("Contents", [])) + len(page.get("CommonPrefixes", [])) <= size
    prefix, delimiter = arguments.get("Prefix", ""), arguments.get("Delimiter")
    plain, rolled = [], []
    for name in sorted(NAMES, key=str.encode):
        if name.startswith(prefix):
            head, end, _ = name[len(prefix) :].partition(delimiter or "\0")
            (rolled if end else plain).append(prefix + head + end if end else name)
    assert found == plain
    assert common == list(dict.fromkeys(rolled))


def test_a_list_begins_where_it_is_told(s3, filled):
    listed = s3.list_objects_v2(Bucket=filled, StartAfter="b", MaxKeys=2, FetchOwner=True)
    assert keys(listed) == ["b-1", "c/"] and listed["KeyCount"] == 2 and listed["IsTruncated"]
    assert listed["Contents"][0]["Owner"]["ID"] and listed["Contents"][0]["Size"] == 3
    rest = s3.list_objects_v2(Bucket=filled, ContinuationToken=listed["NextContinuationToken"])
    assert keys(rest) == ["c/x", "d é", "d+", "z"]
    assert keys(s3.list_objects(Bucket=filled, Marker="d+")) == ["z"]
    with refused("InvalidArgument"):
        s3.list_objects_v2(Bucket=filled, ContinuationToken="!")
    assert keys(s3.list_objects_v2(Bucket=filled, MaxKeys=0)) == []


# Versions


def test_versions_are_kept_and_read_by_their_ids(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"before")
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    ids = [s3.put_object(Bucket=bucket, Key="k", Body=body)["VersionId"] for body in (b"1", b"2")]
    read = lambda **which: s3.get_object(Bucket=bucket, Key="k", **which)["Body"].read()
    assert (read(), read(VersionId=ids[0]), read(VersionId="null")) == (b"2", b"1", b"before")
    listed = s3.list_object_versions(Bucket=bucket)
    found = [(row["VersionId"], row["IsLatest"]) for row in listed["Versions"]]
    assert found == [(ids[1], True), (ids[0], False), ("null", False)]
    gone = s3.delete_object(Bucket=bucket, Key="k")
    assert gone["DeleteMarker"]
    with refused("NoSuchKey", 404) as caught:
        read()
    assert caught.value.response["ResponseMetadata"]["HTTPHeaders"]["x-amz-delete-marker"] == "true"
    with refused("MethodNotAllowed", 405):
        read(VersionId=gone["VersionId"])
    assert keys(s3.list_objects_v2(Bucket=bucket)) == []
    markers = s3.list_object_versions(Bucket=bucket)["DeleteMarkers"]
    assert [(row["VersionId"], row["IsLatest"]) for row in markers] == [(gone["VersionId"], True)]
    # Without its marker the key is what it was.
    s3.delete_object(Bucket=bucket, Key="k", VersionId=gone["VersionId"])
    assert read() == b"2"
    s3.delete_object(Bucket=bucket, Key="k", VersionId=ids[1])
    assert read() == b"1"
    with refused("NoSuchVersion", 404):
        read(VersionId=ids[1])
    with refused("BucketNotEmpty"):
        s3.delete_bucket(Bucket=bucket)
    for row in s3.list_object_versions(Bucket=bucket)["Versions"]:
        s3.delete_object(Bucket=bucket, Key="k", VersionId=row["VersionId"])
    s3.delete_bucket(Bucket=bucket)


def test_without_versioning_again_there_is_one_null_version(s3, bucket):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    kept = s3.put_object(Bucket=bucket, Key="k", Body=b"kept")["VersionId"]
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    for body in (b"1", b"2"):
        assert s3.put_object(Bucket=bucket, Key="k", Body=body)["VersionId"] == "null"
    found = [row["VersionId"] for row in s3.list_object_versions(Bucket=bucket)["Versions"]]
    assert found == ["null", kept]
    assert s3.delete_object(Bucket=bucket, Key="k")["VersionId"] == "null"
    listed = s3.list_object_versions(Bucket=bucket)
    assert [row["VersionId"] for row in listed["Versions"]] == [kept]
    assert [row["VersionId"] for row in listed["DeleteMarkers"]] == ["null"]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_versions_are_listed_in_pages(s3, bucket, size):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    expected = []
    for key in ("a", "b/1", "b/2", "c"):
        ids = [s3.put_object(Bucket=bucket, Key=key, Body=b"x")["VersionId"] for _ in range(3)]
        expected += [(key, id) for id in reversed(ids)]
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, PaginationConfig={"PageSize": size})
    assert [(row["Key"], row["VersionId"]) for page in pages for row in page.get("Versions", [])] == expected
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": size})
    assert [row["Prefix"] for page in pages for row in page.get("CommonPrefixes", [])] == ["b/"]


# Parts


def upload_parts(s3, bucket, key, bodies, **settings):
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key, **settings)["UploadId"]
    parts = []
    algorithm = {name: value for name, value in settings.items() if name == "ChecksumAlgorithm"}
    for number, body in enumerate(bodies, 1):
        part = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body, **algorithm)
        parts.append({"PartNumber": number} | {k: v for k, v in part.items() if k == "ETag" or k.startswith("Checksum")})
    return upload, parts


def test_parts_become_an_object(s3, bucket):
    bodies = [os.urandom(5 * MB), os.urandom(5 * MB + 3), b"end"]
    whole = b"".join(bodies)
    upload, parts = upload_parts(s3, bucket, "k", bodies, ContentType="text/x", Metadata={"m": "1"})
    listed = s3.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [(row["Key"], row["UploadId"]) for row in listed] == [("k", upload)]
    listed = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)["Parts"]
    assert [(row["PartNumber"], row["Size"]) for row in listed] == [(1, 5 * MB), (2, 5 * MB + 3), (3, 3)]
    with refused("NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="k")
    complete = lambda: s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    done = complete()
    etag = hashlib.md5(b"".join(hashlib.md5(body).digest() for body in bodies)).hexdigest()
    assert done["ETag"] == f'"{etag}-3"'
    # Who did not hear the answer asks again.
    assert complete()["ETag"] == done["ETag"]
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == whole and got["ContentType"] == "text/x" and got["Metadata"] == {"m": "1"}
    for begin, end in ((5 * MB - 2, 5 * MB + 2), (10 * MB, 10 * MB + 5), (0, len(whole) - 1)):
        got = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={begin}-{end}")
        assert got["Body"].read() == whole[begin : end + 1]
    part = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert part["Body"].read() == bodies[1] and part["PartsCount"] == 3
    with refused("NoSuchUpload", 404):
        s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)
    # A copy is one whole again.
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "k"})
    s3.delete_object(Bucket=bucket, Key="k")
    got = s3.get_object(Bucket=bucket, Key="copy")
    assert got["Body"].read() == whole and got["ETag"] == f'"{hashlib.md5(whole).hexdigest()}"'


def test_what_is_replaced_while_it_is_read_is_read_to_its_end(s3, bucket):
    bodies = [os.urandom(8 * MB) for _ in range(3)]
    upload, parts = upload_parts(s3, bucket, "k", bodies)
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    reading = s3.get_object(Bucket=bucket, Key="k")["Body"]
    begin = reading.read(MB)
    s3.put_object(Bucket=bucket, Key="k", Body=b"new")
    assert begin + reading.read() == b"".join(bodies)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"new"


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [("CRC32", "FULL_OBJECT"), ("CRC32", "COMPOSITE"), ("SHA256", "COMPOSITE")],
)
def test_checksums_of_parts(s3, bucket, algorithm, kind):
    bodies = [b"a" * 5 * MB, b"b" * 10]
    upload, parts = upload_parts(s3, bucket, "k", bodies, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    done = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    sums = {
        "CRC32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
        "SHA256": lambda body: hashlib.sha256(body).digest(),
    }[algorithm]
    composite = base64.b64encode(sums(b"".join(map(sums, bodies)))).decode() + "-2"
    full = base64.b64encode(sums(b"".join(bodies))).decode()
    assert done[f"Checksum{algorithm}"] == (full if kind == "FULL_OBJECT" else composite)
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head[f"Checksum{algorithm}"], head["ChecksumType"]) == (done[f"Checksum{algorithm}"], kind)


def test_parts_that_do_not_fit_together_are_no_object(s3, bucket):
    upload, parts = upload_parts(s3, bucket, "k", [b"small", b"end"])
    complete = lambda parts: s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    with refused("EntityTooSmall", 400):
        complete(parts)
    with refused("InvalidPartOrder", 400):
        complete(parts[::-1])
    with refused("InvalidPart", 400):
        complete([{"PartNumber": 1, "ETag": '"other"'}])
    with refused("InvalidPart", 400):
        complete([parts[0], {"PartNumber": 7, "ETag": parts[0]["ETag"]}])
    with refused("NoSuchUpload", 404):
        s3.upload_part(Bucket=bucket, Key="k", UploadId="none", PartNumber=1, Body=b"x")
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
    left, _ = upload_parts(s3, bucket, "left", [b"x"])
    with refused("NoSuchUpload", 404):
        complete(parts)
    assert [row["UploadId"] for row in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [left]
    # What is under way goes with its bucket.
    s3.delete_bucket(Bucket=bucket)
    s3.create_bucket(Bucket=bucket)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_a_part_may_be_a_range_of_an_object(s3, bucket):
    body = os.urandom(6 * MB)
    s3.put_object(Bucket=bucket, Key="source", Body=body)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    source = {"Bucket": bucket, "Key": "source"}
    common = {"Bucket": bucket, "Key": "k", "UploadId": upload, "CopySource": source}
    copied = [
        s3.upload_part_copy(PartNumber=1, CopySourceRange=f"bytes=0-{5 * MB - 1}", **common),
        s3.upload_part_copy(PartNumber=2, CopySourceRange="bytes=10-19", **common),
    ]
    parts = [{"PartNumber": n, "ETag": part["CopyPartResult"]["ETag"]} for n, part in enumerate(copied, 1)]
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body[: 5 * MB] + body[10:20]


# Who may


def test_a_presigned_url_is_good_until_it_ends(server, bucket, s3):
    s3.put_object(Bucket=bucket, Key="k", Body=b"body")
    account = s3._request_signer._credentials.access_key
    an_hour_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    for version in ("s3v4", "s3"):
        client = s3_client(server, account, signature_version=version)
        url = client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"}, ExpiresIn=60)
        assert fetch(url) == (200, b"body")
        put = client.generate_presigned_url("put_object", {"Bucket": bucket, "Key": f"new-{version}"}, ExpiresIn=60)
        assert fetch(put, "PUT", b"by url")[0] == 200
        assert s3.get_object(Bucket=bucket, Key=f"new-{version}")["Body"].read() == b"by url"
        # As it was signed an hour ago.
        late = re.sub(r"X-Amz-Date=\w+", f"X-Amz-Date={an_hour_ago:%Y%m%dT%H%M%SZ}", url)
        late = re.sub(r"(?<=[?&])Expires=\d+", f"Expires={an_hour_ago.timestamp():.0f}", late)
        status, answer = fetch(late)
        assert (status, b"AccessDenied" in answer, b"Request has expired" in answer) == (403, True, True), answer
    status, answer = fetch(f"{server.url}/{bucket}/k?X-Amz-Signature=0&X-Amz-Credential={account}%2F20260101%2Fus-east-1%2Fs3%2Faws4_request")
    assert status == 400 and b"AuthorizationQueryParametersError" in answer


def fetch(url, method="GET", body=None, headers=None):
    request = urllib.request.Request(url, body, headers or {}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_nobody_in_particular_may_nothing(server, bucket):
    status, _, answer = server.request("GET", f"/{bucket}/k", headers={"Host": f"s3.localhost:{server.port}"})
    assert status == 403 and b"<Code>AccessDenied</Code>" in answer


@pytest.fixture
def local_names(monkeypatch):
    """Names below `localhost` are this host, as most resolvers have it."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host, *arguments, **more):
        return resolve("127.0.0.1" if str(host).endswith(".localhost") else host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("domain", ["localhost", "s3.localhost", "s3.us-east-1.localhost"])
def test_the_bucket_may_be_in_the_host(server, s3, bucket, local_names, domain):
    class At:
        url = f"http://{domain}:{server.port}"
        authorities = None

    client = s3_client(At, s3._request_signer._credentials.access_key, s3={"addressing_style": "virtual"})
    client.put_object(Bucket=bucket, Key="a/k", Body=b"virtual")
    assert client.get_object(Bucket=bucket, Key="a/k")["Body"].read() == b"virtual"
    assert keys(client.list_objects_v2(Bucket=bucket, Prefix="a/")) == ["a/k"]
    assert keys(s3.list_objects_v2(Bucket=bucket)) == ["a/k"]


def test_other_hosts_and_origins_are_refused(server, bucket):
    for headers in ({"Host": f"{bucket}.s3.amazonaws.com"}, {"Origin": "https://evil.example"}):
        status, _, _ = server.request("GET", f"/{bucket}/k", headers=scope("s3") | headers)
        assert status == 403


# What is not built


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("get_bucket_acl", {}),
        ("get_bucket_policy", {}),
        ("put_bucket_lifecycle_configuration", {"LifecycleConfiguration": {"Rules": []}}),
        ("put_bucket_notification_configuration", {"NotificationConfiguration": {}}),
        ("put_object_acl", {"Key": "k", "ACL": "private"}),
        ("put_public_access_block", {"PublicAccessBlockConfiguration": {}}),
    ],
)
def test_operations_that_are_not_built_refuse_by_name(s3, bucket, operation, arguments):
    name = operation.title().replace("_", "")
    with refused("NotImplementedException", 501, f"Hearth does not support s3:{name}"):
        getattr(s3, operation)(Bucket=bucket, **arguments)


@pytest.mark.parametrize(
    ("setting", "code", "text"),
    [
        ({"ServerSideEncryption": "aws:kms"}, "NotImplementedException", "PutObject with ServerSideEncryption"),
        ({"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}, "NotImplementedException", "SSECustomerAlgorithm"),
        ({"WebsiteRedirectLocation": "/x"}, "NotImplementedException", "WebsiteRedirectLocation"),
        ({"ObjectLockLegalHoldStatus": "ON"}, "NotImplementedException", "ObjectLockLegalHoldStatus"),
        ({"StorageClass": "DEEP_ARCHIVE"}, "NotImplementedException", "StorageClass DEEP_ARCHIVE"),
        ({"ACL": "public-read"}, "AccessControlListNotSupported", "The bucket does not allow ACLs"),
    ],
)
def test_parameters_that_are_not_built_refuse_by_name(s3, bucket, setting, code, text):
    if "SSECustomerKey" in setting:
        # What the SDK itself would not send without TLS.
        name = "x-amz-server-side-encryption-customer-algorithm"
        s3.meta.events.register("before-sign.s3.PutObject", lambda request, **_: request.headers.add_header(name, "AES256"))
        setting = {}
    with refused(code, None, text):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", **setting)


def test_forms_are_refused_by_name(server, bucket):
    headers = scope("s3") | {"Content-Type": "multipart/form-data; boundary=x"}
    status, _, answer = server.request("POST", f"/{bucket}", b"--x--", headers)
    assert status == 501 and b"Hearth does not support s3:PostObject" in answer


# The command line of AWS


@pytest.fixture
def aws(server, s3, tmp_path):
    program = os.path.join(os.path.dirname(os.sys.executable), "aws")
    variables = environment(
        AWS_ENDPOINT_URL=server.url,
        AWS_DEFAULT_REGION="us-east-1",
        AWS_ACCESS_KEY_ID=s3._request_signer._credentials.access_key,
        AWS_SECRET_ACCESS_KEY="test",
        AWS_EC2_METADATA_DISABLED="true",
        HOME=str(tmp_path),
        NO_PROXY="127.0.0.1,localhost",
    )

    def run(*arguments):
        done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, env=variables, cwd=tmp_path, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_cli_copies_syncs_lists_and_presigns(aws, s3, tmp_path):
    aws("s3", "mb", "s3://cli-bucket")
    big = os.urandom(20 * MB)
    (tmp_path / "big").write_bytes(big)
    aws("s3", "cp", "big", "s3://cli-bucket/big", "--no-progress")
    assert s3.head_object(Bucket="cli-bucket", Key="big")["ETag"].endswith('-3"')
    aws("s3", "cp", "s3://cli-bucket/big", "s3://cli-bucket/copies/big", "--no-progress")
    aws("s3", "cp", "s3://cli-bucket/copies/big", "back", "--no-progress")
    assert (tmp_path / "back").read_bytes() == big
    tree = tmp_path / "tree"
    for name in ("a.txt", "b/c.txt", "b/d e.txt"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    aws("s3", "sync", "tree", "s3://cli-bucket/tree")
    assert aws("s3", "sync", "tree", "s3://cli-bucket/tree") == ""
    (tree / "a.txt").unlink()
    assert "delete: s3://cli-bucket/tree/a.txt" in aws("s3", "sync", "tree", "s3://cli-bucket/tree", "--delete")
    aws("s3", "sync", "s3://cli-bucket/tree", "again")
    assert (tmp_path / "again/b/d e.txt").read_text() == "b/d e.txt"
    listed = aws("s3", "ls", "s3://cli-bucket/tree/", "--recursive")
    assert [line.split(maxsplit=3)[3] for line in listed.splitlines()] == ["tree/b/c.txt", "tree/b/d e.txt"]
    assert "PRE copies/" in aws("s3", "ls", "s3://cli-bucket/")
    url = aws("s3", "presign", "s3://cli-bucket/tree/b/c.txt").strip()
    assert fetch(url) == (200, b"b/c.txt")
    aws("s3", "rb", "s3://cli-bucket", "--force")
    assert s3.list_buckets()["Buckets"] == []


# Functions and layers


@pytest.fixture
def pair(server):
    """A client of Lambda and one of S3, of one account, with a bucket."""
    account = str(next(accounts))
    s3 = s3_client(server, account)
    s3.create_bucket(Bucket="code")
    return make_client(server, account=account), s3


def create(client, name, **code):
    role = "arn:aws:iam::000000000000:role/hearth"
    return client.create_function(
        FunctionName=name, Runtime="python3.11", Handler="index.handler", Role=role, Code=code, Timeout=30
    )


def answer_of(client, name):
    wait_active(client, name)
    return client.invoke(FunctionName=name)["Payload"].read()


def returning(value):
    return zipped({"index.py": f"def handler(event, context):\n    return {value!r}\n"})


def test_code_comes_from_a_bucket(pair):
    client, s3 = pair
    s3.put_bucket_versioning(Bucket="code", VersioningConfiguration={"Status": "Enabled"})
    old = s3.put_object(Bucket="code", Key="f.zip", Body=returning("old"))["VersionId"]
    s3.put_object(Bucket="code", Key="f.zip", Body=returning("new"))
    created = create(client, "f", S3Bucket="code", S3Key="f.zip")
    assert created["CodeSize"] == len(returning("new"))
    assert created["CodeSha256"] == base64.b64encode(hashlib.sha256(returning("new")).digest()).decode()
    assert answer_of(client, "f") == b'"new"'
    client.update_function_code(FunctionName="f", S3Bucket="code", S3Key="f.zip", S3ObjectVersion=old)
    wait_updated(client, "f")
    assert answer_of(client, "f") == b'"old"'
    assert "ResolvedS3Object" not in client.get_function(FunctionName="f")["Code"]
    client.update_function_code(FunctionName="f", S3Bucket="code", S3Key="f.zip", S3ObjectVersion=old, S3ObjectStorageMode="REFERENCE")
    wait_updated(client, "f")
    resolved = client.get_function(FunctionName="f")["Code"]["ResolvedS3Object"]
    assert resolved == {"S3Bucket": "code", "S3Key": "f.zip", "S3ObjectVersion": old}
    # It is not stored, as far as the account is concerned, but goes on when the bucket does not have it any more.
    assert client.get_account_settings()["AccountUsage"]["TotalCodeSize"] == 0
    client.publish_version(FunctionName="f")
    assert client.get_account_settings()["AccountUsage"]["TotalCodeSize"] == 0
    for row in s3.list_object_versions(Bucket="code")["Versions"]:
        s3.delete_object(Bucket="code", Key="f.zip", VersionId=row["VersionId"])
    assert answer_of(client, "f") == b'"old"'


def test_what_is_referred_to_must_be_a_version(pair):
    client, s3 = pair
    s3.put_object(Bucket="code", Key="f.zip", Body=returning("only"))
    reference = {"S3Bucket": "code", "S3Key": "f.zip", "S3ObjectStorageMode": "REFERENCE"}
    text = "S3ObjectStorageMode REFERENCE needs a version of the object, and the bucket code keeps none of f.zip"
    with refused("InvalidParameterValueException", 400, text):
        create(client, "f", **reference)
    with refused("InvalidParameterValueException", 400, text):
        client.publish_layer_version(LayerName="l", Content=reference)
    with refused("ValidationException", 400):
        create(client, "f", **(reference | {"S3ObjectStorageMode": "LINK"}))
    s3.put_bucket_versioning(Bucket="code", VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket="code", Key="f.zip", Body=returning("versioned"))["VersionId"]
    create(client, "f", **reference)
    assert answer_of(client, "f") == b'"versioned"'
    resolved = {"S3Bucket": "code", "S3Key": "f.zip", "S3ObjectVersion": version}
    assert client.get_function(FunctionName="f")["Code"]["ResolvedS3Object"] == resolved
    layer = client.publish_layer_version(LayerName="l", Content=reference)
    assert layer["Content"]["ResolvedS3Object"] == resolved
    assert client.get_account_settings()["AccountUsage"]["TotalCodeSize"] == 0
    # Copied again, it counts.
    client.update_function_code(FunctionName="f", S3Bucket="code", S3Key="f.zip", S3ObjectStorageMode="COPY")
    wait_updated(client, "f")
    assert "ResolvedS3Object" not in client.get_function(FunctionName="f")["Code"]
    assert client.get_account_settings()["AccountUsage"]["TotalCodeSize"] == len(returning("versioned"))


def test_code_that_is_not_there_is_said_as_aws_says_it(pair):
    client, s3 = pair
    text = "Error occurred while GetObject. S3 Error Code: NoSuchBucket. S3 Error Message: The specified bucket does not exist"
    with refused("InvalidParameterValueException", 400, text):
        create(client, "f", S3Bucket="none", S3Key="f.zip")
    text = "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist."
    with refused("InvalidParameterValueException", 400, text):
        create(client, "f", S3Bucket="code", S3Key="f.zip")
    s3.put_object(Bucket="code", Key="bad.zip", Body=b"no zip")
    with refused("InvalidParameterValueException", 400, "Could not unzip uploaded file."):
        create(client, "f", S3Bucket="code", S3Key="bad.zip")


def test_layers_come_from_a_bucket(pair):
    client, s3 = pair
    s3.put_object(Bucket="code", Key="layer.zip", Body=zipped({"python/extra.py": "value = 'of the layer'\n"}))
    layer = client.publish_layer_version(LayerName="extra", Content={"S3Bucket": "code", "S3Key": "layer.zip"})
    create(client, "f", ZipFile=zipped({"index.py": "import extra\ndef handler(event, context):\n    return extra.value\n"}))
    wait_active(client, "f")
    client.update_function_configuration(FunctionName="f", Layers=[layer["LayerVersionArn"]])
    wait_updated(client, "f")
    assert answer_of(client, "f") == b'"of the layer"'


@pytest.fixture(scope="session")
def cli_layer():
    """The AWS CLI as a layer, 70 MB, as AWS's deploy tools bring it."""
    folder = pathlib.Path(os.environ["HEARTH_E2E_NODE"]) / "layer"
    layer = folder / "package/lib/layer.zip"
    if not layer.exists():
        folder.mkdir(exist_ok=True)
        packed = subprocess.run(
            ["npm", "pack", "--silent", "@aws-cdk/asset-awscli-v2@2.0.186"], cwd=folder, capture_output=True, text=True, check=True
        )
        subprocess.run(["tar", "-xzf", packed.stdout.strip(), "package/lib/layer.zip"], cwd=folder, check=True)
        (folder / packed.stdout.strip()).unlink()
    return layer


def test_the_cli_of_aws_runs_as_a_layer(pair, cli_layer):
    client, s3 = pair
    s3.upload_file(str(cli_layer), "code", "layer.zip")
    layer = client.publish_layer_version(LayerName="cli", Content={"S3Bucket": "code", "S3Key": "layer.zip"})
    assert layer["Content"]["CodeSize"] == cli_layer.stat().st_size
    code = """
        import subprocess

        def handler(event, context):
            done = subprocess.run(["/opt/awscli/aws", "--version"], capture_output=True, text=True)
            return [done.returncode, done.stdout + done.stderr]
    """
    create(client, "f", ZipFile=zipped({"index.py": textwrap.dedent(code)}))
    wait_active(client, "f")
    client.update_function_configuration(FunctionName="f", Layers=[layer["LayerVersionArn"]], MemorySize=1769, Timeout=60)
    wait_updated(client, "f")
    status, said = json.loads(client.invoke(FunctionName="f")["Payload"].read())
    assert (status, said.startswith("aws-cli/2.")) == (0, True), said


def test_a_function_reaches_its_accounts_buckets(pair):
    client, s3 = pair
    code = """
        import boto3

        def handler(event, context):
            s3 = boto3.client("s3")
            s3.put_object(Bucket="code", Key="from-inside", Body=b"x" * event)
            return len(s3.get_object(Bucket="code", Key="from-inside")["Body"].read())
    """
    create(client, "f", ZipFile=zipped({"index.py": textwrap.dedent(code)}))
    wait_active(client, "f")
    answer = client.invoke(FunctionName="f", Payload=b"3000000")
    assert answer["Payload"].read() == b"3000000"
    assert s3.head_object(Bucket="code", Key="from-inside")["ContentLength"] == 3_000_000


def test_code_may_come_from_another_s3(server, base, cache, pair):
    _, s3 = pair
    s3.put_bucket_versioning(Bucket="code", VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket="code", Key="a b/é.zip", Body=returning("from elsewhere"))["VersionId"]
    account = s3._request_signer._credentials.access_key
    endpoint = f"http://{account}:a%2Fsecret@127.0.0.1:{server.port}"
    other = Server(base / f"data-{uuid.uuid4().hex[:8]}", cache, "--endpoints-s3", endpoint).start()
    try:
        client = make_client(other)
        create(client, "f", S3Bucket="code", S3Key="a b/é.zip", S3ObjectVersion=version)
        assert answer_of(client, "f") == b'"from elsewhere"'
        text = "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist."
        with refused("InvalidParameterValueException", 400, text):
            create(client, "g", S3Bucket="code", S3Key="none")
        assert "secret" not in other.said()
    finally:
        other.stop()


def test_what_was_put_is_there_after_a_kill(start, data):
    server = start()
    s3 = s3_client(server)
    s3.create_bucket(Bucket="b12")
    acknowledged = {}
    part = os.urandom(5 * MB)
    upload, parts = upload_parts(s3, "b12", "parts", [part, b"end"])

    def put(thread):
        client = s3_client(server)
        with contextlib.suppress(botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            for n in range(100_000):
                key, body = f"{thread}/{n % 7}", f"{thread} {n} ".encode() * 20_000
                acknowledged.pop(key, None)
                client.put_object(Bucket="b12", Key=key, Body=body)
                acknowledged[key] = body
                enough.release()

    enough = threading.Semaphore(0)
    threads = [threading.Thread(target=put, args=(thread,)) for thread in range(4)]
    [thread.start() for thread in threads]
    [enough.acquire() for _ in range(60)]
    s3.complete_multipart_upload(Bucket="b12", Key="parts", UploadId=upload, MultipartUpload={"Parts": parts})
    server.kill()
    [thread.join() for thread in threads]
    server = start()
    s3 = s3_client(server)
    assert s3.get_object(Bucket="b12", Key="parts")["Body"].read() == part + b"end"
    for key, body in acknowledged.items():
        assert s3.get_object(Bucket="b12", Key=key)["Body"].read() == body
    # Whatever was under way when it was killed left nothing: each object's content is there, and no other.
    listed = s3.list_objects_v2(Bucket="b12")["Contents"]
    for found in listed:
        assert len(s3.get_object(Bucket="b12", Key=found["Key"])["Body"].read()) == found["Size"]
    contents = lambda: [path for path in (data / "objects").rglob("*") if path.is_file()]
    eventually("contents without an object are gone", lambda: len(contents()) == len(listed) + 1)
    for found in listed:
        s3.delete_object(Bucket="b12", Key=found["Key"])
    eventually("contents of deleted objects are gone", lambda: not contents())


# The long form is HEARTH_E2E_OBJECT_MB=5120.
SIZE_MB = int(os.environ.get("HEARTH_E2E_OBJECT_MB", "300"))


def resident_kb(server):
    status = (pathlib.Path("/proc") / str(server.process.pid) / "status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def test_a_large_object_goes_through_little_memory(start):
    server = start()
    s3 = s3_client(server, read_timeout=600)
    s3.create_bucket(Bucket="b12")
    before = resident_kb(server)
    block = os.urandom(MB)

    class Blocks(io.RawIOBase):
        left = SIZE_MB

        def readable(self):
            return True

        def read(self, size=-1):
            if not self.left:
                return b""
            self.left -= 1
            return block

    put = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    put.request("PUT", "/b12/k", Blocks(), scope("s3") | {"Content-Length": str(SIZE_MB * MB)})
    assert put.getresponse().status == 200
    got = s3.get_object(Bucket="b12", Key="k")
    assert got["ContentLength"] == SIZE_MB * MB
    read = 0
    for piece in got["Body"].iter_chunks(MB):
        assert piece == block[: len(piece)] if read % MB == 0 else True
        read += len(piece)
    assert read == SIZE_MB * MB
    last = s3.get_object(Bucket="b12", Key="k", Range=f"bytes={SIZE_MB * MB - 10}-")["Body"].read()
    assert last == block[-10:]
    grown = resident_kb(server) - before
    assert grown < 48 * 1024, f"the server grew by {grown} kB"
