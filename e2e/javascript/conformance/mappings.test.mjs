// Queues through the SDK's client of SQS, and a mapping from one to a function.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";

import * as lambda from "@aws-sdk/client-lambda";
import * as sqs from "@aws-sdk/client-sqs";
import { account, make, send } from "./support.mjs";

const queues = new sqs.SQSClient({ credentials: { accessKeyId: account, secretAccessKey: "test" } });
const ask = (Command, input) => queues.send(new Command(input));

async function queue(suffix = "", Attributes = {}) {
  const QueueName = `js-${randomUUID().slice(0, 13)}${suffix}`;
  const { QueueUrl } = await ask(sqs.CreateQueueCommand, { QueueName, Attributes });
  const found = await ask(sqs.GetQueueAttributesCommand, { QueueUrl, AttributeNames: ["QueueArn"] });
  return { QueueUrl, arn: found.Attributes.QueueArn };
}

async function left(QueueUrl) {
  const { Attributes } = await ask(sqs.GetQueueAttributesCommand, { QueueUrl, AttributeNames: ["All"] });
  return Number(Attributes.ApproximateNumberOfMessages) + Number(Attributes.ApproximateNumberOfMessagesNotVisible);
}

async function eventually(what, check) {
  for (let tries = 0; tries < 600; tries += 1) {
    if (await check()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`in vain: ${what}`);
}

test("messages are sent, received and deleted, alone and in batches", async () => {
  const { QueueUrl } = await queue();
  // The SDK compares the digests itself.
  const sent = await ask(sqs.SendMessageCommand, {
    QueueUrl,
    MessageBody: "hello ☃",
    MessageAttributes: {
      text: { DataType: "String", StringValue: "v" },
      bytes: { DataType: "Binary", BinaryValue: new Uint8Array([0, 255]) },
    },
  });
  const { Messages } = await ask(sqs.ReceiveMessageCommand, {
    QueueUrl,
    MessageAttributeNames: ["All"],
    MessageSystemAttributeNames: ["All"],
    WaitTimeSeconds: 5,
  });
  assert.equal(Messages[0].MessageId, sent.MessageId);
  assert.equal(Messages[0].Body, "hello ☃");
  assert.deepEqual([...Messages[0].MessageAttributes.bytes.BinaryValue], [0, 255]);
  assert.equal(Messages[0].Attributes.ApproximateReceiveCount, "1");
  await ask(sqs.DeleteMessageCommand, { QueueUrl, ReceiptHandle: Messages[0].ReceiptHandle });
  const Entries = [..."abc"].map((Id) => ({ Id, MessageBody: Id }));
  const batch = await ask(sqs.SendMessageBatchCommand, { QueueUrl, Entries });
  assert.deepEqual(batch.Successful.map((entry) => entry.Id), ["a", "b", "c"]);
  const received = await ask(sqs.ReceiveMessageCommand, { QueueUrl, MaxNumberOfMessages: 10 });
  const handles = received.Messages.map((message, at) => ({ Id: String(at), ReceiptHandle: message.ReceiptHandle }));
  const deleted = await ask(sqs.DeleteMessageBatchCommand, { QueueUrl, Entries: handles });
  assert.equal(deleted.Successful.length, 3);
  assert.equal(await left(QueueUrl), 0);
  await ask(sqs.DeleteQueueCommand, { QueueUrl });
  await assert.rejects(ask(sqs.GetQueueUrlCommand, { QueueName: QueueUrl.split("/").at(-1) }), sqs.QueueDoesNotExist);
});

test("a FIFO queue keeps the order of its groups and sends once", async () => {
  const { QueueUrl } = await queue(".fifo", { FifoQueue: "true", ContentBasedDeduplication: "true" });
  for (const MessageBody of ["1", "2", "1", "3"]) {
    await ask(sqs.SendMessageCommand, { QueueUrl, MessageBody, MessageGroupId: "g" });
  }
  const { Messages } = await ask(sqs.ReceiveMessageCommand, { QueueUrl, MaxNumberOfMessages: 10 });
  assert.deepEqual(Messages.map((message) => message.Body), ["1", "2", "3"]);
});

test("a mapping is made, listed, runs its function and is deleted", async () => {
  const { QueueUrl, arn: EventSourceArn } = await queue();
  const FunctionName = await make();
  const made = await send(lambda.CreateEventSourceMappingCommand, { EventSourceArn, FunctionName, BatchSize: 5 });
  assert.equal(made.$metadata.httpStatusCode, 202);
  assert.deepEqual([made.State, made.BatchSize], ["Creating", 5]);
  assert.ok(made.LastModified instanceof Date);
  const { UUID } = made;
  const found = () => send(lambda.GetEventSourceMappingCommand, { UUID });
  await eventually("Enabled", async () => (await found()).State === "Enabled");
  await ask(sqs.SendMessageCommand, { QueueUrl, MessageBody: "{}" });
  await eventually("an empty queue", async () => (await left(QueueUrl)) === 0);
  const listed = await send(lambda.ListEventSourceMappingsCommand, { EventSourceArn });
  assert.deepEqual(listed.EventSourceMappings.map((mapping) => mapping.UUID), [UUID]);
  const again = send(lambda.CreateEventSourceMappingCommand, { EventSourceArn, FunctionName });
  await assert.rejects(again, lambda.ResourceConflictException);
  const deleted = await send(lambda.DeleteEventSourceMappingCommand, { UUID });
  assert.equal(deleted.State, "Deleting");
  await eventually("its end", async () => found().then(() => false, (error) => error.name === "ResourceNotFoundException"));
});
