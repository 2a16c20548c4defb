import { test } from "node:test";

import * as lambda from "@aws-sdk/client-lambda";
import { all, arnOf, assert, base, client, make, refused, send } from "./support.mjs";

test("a policy is a document of its statements", async () => {
  const FunctionName = await make();
  const add = (StatementId, settings) =>
    send(lambda.AddPermissionCommand, {
      FunctionName,
      StatementId,
      Action: "lambda:InvokeFunction",
      Principal: "s3.amazonaws.com",
      ...settings,
    });
  const added = await add("one", { SourceArn: "arn:aws:s3:::b", SourceAccount: "123456789012" });
  assert.equal(added.$metadata.httpStatusCode, 201);
  const one = JSON.parse(added.Statement);
  assert.deepEqual(one, {
    Sid: "one",
    Effect: "Allow",
    Principal: { Service: "s3.amazonaws.com" },
    Action: "lambda:InvokeFunction",
    Resource: arnOf(FunctionName),
    Condition: {
      StringEquals: { "AWS:SourceAccount": "123456789012" },
      ArnLike: { "AWS:SourceArn": "arn:aws:s3:::b" },
    },
  });
  const two = JSON.parse((await add("two", { Principal: "123456789012" })).Statement);
  assert.deepEqual(two.Principal, { AWS: "arn:aws:iam::123456789012:root" });
  const { Policy, RevisionId } = await send(lambda.GetPolicyCommand, { FunctionName });
  assert.deepEqual(JSON.parse(Policy), { Version: "2012-10-17", Id: "default", Statement: [one, two] });
  await refused(add("one"), "ResourceConflictException", 409, /The statement id \(one\) provided already exists/);
  await refused(add("three", { Principal: "me" }), "InvalidParameterValueException", 400, "The provided principal was invalid. Please check the principal and try again.");
  await refused(add("three", { RevisionId: "wrong" }), "PreconditionFailedException", 412);
  await send(lambda.RemovePermissionCommand, { FunctionName, StatementId: "one", RevisionId });
  const removed = await send(lambda.RemovePermissionCommand, { FunctionName, StatementId: "two" });
  assert.equal(removed.$metadata.httpStatusCode, 204);
  await refused(send(lambda.GetPolicyCommand, { FunctionName }), "ResourceNotFoundException", 404, "The resource you requested does not exist.");
});

test("tags come and go", async () => {
  const FunctionName = await make({ Tags: { a: "1" } });
  const Resource = arnOf(FunctionName);
  assert.deepEqual((await send(lambda.ListTagsCommand, { Resource })).Tags, { a: "1" });
  const tagged = await send(lambda.TagResourceCommand, { Resource, Tags: { b: "2" } });
  assert.equal(tagged.$metadata.httpStatusCode, 204);
  assert.deepEqual((await send(lambda.ListTagsCommand, { Resource })).Tags, { a: "1", b: "2" });
  const untagged = await send(lambda.UntagResourceCommand, { Resource, TagKeys: ["a", "b"] });
  assert.equal(untagged.$metadata.httpStatusCode, 204);
  assert.deepEqual((await send(lambda.ListTagsCommand, { Resource })).Tags, {});
  await refused(
    send(lambda.ListTagsCommand, { Resource: `${Resource}:1` }),
    "InvalidParameterValueException",
    400,
    "Tags on function aliases and versions are not supported. Please specify a function ARN.",
  );
});

test("concurrency is reserved and given back", async () => {
  const FunctionName = await make();
  const put = await send(lambda.PutFunctionConcurrencyCommand, { FunctionName, ReservedConcurrentExecutions: 3 });
  assert.equal(put.ReservedConcurrentExecutions, 3);
  const got = await send(lambda.GetFunctionConcurrencyCommand, { FunctionName });
  assert.equal(got.ReservedConcurrentExecutions, 3);
  assert.deepEqual((await send(lambda.GetFunctionCommand, { FunctionName })).Concurrency, { ReservedConcurrentExecutions: 3 });
  await refused(
    send(lambda.PutFunctionConcurrencyCommand, { FunctionName, ReservedConcurrentExecutions: 901 }),
    "InvalidParameterValueException",
    400,
    /below its minimum value of \[?100\]?/,
  );
  await send(lambda.PutFunctionConcurrencyCommand, { FunctionName, ReservedConcurrentExecutions: 0 });
  await refused(send(lambda.InvokeCommand, { FunctionName }), "TooManyRequestsException", 429, "Rate Exceeded.");
  const { AccountLimit, AccountUsage } = await send(lambda.GetAccountSettingsCommand);
  assert.equal(AccountLimit.ConcurrentExecutions, 1000);
  assert.equal(AccountLimit.CodeSizeUnzipped, 262144000);
  assert.ok(AccountUsage.FunctionCount >= 1 && AccountUsage.TotalCodeSize > 0);
  const deleted = await send(lambda.DeleteFunctionConcurrencyCommand, { FunctionName });
  assert.equal(deleted.$metadata.httpStatusCode, 204);
  assert.equal((await send(lambda.GetFunctionConcurrencyCommand, { FunctionName })).ReservedConcurrentExecutions, undefined);
});

