import { test } from "node:test";

import * as lambda from "@aws-sdk/client-lambda";
import { all, arnOf, assert, client, json, make, refused, send, throws, waiting } from "./support.mjs";

async function update(FunctionName, settings) {
  await send(lambda.UpdateFunctionConfigurationCommand, { FunctionName, ...settings });
  await lambda.waitUntilFunctionUpdatedV2(waiting, { FunctionName });
}

test("a publication is a version, and the same again where nothing changed", async () => {
  const FunctionName = await make({ Description: "function" });
  const before = await send(lambda.GetFunctionConfigurationCommand, { FunctionName });
  const first = await send(lambda.PublishVersionCommand, { FunctionName, Description: "version" });
  assert.equal(first.$metadata.httpStatusCode, 201);
  assert.equal(first.Version, "1");
  assert.equal(first.FunctionArn, `${arnOf(FunctionName)}:1`);
  assert.equal(first.Description, "version");
  assert.equal(first.CodeSha256, before.CodeSha256);
  assert.equal(first.State, "Active");
  const again = await send(lambda.PublishVersionCommand, { FunctionName });
  assert.equal(again.Version, "1");
  assert.equal(again.RevisionId, first.RevisionId);
  await update(FunctionName, { Timeout: 9 });
  const second = await send(lambda.PublishVersionCommand, { FunctionName });
  assert.equal(second.Version, "2");
  assert.equal(second.Timeout, 9);
  const old = await send(lambda.GetFunctionConfigurationCommand, { FunctionName, Qualifier: "1" });
  assert.equal(old.Timeout, 3);
});

test("publications have preconditions", async () => {
  const FunctionName = await make();
  const { CodeSha256, RevisionId } = await send(lambda.GetFunctionConfigurationCommand, { FunctionName });
  await refused(
    send(lambda.PublishVersionCommand, { FunctionName, CodeSha256: "wrong" }),
    "InvalidParameterValueException",
    400,
    `CodeSHA256 (wrong) is different from current CodeSHA256 in $LATEST (${CodeSha256}). Please try again with the CodeSHA256 in $LATEST.`,
  );
  await refused(send(lambda.PublishVersionCommand, { FunctionName, RevisionId: "wrong" }), "PreconditionFailedException", 412);
  const published = await send(lambda.PublishVersionCommand, { FunctionName, CodeSha256, RevisionId });
  assert.equal(published.Version, "1");
});

test("versions are listed with $LATEST first, in pages", async () => {
  const FunctionName = await make();
  for (const Timeout of [4, 5, 6]) {
    await update(FunctionName, { Timeout });
    await send(lambda.PublishVersionCommand, { FunctionName });
  }
  const pages = lambda.paginateListVersionsByFunction({ client, pageSize: 3 }, { FunctionName });
  const listed = await all(pages, "Versions");
  assert.deepEqual(listed.map((found) => found.Version), ["$LATEST", "1", "2", "3"]);
  assert.equal(listed[0].FunctionArn, `${arnOf(FunctionName)}:$LATEST`);
  const every = lambda.paginateListFunctions({ client, pageSize: 2 }, { FunctionVersion: "ALL" });
  const own = (await all(every, "Functions")).filter((found) => found.FunctionName === FunctionName);
  assert.deepEqual(own.map((found) => found.Version), ["$LATEST", "1", "2", "3"]);
  await send(lambda.DeleteFunctionCommand, { FunctionName, Qualifier: "2" });
  await refused(
    send(lambda.GetFunctionCommand, { FunctionName, Qualifier: "2" }),
    "ResourceNotFoundException",
    404,
    `Function not found: ${arnOf(FunctionName)}:2`,
  );
  await refused(
    send(lambda.DeleteFunctionCommand, { FunctionName, Qualifier: "$LATEST" }),
    "InvalidParameterValueException",
    400,
    "$LATEST version cannot be deleted without deleting the function.",
  );
});

test("an alias leads to its version, and is changed by who has seen it", async () => {
  const FunctionName = await make();
  await send(lambda.PublishVersionCommand, { FunctionName });
  await send(lambda.UpdateFunctionCodeCommand, { FunctionName, ZipFile: throws });
  await lambda.waitUntilFunctionUpdatedV2(waiting, { FunctionName });
  await send(lambda.PublishVersionCommand, { FunctionName });
  const alias = { FunctionName, Name: "live" };
  const made = await send(lambda.CreateAliasCommand, { ...alias, FunctionVersion: "1", Description: "now" });
  assert.equal(made.$metadata.httpStatusCode, 201);
  assert.equal(made.AliasArn, `${arnOf(FunctionName)}:live`);
  assert.equal(made.FunctionVersion, "1");
  assert.equal(made.Description, "now");
  assert.equal(made.RoutingConfig, undefined);
  const answer = await send(lambda.InvokeCommand, { FunctionName, Qualifier: "live", Payload: "1" });
  assert.equal(answer.ExecutedVersion, "1");
  assert.deepEqual(json(answer.Payload), { got: 1 });
  await refused(send(lambda.CreateAliasCommand, { ...alias, FunctionVersion: "2" }), "ResourceConflictException", 409, `Alias already exists: ${made.AliasArn}`);
  const changed = await send(lambda.UpdateAliasCommand, { ...alias, FunctionVersion: "2", RevisionId: made.RevisionId });
  assert.equal(changed.FunctionVersion, "2");
  assert.equal(changed.Description, "now");
  assert.notEqual(changed.RevisionId, made.RevisionId);
  const other = await send(lambda.InvokeCommand, { FunctionName: `${FunctionName}:live` });
  assert.equal(other.ExecutedVersion, "2");
  assert.equal(other.FunctionError, "Unhandled");
  await refused(send(lambda.UpdateAliasCommand, { ...alias, RevisionId: made.RevisionId }), "PreconditionFailedException", 412);
  const weighted = await send(lambda.UpdateAliasCommand, { ...alias, RoutingConfig: { AdditionalVersionWeights: { 1: 0.25 } } });
  assert.deepEqual(weighted.RoutingConfig, { AdditionalVersionWeights: { 1: 0.25 } });
  assert.deepEqual((await send(lambda.GetAliasCommand, alias)).RoutingConfig, weighted.RoutingConfig);
  await refused(send(lambda.DeleteFunctionCommand, { FunctionName, Qualifier: "1" }), "ResourceConflictException", 409);
  await send(lambda.CreateAliasCommand, { FunctionName, Name: "latest", FunctionVersion: "$LATEST" });
  const pages = lambda.paginateListAliases({ client, pageSize: 1 }, { FunctionName });
  assert.deepEqual((await all(pages, "Aliases")).map((found) => found.Name), ["latest", "live"]);
  const deleted = await send(lambda.DeleteAliasCommand, alias);
  assert.equal(deleted.$metadata.httpStatusCode, 204);
  await refused(send(lambda.GetAliasCommand, alias), "ResourceNotFoundException", 404, `Cannot find alias arn: ${made.AliasArn}`);
});
