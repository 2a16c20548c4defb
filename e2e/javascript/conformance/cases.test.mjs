// The cases of `e2e/conformance/cases`, through the SDK v3. `test_cases.py` there says what a case is.
import { readdir, readFile } from "node:fs/promises";
import { test } from "node:test";

import * as lambda from "@aws-sdk/client-lambda";
import { account, all, assert, base, client, echo, make, send, throws, waiting } from "./support.mjs";

const folder = new URL("../cases/", import.meta.url);
const groups = (await readdir(folder)).filter((file) => file.endsWith(".json")).sort();
assert.ok(groups.length > 0);

// The groups share one account here, so that each has a layer and functions of its own name.
async function world(group) {
  const FunctionName = await make({ Runtime: "python3.11", Code: { ZipFile: echo } });
  await send(lambda.PublishVersionCommand, { FunctionName });
  await send(lambda.UpdateFunctionCodeCommand, { FunctionName, ZipFile: throws });
  await lambda.waitUntilFunctionUpdatedV2(waiting, { FunctionName });
  await send(lambda.PublishVersionCommand, { FunctionName });
  await send(lambda.CreateAliasCommand, { FunctionName, Name: "live", FunctionVersion: "1" });
  const statement = { StatementId: "kept", Principal: "*" };
  await send(lambda.AddPermissionCommand, { FunctionName, Action: "lambda:InvokeFunction", ...statement });
  if (group === "layers" || group === "functions") {
    const layer = { LayerName: "l", Content: { ZipFile: echo } };
    const first = {
      Description: "one",
      LicenseInfo: "MIT",
      CompatibleRuntimes: ["python3.11"],
      CompatibleArchitectures: ["x86_64"],
    };
    const known = await all(lambda.paginateListLayers({ client }, {}), "Layers");
    if (known.length === 0) {
      await send(lambda.PublishLayerVersionCommand, { ...layer, ...first });
      await send(lambda.PublishLayerVersionCommand, layer);
      const permission = { LayerName: "l", VersionNumber: 1, Action: "lambda:GetLayerVersion", ...statement };
      await send(lambda.AddLayerVersionPermissionCommand, permission);
    }
  }
  const words = { f: FunctionName, account, arn: `${base}function:`, layer: `${base}layer:l` };
  const blobs = { "{zip}": echo, "{nozip}": Buffer.from("no zip") };
  const text = (value) =>
    value
      .replace(/\{x\*(\d+)\}/g, (_, times) => "x".repeat(times))
      .replace(/\{(f|account|arn|layer)\}/g, (_, word) => words[word]);
  const meant = (value) => {
    if (typeof value === "string") return blobs[value] ?? text(value);
    if (Array.isArray(value)) return value.map(meant);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, meant(item)]));
    }
    return value;
  };
  return meant;
}

async function check(meant, expected) {
  const Command = lambda[`${expected.call}Command`];
  const input = meant(expected.with);
  if (!expected.error) {
    const answer = await send(Command, input);
    assert.equal(answer.$metadata.httpStatusCode, expected.status);
    for (const [member, value] of Object.entries(expected.has)) assert.deepEqual(answer[member], meant(value), member);
    for (const member of expected.lacks) assert.equal(answer[member], undefined, member);
    return;
  }
  const error = await send(Command, input).then(
    () => assert.fail("it was not refused"),
    (refusal) => refusal,
  );
  assert.equal(error.name, expected.error, error.message);
  assert.equal(error.$metadata.httpStatusCode, expected.status);
  // The SDK has a class for each exception of the model.
  if (lambda[expected.error]) assert.ok(error instanceof lambda[expected.error]);
  if (expected.message !== undefined) assert.equal(error.message, meant(expected.message));
  if (expected.like !== undefined) assert.match(error.message, new RegExp(meant(expected.like)));
}

for (const file of groups) {
  const cases = JSON.parse(await readFile(new URL(file, folder)));
  test(file.replace(".json", ""), async (group) => {
    const meant = await world(group.name);
    for (const [number, expected] of cases.entries()) {
      await group.test(`${number + 1} ${expected.call} ${expected.error ?? expected.status}`, () => check(meant, expected));
    }
  });
}
