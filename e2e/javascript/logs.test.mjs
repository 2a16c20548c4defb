// CloudWatch Logs through the unmodified JavaScript SDK v3.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import {
  CloudWatchLogsClient,
  CreateLogGroupCommand,
  CreateLogStreamCommand,
  DeleteLogGroupCommand,
  DeleteLogStreamCommand,
  DeleteMetricFilterCommand,
  DescribeMetricFiltersCommand,
  DescribeQueriesCommand,
  GetLogEventsCommand,
  GetQueryResultsCommand,
  ListTagsForResourceCommand,
  paginateDescribeLogGroups,
  paginateDescribeLogStreams,
  paginateFilterLogEvents,
  PutLogEventsCommand,
  PutLogGroupDeletionProtectionCommand,
  PutMetricFilterCommand,
  PutRetentionPolicyCommand,
  PutSubscriptionFilterCommand,
  StartLiveTailCommand,
  StartQueryCommand,
  StopQueryCommand,
  TagResourceCommand,
  TestMetricFilterCommand,
} from "@aws-sdk/client-cloudwatch-logs";

const client = new CloudWatchLogsClient({ disableHostPrefix: true });
const logGroupName = `/js/${randomUUID()}`;
const arn = `arn:aws:logs:us-east-1:000000000000:log-group:${logGroupName}`;
const send = (Command, input = {}) => client.send(new Command({ logGroupName, ...input }));
const put = (...messages) =>
  send(PutLogEventsCommand, {
    logStreamName: "s",
    logEvents: messages.map((message) => ({ timestamp: Date.now(), message })),
  });
async function all(pages, list) {
  const found = [];
  for await (const page of pages) found.push(...page[list]);
  return found;
}

before(async () => {
  await send(CreateLogGroupCommand, { tags: { a: "b" } });
  await send(CreateLogStreamCommand, { logStreamName: "s" });
});

after(async () => {
  await send(DeleteLogGroupCommand);
  client.destroy();
});

test("groups and streams are described page by page", async () => {
  const names = ["x1", "x2", "x3"];
  for (const logStreamName of names) await send(CreateLogStreamCommand, { logStreamName });
  const groups = await all(
    paginateDescribeLogGroups({ client, pageSize: 1 }, { logGroupNamePrefix: logGroupName }),
    "logGroups",
  );
  assert.deepEqual(groups.map((group) => group.logGroupArn), [arn]);
  const streams = await all(
    paginateDescribeLogStreams({ client, pageSize: 2 }, { logGroupName, logStreamNamePrefix: "x" }),
    "logStreams",
  );
  assert.deepEqual(streams.map((stream) => stream.logStreamName), names);
  for (const logStreamName of names) await send(DeleteLogStreamCommand, { logStreamName });
});

test("settings of a group are kept", async () => {
  await send(PutRetentionPolicyCommand, { retentionInDays: 14 });
  await client.send(new TagResourceCommand({ resourceArn: arn, tags: { c: "d" } }));
  const { tags } = await client.send(new ListTagsForResourceCommand({ resourceArn: arn }));
  assert.deepEqual(tags, { a: "b", c: "d" });
  const protect = (deletionProtectionEnabled) =>
    client.send(new PutLogGroupDeletionProtectionCommand({ logGroupIdentifier: logGroupName, deletionProtectionEnabled }));
  await protect(true);
  await assert.rejects(send(DeleteLogGroupCommand), { name: "ValidationException" });
  await protect(false);
});

test("events are found by a pattern, page by page, and read in both directions", async () => {
  await put(...Array.from({ length: 25 }, (_, i) => `number ${i}`));
  const found = await all(
    paginateFilterLogEvents({ client, pageSize: 3 }, { logGroupName, filterPattern: "%number \\d5%" }),
    "events",
  );
  assert.deepEqual(found.map((event) => event.message), ["number 15"]);
  const last = await send(GetLogEventsCommand, { logStreamName: "s", limit: 2 });
  assert.deepEqual(last.events.map((event) => event.message), ["number 23", "number 24"]);
  const before = await send(GetLogEventsCommand, { logStreamName: "s", limit: 1, nextToken: last.nextBackwardToken });
  assert.equal(before.events[0].message, "number 22");
  await assert.rejects(send(GetLogEventsCommand, { logStreamName: "t" }), { name: "ResourceNotFoundException" });
});

test("a query is started, waited for and stopped", async () => {
  await put(...Array.from({ length: 10 }, (_, i) => JSON.stringify({ ms: i, kind: i % 2 ? "odd" : "even" })));
  const seconds = Math.floor(Date.now() / 1000);
  const span = { startTime: seconds - 3600, endTime: seconds + 60 };
  const query = (queryString) => send(StartQueryCommand, { ...span, queryString });
  const { queryId } = await query("filter ispresent(kind) | stats sum(ms) as total by kind | sort kind");
  let answer;
  do {
    await sleep(20);
    answer = await client.send(new GetQueryResultsCommand({ queryId }));
  } while (answer.status === "Scheduled" || answer.status === "Running");
  assert.equal(answer.status, "Complete");
  const rows = answer.results.map((row) => Object.fromEntries(row.map(({ field, value }) => [field, value])));
  assert.deepEqual(rows, [{ kind: "even", total: "20" }, { kind: "odd", total: "25" }]);
  const { queries } = await send(DescribeQueriesCommand);
  assert.ok(queries.some((known) => known.queryId === queryId));
  await assert.rejects(client.send(new StopQueryCommand({ queryId })), { name: "InvalidParameterException" });
  await assert.rejects(query("stats"), (error) => {
    assert.equal(error.name, "MalformedQueryException");
    return error.queryCompileError.location.endCharOffset >= 0;
  });
});

test("a live tail sees what comes", async () => {
  const leaving = new AbortController();
  const { responseStream } = await client.send(
    new StartLiveTailCommand({ logGroupIdentifiers: [arn], logEventFilterPattern: "live" }),
    { abortSignal: leaving.signal },
  );
  for await (const event of responseStream) {
    if (event.sessionStart) await put("noise", "said live");
    if (event.sessionUpdate?.sessionResults.length) {
      assert.deepEqual(event.sessionUpdate.sessionResults.map((result) => result.message), ["said live"]);
      break;
    }
  }
  // Else the session goes on, and the process with it.
  leaving.abort();
});

test("metric filters are put, tried and deleted", async () => {
  const filterPattern = "[level = ERROR, ms]";
  const metricTransformations = [
    { metricName: "m", metricNamespace: "js", metricValue: "$ms", unit: "Milliseconds", dimensions: { Level: "$level" } },
  ];
  await send(PutMetricFilterCommand, { filterName: "f", filterPattern, metricTransformations });
  const { metricFilters } = await send(DescribeMetricFiltersCommand);
  assert.deepEqual(metricFilters.map((filter) => filter.metricTransformations), [metricTransformations]);
  const { matches } = await client.send(
    new TestMetricFilterCommand({ filterPattern, logEventMessages: ["INFO 1", "ERROR 2"] }),
  );
  assert.deepEqual(matches.map((match) => [match.eventNumber, match.extractedValues.$ms]), [[2, "2"]]);
  await send(DeleteMetricFilterCommand, { filterName: "f" });
});

test("a subscription needs a function", async () => {
  const destinationArn = "arn:aws:lambda:us-east-1:000000000000:function:none-such";
  await assert.rejects(
    send(PutSubscriptionFilterCommand, { filterName: "f", filterPattern: "", destinationArn }),
    { name: "InvalidParameterException" },
  );
});
