// EventBridge Scheduler through the unmodified JavaScript SDK v3.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";

import {
  ConflictException,
  CreateScheduleCommand,
  CreateScheduleGroupCommand,
  DeleteScheduleGroupCommand,
  GetScheduleCommand,
  ListTagsForResourceCommand,
  paginateListSchedules,
  ResourceNotFoundException,
  SchedulerClient,
  UpdateScheduleCommand,
  ValidationException,
} from "@aws-sdk/client-scheduler";
import { CreateQueueCommand, DeleteQueueCommand, ReceiveMessageCommand, SQSClient } from "@aws-sdk/client-sqs";

const client = new SchedulerClient({ maxAttempts: 1 });
const sqs = new SQSClient({});
const name = `js-${randomUUID()}`;
const Arn = `arn:aws:sqs:us-east-1:000000000000:${name}`;
const RoleArn = "arn:aws:iam::000000000000:role/scheduler";
const about = { GroupName: name, FlexibleTimeWindow: { Mode: "OFF" } };
const create = (Name, more) => client.send(new CreateScheduleCommand({ ...about, Name, Target: { Arn, RoleArn }, ...more }));
let QueueUrl, group;

before(async () => {
  QueueUrl = (await sqs.send(new CreateQueueCommand({ QueueName: name }))).QueueUrl;
  group = await client.send(new CreateScheduleGroupCommand({ Name: name, Tags: [{ Key: "a", Value: "1" }] }));
});

after(async () => {
  await client.send(new DeleteScheduleGroupCommand({ Name: name }));
  await sqs.send(new DeleteQueueCommand({ QueueUrl }));
  const missing = client.send(new GetScheduleCommand({ Name: "now", GroupName: name }));
  await assert.rejects(missing, ResourceNotFoundException);
});

test("a schedule fires at a queue, and is shown", async () => {
  const moment = new Date().toISOString().slice(0, 19);
  const Target = { Arn, RoleArn, Input: "from JavaScript" };
  await create("now", { ScheduleExpression: `at(${moment})`, Target });
  const { Messages } = await sqs.send(new ReceiveMessageCommand({ QueueUrl, WaitTimeSeconds: 20 }));
  assert.deepEqual(Messages.map((message) => message.Body), ["from JavaScript"]);
  const found = await client.send(new GetScheduleCommand({ Name: "now", GroupName: name }));
  assert.equal(found.Target.RetryPolicy.MaximumRetryAttempts, 185);
  assert.ok(Math.abs(found.CreationDate - Date.now()) < 60_000);
});

test("dates go there and back, and pages hold everything", async () => {
  const EndDate = new Date("2098-01-01T00:00:00Z");
  const ScheduleExpression = "cron(0 10 ? * MON-FRI *)";
  for (const at of ["p1", "p2", "p3"]) await create(at, { ScheduleExpression, EndDate });
  const changed = { ...about, Name: "p1", ScheduleExpression, EndDate, State: "DISABLED", Target: { Arn, RoleArn } };
  await client.send(new UpdateScheduleCommand(changed));
  const found = await client.send(new GetScheduleCommand({ Name: "p1", GroupName: name }));
  assert.deepEqual([found.EndDate, found.State], [EndDate, "DISABLED"]);
  const names = [];
  const pages = paginateListSchedules({ client, pageSize: 2 }, { GroupName: name, NamePrefix: "p" });
  for await (const page of pages) names.push(...page.Schedules.map((schedule) => schedule.Name));
  assert.deepEqual(names, ["p1", "p2", "p3"]);
});

test("refusals are the SDK's own errors, and tags are those of the group", async () => {
  await assert.rejects(create("bad", { ScheduleExpression: "rate(1 week)" }), (error) => {
    return error instanceof ValidationException && error.message === "Invalid Schedule Expression rate(1 week).";
  });
  await create("twice", { ScheduleExpression: "rate(9 days)", State: "DISABLED" });
  await assert.rejects(create("twice", { ScheduleExpression: "rate(9 days)" }), ConflictException);
  const { Tags } = await client.send(new ListTagsForResourceCommand({ ResourceArn: group.ScheduleGroupArn }));
  assert.deepEqual(Tags, [{ Key: "a", Value: "1" }]);
});
