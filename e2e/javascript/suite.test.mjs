// Hearth through the unmodified JavaScript SDK v3.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { after, before, test } from "node:test";

import {
  CreateFunctionCommand,
  DeleteFunctionCommand,
  GetFunctionCommand,
  InvokeCommand,
  InvokeWithResponseStreamCommand,
  LambdaClient,
  ListCapacityProvidersCommand,
  paginateListFunctions,
  UpdateFunctionCodeCommand,
  UpdateFunctionConfigurationCommand,
  waitUntilFunctionActiveV2,
  waitUntilFunctionUpdatedV2,
} from "@aws-sdk/client-lambda";
import {
  CompleteMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteBucketCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  paginateListObjectsV2,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
  waitUntilBucketExists,
} from "@aws-sdk/client-s3";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";

const client = new LambdaClient({});
const FunctionName = `js-${randomUUID()}`;
const wait = { client, maxWaitTime: 30, minDelay: 1, maxDelay: 1 };
const text = (bytes) => Buffer.from(bytes).toString();

before(async () => {
  const created = await client.send(
    new CreateFunctionCommand({
      FunctionName,
      Runtime: "nodejs20.x",
      Handler: "index.handler",
      Role: "arn:aws:iam::000000000000:role/hearth",
      Code: { ZipFile: await readFile("package.zip") },
      MemorySize: 256,
      Timeout: 10,
    }),
  );
  assert.equal(created.State, "Pending");
  await waitUntilFunctionActiveV2(wait, { FunctionName });
});

after(async () => {
  const deleted = await client.send(new DeleteFunctionCommand({ FunctionName }));
  assert.equal(deleted.$metadata.httpStatusCode, 204);
  await assert.rejects(client.send(new GetFunctionCommand({ FunctionName })), { name: "ResourceNotFoundException" });
  client.destroy();
});

test("a function is invoked and its log comes along", async () => {
  const answer = await client.send(new InvokeCommand({ FunctionName, Payload: '{"n":[1,"é"]}', LogType: "Tail" }));
  assert.equal(answer.StatusCode, 200);
  assert.equal(answer.ExecutedVersion, "$LATEST");
  assert.equal(answer.FunctionError, undefined);
  assert.deepEqual(JSON.parse(text(answer.Payload)), { got: { n: [1, "é"] } });
  assert.match(text(Buffer.from(answer.LogResult, "base64")), /^START RequestId: [^]*\nREPORT RequestId: .*\t\n$/m);
});

test("calls at once are all answered", async () => {
  const calls = Array.from({ length: 8 }, (_, n) =>
    client.send(new InvokeCommand({ FunctionName, Payload: JSON.stringify(n) })),
  );
  const answers = (await Promise.all(calls)).map((answer) => JSON.parse(text(answer.Payload)).got);
  assert.deepEqual(answers, [0, 1, 2, 3, 4, 5, 6, 7]);
});

test("an update of code and configuration is what runs, and its error is the function's", async () => {
  await client.send(new UpdateFunctionCodeCommand({ FunctionName, ZipFile: await readFile("other.zip") }));
  await waitUntilFunctionUpdatedV2(wait, { FunctionName });
  await client.send(new UpdateFunctionConfigurationCommand({ FunctionName, Description: "far" }));
  await waitUntilFunctionUpdatedV2(wait, { FunctionName });
  const answer = await client.send(new InvokeCommand({ FunctionName }));
  assert.equal(answer.FunctionError, "Unhandled");
  const { errorType, errorMessage, trace } = JSON.parse(text(answer.Payload));
  assert.deepEqual([errorType, errorMessage, trace[0]], ["RangeError", "far", "RangeError: far"]);
});