test("runtime management and recursion are kept", async () => {
  const FunctionName = await make();
  const found = await send(lambda.GetRuntimeManagementConfigCommand, { FunctionName });
  assert.equal(found.UpdateRuntimeOn, "Auto");
  assert.equal(found.FunctionArn, arnOf(FunctionName));
  const put = await send(lambda.PutRuntimeManagementConfigCommand, { FunctionName, UpdateRuntimeOn: "FunctionUpdate" });
  assert.equal(put.UpdateRuntimeOn, "FunctionUpdate");
  await refused(send(lambda.PutRuntimeManagementConfigCommand, { FunctionName, UpdateRuntimeOn: "Never" }), "ValidationException", 400);
  assert.equal((await send(lambda.GetFunctionRecursionConfigCommand, { FunctionName })).RecursiveLoop, "Terminate");
  const allowed = await send(lambda.PutFunctionRecursionConfigCommand, { FunctionName, RecursiveLoop: "Allow" });
  assert.equal(allowed.RecursiveLoop, "Allow");
  assert.equal((await send(lambda.GetFunctionRecursionConfigCommand, { FunctionName })).RecursiveLoop, "Allow");
});

test("code signing configurations are attached and listed", async () => {
  const AllowedPublishers = {
    SigningProfileVersionArns: ["arn:aws:signer:us-east-1:123456789012:/signing-profiles/p/0123456789"],
  };
  const create = async () => (await send(lambda.CreateCodeSigningConfigCommand, { AllowedPublishers })).CodeSigningConfig;
  const made = await create();
  assert.match(made.CodeSigningConfigId, /^csc-[a-z0-9]{17}$/);
  const CodeSigningConfigArn = `${base}code-signing-config:${made.CodeSigningConfigId}`;
  assert.equal(made.CodeSigningConfigArn, CodeSigningConfigArn);
  assert.deepEqual(made.CodeSigningPolicies, { UntrustedArtifactOnDeployment: "Warn" });
  assert.deepEqual(made.AllowedPublishers, AllowedPublishers);
  const FunctionName = await make();
  const put = await send(lambda.PutFunctionCodeSigningConfigCommand, { FunctionName, CodeSigningConfigArn });
  assert.equal(put.FunctionName, FunctionName);
  const got = await send(lambda.GetFunctionCodeSigningConfigCommand, { FunctionName });
  assert.equal(got.CodeSigningConfigArn, CodeSigningConfigArn);
  const functions = lambda.paginateListFunctionsByCodeSigningConfig({ client, pageSize: 1 }, { CodeSigningConfigArn });
  assert.deepEqual(await all(functions, "FunctionArns"), [arnOf(FunctionName)]);
  await refused(send(lambda.DeleteCodeSigningConfigCommand, { CodeSigningConfigArn }), "ResourceConflictException", 409);
  await send(lambda.DeleteFunctionCodeSigningConfigCommand, { FunctionName });
  const other = await create();
  const listed = await all(lambda.paginateListCodeSigningConfigs({ client, pageSize: 1 }, {}), "CodeSigningConfigs");
  assert.deepEqual(
    listed.map((found) => found.CodeSigningConfigArn).sort(),
    [made, other].map((found) => found.CodeSigningConfigArn).sort(),
  );
  const deleted = await send(lambda.DeleteCodeSigningConfigCommand, { CodeSigningConfigArn });
  assert.equal(deleted.$metadata.httpStatusCode, 204);
  await refused(
    send(lambda.GetCodeSigningConfigCommand, { CodeSigningConfigArn }),
    "ResourceNotFoundException",
    404,
    `The Lambda code signing configuration ${CodeSigningConfigArn} can not be found.`,
  );
});
