import { test } from "node:test";

import * as lambda from "@aws-sdk/client-lambda";
import { all, arnOf, assert, client, create, echo, json, make, refused, send, throws, waiting } from "./support.mjs";

test("a creation is answered with everything that the function has", async () => {
  const { name, created } = await create({
    Description: "d",
    Timeout: 7,
    MemorySize: 256,
    Environment: { Variables: { WHO: "me" } },
    Tags: { team: "x" },
    EphemeralStorage: { Size: 1024 },
    TracingConfig: { Mode: "Active" },
  });
  assert.equal(created.$metadata.httpStatusCode, 201);
  assert.equal(created.FunctionArn, arnOf(name));
  assert.equal(created.State, "Pending");
  assert.equal(created.StateReasonCode, "Creating");
  assert.equal(created.StateReason, "The function is being created.");
  assert.equal(created.LastUpdateStatus, undefined);
  assert.equal(created.Version, "$LATEST");
  assert.equal(created.PackageType, "Zip");
  assert.equal(created.CodeSize, echo.length);
  assert.match(created.CodeSha256, /^[A-Za-z0-9+/]{43}=$/);
  assert.match(created.LastModified, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000$/);
  assert.match(created.RevisionId, /^[0-9a-f-]{36}$/);
  assert.deepEqual(created.Architectures, ["x86_64"]);
  assert.deepEqual(created.Environment, { Variables: { WHO: "me" } });
  assert.deepEqual(created.EphemeralStorage, { Size: 1024 });
  assert.deepEqual(created.TracingConfig, { Mode: "Active" });
  assert.deepEqual(created.SnapStart, { ApplyOn: "None", OptimizationStatus: "Off" });
  assert.deepEqual(created.LoggingConfig, { LogFormat: "Text", LogGroup: `/aws/lambda/${name}` });
  const { state, reason } = await lambda.waitUntilFunctionActiveV2(waiting, { FunctionName: name });
  assert.equal(state, "SUCCESS");
  assert.equal(reason.Configuration.State, "Active");
  const found = await send(lambda.GetFunctionCommand, { FunctionName: name });
  assert.equal(found.Configuration.LastUpdateStatus, "Successful");
  assert.equal(found.Configuration.StateReason, undefined);
  assert.deepEqual(found.Tags, { team: "x" });
  assert.equal(found.Code.RepositoryType, "S3");
  const downloaded = await fetch(found.Code.Location);
  assert.equal(downloaded.status, 200);
  assert.deepEqual(Buffer.from(await downloaded.arrayBuffer()), echo);
  await refused(create({ FunctionName: name }), "ResourceConflictException", 409, `Function already exist: ${name}`);
});

test("every waiter of functions ends", async () => {
  const { name: FunctionName } = await create();
  for (const wait of [
    lambda.waitUntilFunctionExists,
    lambda.waitUntilFunctionActive,
    lambda.waitUntilFunctionActiveV2,
    lambda.waitUntilFunctionUpdated,
    lambda.waitUntilFunctionUpdatedV2,
  ]) {
    assert.equal((await wait(waiting, { FunctionName })).state, "SUCCESS");
  }
  const { Version: Qualifier } = await send(lambda.PublishVersionCommand, { FunctionName });
  const published = await lambda.waitUntilPublishedVersionActive(waiting, { FunctionName, Qualifier });
  assert.equal(published.state, "SUCCESS");
  await assert.rejects(lambda.waitUntilFunctionExists({ ...waiting, maxWaitTime: 1 }, { FunctionName: "missing" }), {
    name: "TimeoutError",
  });
});