test("an answer is taken as it comes, with its error and its log", async () => {
  await client.send(new UpdateFunctionCodeCommand({ FunctionName, ZipFile: await readFile("stream.zip") }));
  await waitUntilFunctionUpdatedV2(wait, { FunctionName });
  const stream = async (input) => {
    const Payload = JSON.stringify(input);
    const answer = await client.send(new InvokeWithResponseStreamCommand({ FunctionName, Payload, LogType: "Tail" }));
    assert.deepEqual([answer.StatusCode, answer.ExecutedVersion], [200, "$LATEST"]);
    let [pieces, complete] = ["", undefined];
    for await (const event of answer.EventStream) {
      assert.equal(complete, undefined);
      pieces += event.PayloadChunk ? text(event.PayloadChunk.Payload) : "";
      complete = event.InvokeComplete;
    }
    return [pieces, complete];
  };
  const [whole, complete] = await stream({ n: 3 });
  assert.equal(whole, "0;1;2;");
  assert.equal(complete.ErrorCode, undefined);
  assert.match(text(Buffer.from(complete.LogResult, "base64")), /^START RequestId: [^]*\nREPORT RequestId: .*\t\n$/m);
  const [half, failed] = await stream({ n: 1, fail: true });
  assert.equal(half, "0;");
  assert.deepEqual([failed.ErrorCode, JSON.parse(failed.ErrorDetails).errorMessage], ["RangeError", "far"]);
});

test("pages are followed", async () => {
  const names = [];
  for await (const page of paginateListFunctions({ client, pageSize: 1 }, {})) {
    names.push(...page.Functions.map((found) => found.FunctionName));
  }
  assert.ok(names.includes(FunctionName));
});

test("refusals have types and are not retried", async () => {
  const refused = { name: "NotImplementedException", message: "Hearth does not support lambda:ListCapacityProviders." };
  await assert.rejects(client.send(new ListCapacityProvidersCommand({})), (error) => {
    assert.equal(error.name, refused.name);
    assert.equal(error.message, refused.message);
    assert.equal(error.$metadata.httpStatusCode, 501);
    assert.equal(error.$metadata.attempts, 1);
    return true;
  });
  await assert.rejects(client.send(new InvokeCommand({ FunctionName, Payload: "{" })), {
    name: "InvalidRequestContentException",
  });
});

test("the caller is named", async () => {
  const identity = await new STSClient({}).send(new GetCallerIdentityCommand({}));
  assert.equal(identity.Account, "000000000000");
});

test("objects are put, streamed, listed and deleted", async () => {
  const s3 = new S3Client({});
  const Bucket = `js-${randomUUID()}`;
  await s3.send(new CreateBucketCommand({ Bucket }));
  await waitUntilBucketExists({ client: s3, maxWaitTime: 30 }, { Bucket });
  const put = await s3.send(new PutObjectCommand({ Bucket, Key: "a/é 1", Body: "body", Metadata: { m: "1" } }));
  assert.equal(put.ETag, '"841a2d689ad86bd1611447453c22c6fc"');
  const Body = Readable.from([Buffer.alloc(300_000, 1), Buffer.alloc(300_000, 2)]);
  await s3.send(new PutObjectCommand({ Bucket, Key: "stream", Body, ContentLength: 600_000 }));
  const got = await s3.send(new GetObjectCommand({ Bucket, Key: "a/é 1" }));
  assert.equal(await got.Body.transformToString(), "body");
  assert.deepEqual(got.Metadata, { m: "1" });
  const range = await s3.send(new GetObjectCommand({ Bucket, Key: "stream", Range: "bytes=299999-300000" }));
  assert.deepEqual([...(await range.Body.transformToByteArray())], [1, 2]);
  const { UploadId } = await s3.send(new CreateMultipartUploadCommand({ Bucket, Key: "parts" }));
  const Parts = [];
  for (const [PartNumber, Body] of [[1, Buffer.alloc(5 << 20)], [2, Buffer.from("end")]]) {
    const part = await s3.send(new UploadPartCommand({ Bucket, Key: "parts", UploadId, PartNumber, Body }));
    Parts.push({ PartNumber, ETag: part.ETag, ChecksumCRC32: part.ChecksumCRC32 });
  }
  await s3.send(new CompleteMultipartUploadCommand({ Bucket, Key: "parts", UploadId, MultipartUpload: { Parts } }));
  const head = await s3.send(new HeadObjectCommand({ Bucket, Key: "parts" }));
  assert.equal(head.ContentLength, (5 << 20) + 3);
  const keys = [];
  for await (const page of paginateListObjectsV2({ client: s3, pageSize: 1 }, { Bucket })) {
    keys.push(...page.Contents.map((found) => found.Key));
  }
  assert.deepEqual(keys, ["a/é 1", "parts", "stream"]);
  await assert.rejects(s3.send(new GetObjectCommand({ Bucket, Key: "none" })), { name: "NoSuchKey" });
  await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: keys.map((Key) => ({ Key })) } }));
  await s3.send(new DeleteBucketCommand({ Bucket }));
});
