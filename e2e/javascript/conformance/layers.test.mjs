import { test } from "node:test";

import * as lambda from "@aws-sdk/client-lambda";
import { account, all, assert, base, client, echo, make, refused, send, throws } from "./support.mjs";

const publish = (LayerName, settings) =>
  send(lambda.PublishLayerVersionCommand, { LayerName, Content: { ZipFile: echo }, ...settings });

test("a layer is published, found and deleted", async () => {
  const made = await publish("one", {
    Description: "first",
    LicenseInfo: "MIT",
    CompatibleRuntimes: ["nodejs20.x"],
    CompatibleArchitectures: ["x86_64"],
  });
  const arn = `${base}layer:one`;
  assert.equal(made.$metadata.httpStatusCode, 201);
  assert.equal(made.LayerArn, arn);
  assert.equal(made.LayerVersionArn, `${arn}:1`);
  assert.equal(made.Version, 1);
  assert.equal(made.Description, "first");
  assert.equal(made.LicenseInfo, "MIT");
  assert.deepEqual(made.CompatibleRuntimes, ["nodejs20.x"]);
  assert.deepEqual(made.CompatibleArchitectures, ["x86_64"]);
  assert.equal(made.Content.CodeSize, echo.length);
  const found = await send(lambda.GetLayerVersionByArnCommand, { Arn: `${arn}:1` });
  assert.equal(found.Content.CodeSha256, made.Content.CodeSha256);
  const downloaded = await fetch(found.Content.Location);
  assert.deepEqual(Buffer.from(await downloaded.arrayBuffer()), echo);
  const second = await publish("one", { Content: { ZipFile: throws } });
  assert.equal(second.Version, 2);
  assert.equal(second.LicenseInfo, undefined);
  await publish("two", {});
  const versions = lambda.paginateListLayerVersions({ client, pageSize: 1 }, { LayerName: "one" });
  assert.deepEqual((await all(versions, "LayerVersions")).map((version) => version.Version), [2, 1]);
  const layers = await all(lambda.paginateListLayers({ client, pageSize: 1 }, {}), "Layers");
  assert.deepEqual(layers.map((layer) => layer.LayerName), ["one", "two"]);
  assert.equal(layers[0].LatestMatchingVersion.Version, 2);
  const FunctionName = await make({ Layers: [`${arn}:1`] });
  const configured = await send(lambda.GetFunctionConfigurationCommand, { FunctionName });
  assert.deepEqual(configured.Layers, [{ Arn: `${arn}:1`, CodeSize: echo.length }]);
  const deleted = await send(lambda.DeleteLayerVersionCommand, { LayerName: "one", VersionNumber: 1 });
  assert.equal(deleted.$metadata.httpStatusCode, 204);
  await refused(send(lambda.GetLayerVersionCommand, { LayerName: "one", VersionNumber: 1 }), "ResourceNotFoundException", 404);
  const answer = await send(lambda.InvokeCommand, { FunctionName, Payload: "1" });
  assert.equal(answer.FunctionError, undefined, "functions go on with a layer that was deleted");
});

test("a layer has a policy", async () => {
  await publish("shared", {});
  const of = { LayerName: "shared", VersionNumber: 1 };
  const added = await send(lambda.AddLayerVersionPermissionCommand, {
    ...of,
    StatementId: "s",
    Action: "lambda:GetLayerVersion",
    Principal: "123456789012",
  });
  assert.equal(added.$metadata.httpStatusCode, 201);
  const statement = JSON.parse(added.Statement);
  assert.equal(statement.Sid, "s");
  assert.equal(statement.Effect, "Allow");
  assert.equal(statement.Action, "lambda:GetLayerVersion");
  assert.equal(statement.Resource, `arn:aws:lambda:us-east-1:${account}:layer:shared:1`);
  const { Policy, RevisionId } = await send(lambda.GetLayerVersionPolicyCommand, of);
  assert.deepEqual(JSON.parse(Policy).Statement, [statement]);
  assert.equal(RevisionId, added.RevisionId);
  const removed = await send(lambda.RemoveLayerVersionPermissionCommand, { ...of, StatementId: "s" });
  assert.equal(removed.$metadata.httpStatusCode, 204);
  await refused(send(lambda.GetLayerVersionPolicyCommand, of), "ResourceNotFoundException", 404);
});