test("an update answers what runs and what is to run", async () => {
  const FunctionName = await make();
  const before = await send(lambda.GetFunctionConfigurationCommand, { FunctionName });
  const updated = await send(lambda.UpdateFunctionCodeCommand, { FunctionName, ZipFile: throws });
  assert.equal(updated.LastUpdateStatus, "InProgress");
  assert.equal(updated.LastUpdateStatusReasonCode, "Creating");
  assert.equal(updated.State, "Active");
  assert.notEqual(updated.CodeSha256, before.CodeSha256);
  assert.notEqual(updated.RevisionId, before.RevisionId);
  await lambda.waitUntilFunctionUpdatedV2(waiting, { FunctionName });
  const answer = await send(lambda.InvokeCommand, { FunctionName });
  assert.equal(answer.StatusCode, 200);
  assert.equal(answer.FunctionError, "Unhandled");
  assert.equal(json(answer.Payload).errorType, "RangeError");
  const dry = await send(lambda.UpdateFunctionCodeCommand, { FunctionName, ZipFile: echo, DryRun: true });
  assert.equal(dry.CodeSize, echo.length);
  const after = await send(lambda.GetFunctionConfigurationCommand, { FunctionName });
  assert.equal(after.CodeSha256, updated.CodeSha256);
  await refused(
    send(lambda.UpdateFunctionCodeCommand, { FunctionName, ZipFile: echo, RevisionId: before.RevisionId }),
    "PreconditionFailedException",
    412,
    "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
  );
});

test("what is wrong is said in AWS's words", async () => {
  const missing = arnOf("missing");
  for (const Command of [lambda.GetFunctionCommand, lambda.GetFunctionConfigurationCommand, lambda.DeleteFunctionCommand]) {
    await refused(send(Command, { FunctionName: "missing" }), "ResourceNotFoundException", 404, `Function not found: ${missing}`);
  }
  const latest = `Function not found: ${missing}:$LATEST`;
  await refused(send(lambda.InvokeCommand, { FunctionName: "missing" }), "ResourceNotFoundException", 404, latest);
  await refused(create({ Environment: { Variables: { A: "1" } } }), "ValidationException", 400, /at 'environment\.variables'/);
  await refused(create({ MemorySize: 64 }), "ValidationException", 400, /at 'memorySize'.*greater than or equal to 128/);
  await refused(create({ Timeout: 901 }), "ValidationException", 400, /at 'timeout'.*less than or equal to 900/);
  await refused(create({ Runtime: "nodejs99.x" }), "InvalidParameterValueException", 400, /nodejs99\.x/);
  await refused(
    create({ Code: { ZipFile: Buffer.from("no zip") } }),
    "InvalidParameterValueException",
    400,
    "Could not unzip uploaded file. Please check your file, then try to upload again.",
  );
  const FunctionName = await make();
  await refused(send(lambda.InvokeCommand, { FunctionName, Payload: "{" }), "InvalidRequestContentException", 400, /^Could not parse request body into json/);
});

test("invocations carry what AWS's do", async () => {
  const FunctionName = await make();
  const answer = await send(lambda.InvokeCommand, { FunctionName, Payload: '{"é":[1]}', LogType: "Tail" });
  assert.equal(answer.StatusCode, 200);
  assert.equal(answer.ExecutedVersion, "$LATEST");
  assert.equal(answer.FunctionError, undefined);
  assert.deepEqual(json(answer.Payload), { got: { "é": [1] } });
  assert.match(Buffer.from(answer.LogResult, "base64").toString(), /REPORT RequestId: .*\tDuration: /);
  const dry = await send(lambda.InvokeCommand, { FunctionName, InvocationType: "DryRun" });
  assert.equal(dry.StatusCode, 204);
  assert.equal(dry.Payload?.length ?? 0, 0);
});

test("functions are listed by name, in pages", async () => {
  const names = await Promise.all([make(), make(), make()]);
  const pages = lambda.paginateListFunctions({ client, pageSize: 2 }, {});
  const listed = (await all(pages, "Functions")).map((found) => found.FunctionName);
  assert.deepEqual(listed, [...listed].sort());
  for (const name of names) assert.ok(listed.includes(name));
  const { Functions } = await send(lambda.ListFunctionsCommand, { MaxItems: 1 });
  assert.equal(Functions.length, 1);
  assert.equal(Functions[0].State, undefined);
  await refused(send(lambda.ListFunctionsCommand, { MaxItems: 0 }), "ValidationException", 400, /maxItems/);
});

test("a deletion is the end", async () => {
  const FunctionName = await make();
  const deleted = await send(lambda.DeleteFunctionCommand, { FunctionName });
  assert.equal(deleted.$metadata.httpStatusCode, 204);
  const text = `Function not found: ${arnOf(FunctionName)}`;
  await refused(send(lambda.GetFunctionCommand, { FunctionName }), "ResourceNotFoundException", 404, text);
  await refused(send(lambda.DeleteFunctionCommand, { FunctionName }), "ResourceNotFoundException", 404, text);
});
