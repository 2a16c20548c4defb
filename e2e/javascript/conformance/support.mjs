// What every part of the suite begins with: an account of its own, packages, and what a refusal is.
import strict from "node:assert/strict";
import { randomInt, randomUUID } from "node:crypto";
import { appendFileSync } from "node:fs";
import { readFile } from "node:fs/promises";

import { CreateFunctionCommand, LambdaClient, waitUntilFunctionActiveV2 } from "@aws-sdk/client-lambda";

// Assertions that held are counted, and told to whoever asks for it.
let held = 0;
export const assert = Object.fromEntries(
  ["deepEqual", "equal", "fail", "match", "notEqual", "ok", "rejects"].map((name) => [
    name,
    (...given) => {
      const done = strict[name](...given);
      held += 1;
      return done;
    },
  ]),
);
process.on("exit", () => {
  const file = process.env.HEARTH_E2E_HELD;
  if (file) appendFileSync(file, `${held}\n`);
});

// The access key is the account.
export const account = String(randomInt(200_000_000_000, 400_000_000_000));
export const client = new LambdaClient({ credentials: { accessKeyId: account, secretAccessKey: "test" } });
export const base = `arn:aws:lambda:us-east-1:${account}:`;
export const waiting = { client, maxWaitTime: 60, minDelay: 0.05, maxDelay: 0.1 };
export const echo = await readFile(new URL("../package.zip", import.meta.url));
export const throws = await readFile(new URL("../other.zip", import.meta.url));

export const send = (Command, input = {}) => client.send(new Command(input));
export const json = (bytes) => JSON.parse(Buffer.from(bytes).toString());
export const arnOf = (name) => `${base}function:${name}`;

export async function create(settings = {}) {
  const FunctionName = `js-${randomUUID().slice(0, 13)}`;
  const created = await send(CreateFunctionCommand, {
    FunctionName,
    Runtime: "nodejs20.x",
    Handler: "index.handler",
    Role: "arn:aws:iam::000000000000:role/hearth",
    Code: { ZipFile: echo },
    ...settings,
  });
  return { name: FunctionName, created };
}

// A function that is ready.
export async function make(settings) {
  const { name } = await create(settings);
  await waitUntilFunctionActiveV2(waiting, { FunctionName: name });
  return name;
}

// The SDK has a class for each error, with AWS's members.
export async function refused(call, name, status, message) {
  await assert.rejects(call, (error) => {
    assert.equal(error.name, name);
    assert.equal(error.$metadata.httpStatusCode, status);
    assert.match(error.$metadata.requestId, /^[0-9a-f-]{36}$/);
    if (message instanceof RegExp) assert.match(error.message, message);
    else if (message !== undefined) assert.equal(error.message, message);
    return true;
  });
}

export async function all(pages, member) {
  const found = [];
  for await (const page of pages) found.push(...page[member]);
  return found;
}
