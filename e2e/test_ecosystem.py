"""What people's functions are made of, unmodified: SDKs, Powertools, Lambda Web Adapter, packages with native code."""

import json
import uuid

import pytest

import parts
from hearth import eventually
from packages import python, zipped
from runtimes import lines
from urls import create

# The first test that needs a part may have to build it.
pytestmark = pytest.mark.timeout(900)
NODE = {"Runtime": "nodejs20.x", "MemorySize": 512}


@pytest.fixture
def layer(client):
    """Publishes files, or a zip, as a layer; answers its ARN."""

    def layer(content):
        content = content if isinstance(content, bytes) else zipped(content)
        name = f"layer-{uuid.uuid4().hex[:12]}"
        return client.publish_layer_version(LayerName=name, Content={"ZipFile": content})["LayerVersionArn"]

    return layer


# The AWS SDKs that runtimes carry.


def test_python_functions_find_boto3(make, call):
    body = """
client = boto3.client('lambda')
answer = json.load(client.invoke(FunctionName=event, Payload=b'41')['Payload'])
return [answer, boto3.client('sts').get_caller_identity()['Account'], boto3.__file__, botocore.__file__]
"""
    other = make(python("return event + 1"))
    name = make(python(body, before="import json, boto3, botocore"), MemorySize=512, Timeout=60)
    expected = [42, "000000000000", "/var/runtime/boto3/__init__.py", "/var/runtime/botocore/__init__.py"]
    assert call(name, other).payload == expected


SDK = """
  const lambda = new LambdaClient({});
  const answer = await lambda.send(new InvokeCommand({ FunctionName: event, Payload: '41' }));
  const { Account } = await new STSClient({}).send(new GetCallerIdentityCommand({}));
  return [JSON.parse(Buffer.from(answer.Payload).toString()), Account, PLACE];
"""
NAMES = {"@aws-sdk/client-lambda": "{ LambdaClient, InvokeCommand }", "@aws-sdk/client-sts": "{ STSClient, GetCallerIdentityCommand }"}
IMPORTS = "".join(f"import {names} from '{package}';\n" for package, names in NAMES.items())
REQUIRES = "".join(f"const {names} = require('{package}');\n" for package, names in NAMES.items())
PLACE = "require.resolve('@aws-sdk/client-lambda')"
FORMS = {
    "module": {"index.mjs": IMPORTS + f"export const handler = async (event) => {{{SDK.replace('PLACE', 'import.meta.url')}}};"},
    "below a module": {
        "index.mjs": "export { handler } from './lib/index.js';",
        "lib/package.json": '{"type": "module"}',
        "lib/index.js": IMPORTS + f"export const handler = async (event) => {{{SDK.replace('PLACE', 'import.meta.url')}}};",
    },
    "commonjs": {"index.js": REQUIRES + f"exports.handler = async (event) => {{{SDK.replace('PLACE', PLACE)}}};"},
}


@pytest.mark.parametrize("form", FORMS)
def test_node_functions_find_the_sdk(make, call, form):
    other = make(python("return event + 1"))
    answer = call(make(FORMS[form], **NODE, Timeout=60), other)
    assert answer.error is None, answer.payload
    assert answer.payload[:2] == [42, "000000000000"]
    if form == "commonjs":
        assert answer.payload[2].startswith("/var/runtime/node_modules/@aws-sdk/client-lambda/")


@pytest.mark.parametrize("place", ["nodejs", "nodejs/node20"])
def test_modules_import_what_layers_carry_before_what_the_runtime_has(make, call, layer, place):
    mine = {
        f"{place}/node_modules/@aws-sdk/client-sts/package.json": '{"name": "@aws-sdk/client-sts", "exports": "./index.js"}',
        f"{place}/node_modules/@aws-sdk/client-sts/index.js": "exports.mine = 'of the layer';",
        f"{place}/node_modules/other/package.json": '{"type": "module", "exports": {"import": "./index.js"}}',
        f"{place}/node_modules/other/index.js": "export default 'another';",
    }
    module = "import { mine } from '@aws-sdk/client-sts';\nimport other from 'other';\nexport const handler = async () => [mine, other];"
    name = make({"index.mjs": module}, Layers=[layer(mine)], **NODE)
    assert call(name).payload == ["of the layer", "another"]
    # What a function brings comes first.
    own = {"node_modules/other/package.json": '{"type": "module", "exports": "./index.js"}', "node_modules/other/index.js": "export default 'own';"}
    assert call(make({"index.mjs": module} | own, Layers=[layer(mine)], **NODE)).payload == ["of the layer", "own"]
    missing = call(make({"index.mjs": "import 'absent';\nexport const handler = async () => 1;"}, **NODE))
    assert missing.payload["errorMessage"].startswith("Cannot find package 'absent'"), missing.payload


# Powertools for AWS Lambda.

POWERTOOLS = """
from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

logger = Logger(service="orders")
tracer = Tracer(service="orders")
metrics = Metrics(namespace="Shop", service="orders")
processor = BatchProcessor(event_type=EventType.SQS)

@tracer.capture_method
def handle(record: SQSRecord):
    logger.info("handled", extra={"body": record.body})
    metrics.add_metric(name="Handled", unit=MetricUnit.Count, value=1)
    if record.body == "bad":
        raise ValueError("bad record")

@logger.inject_lambda_context(log_event=False)
@tracer.capture_lambda_handler
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event, context):
    return process_partial_response(event=event, record_handler=handle, processor=processor, context=context)
"""
POWERTOOLS_NODE = """
import { Logger } from '@aws-lambda-powertools/logger';
import { Metrics, MetricUnit } from '@aws-lambda-powertools/metrics';
import { Tracer } from '@aws-lambda-powertools/tracer';
import { BatchProcessor, EventType, processPartialResponse } from '@aws-lambda-powertools/batch';

const logger = new Logger({ serviceName: 'orders' });
const tracer = new Tracer({ serviceName: 'orders' });
const metrics = new Metrics({ namespace: 'Shop', serviceName: 'orders' });
const processor = new BatchProcessor(EventType.SQS);

const handle = async (record) => {
  logger.info('handled', { body: record.body });
  metrics.addMetric('Handled', MetricUnit.Count, 1);
  if (record.body === 'bad') throw new RangeError('bad record');
};

export const handler = async (event, context) => {
  logger.addContext(context);
  metrics.setFunctionName(context.functionName);
  metrics.captureColdStartMetric();
  const segment = tracer.getSegment()?.addNewSubsegment('## handler');
  try {
    return await processPartialResponse(event, handle, processor, { context });
  } finally {
    segment?.close();
    metrics.publishStoredMetrics();
  }
};
"""


def powertools_python(make):
    packages = parts.python_packages("--no-deps", *POWERTOOLS_PACKAGES)
    return make({"index.py": POWERTOOLS} | parts.files(packages / "python"), MemorySize=512, Timeout=60)


def powertools_node(make):
    modules = parts.node_packages() / "node_modules"
    names = [f"@aws-lambda-powertools/{name}" for name in ("batch", "logger", "metrics", "tracer")]
    return make({"index.mjs": POWERTOOLS_NODE} | parts.needed(modules, *names), **NODE, Timeout=60)


# botocore is the runtime's.
POWERTOOLS_PACKAGES = (
    "aws-lambda-powertools==3.37.0", "aws-xray-sdk==2.15.0", "jmespath==1.1.0", "typing-extensions==4.16.0", "wrapt==2.5.2",
)  # fmt: skip


def sqs_event(*bodies):
    attributes = {"ApproximateReceiveCount": "1", "SentTimestamp": "1", "SenderId": "x", "ApproximateFirstReceiveTimestamp": "1"}
    arn = "arn:aws:sqs:us-east-1:000000000000:orders"
    same = {"receiptHandle": "h", "attributes": attributes, "messageAttributes": {}, "md5OfBody": "x", "eventSource": "aws:sqs"}
    return {
        "Records": [
            same | {"messageId": f"m-{number}", "body": body, "eventSourceARN": arn, "awsRegion": "us-east-1"}
            for number, body in enumerate(bodies)
        ]
    }


@pytest.mark.parametrize("function", [powertools_python, powertools_node])
def test_powertools(server, make, call, function):
    """Logger, tracer, metrics and batch, under a trace that is sampled."""
    name = function(make)
    first, second = call(name, sqs_event("good", "bad", "good")), call(name, sqs_event("good"))
    assert first.error is None, first.payload
    assert first.payload == {"batchItemFailures": [{"itemIdentifier": "m-1"}]}
    assert second.payload == {"batchItemFailures": []}
    eventually("both reports", lambda: sum("REPORT" in line for line in lines(server, name)) == 2)
    said = [json.loads(line) for line in lines(server, name) if line.startswith("{")]
    logged = [line for line in said if line.get("message") == "handled"]
    assert [(line["function_request_id"], line["body"]) for line in logged] == [
        (first.request_id, "good"), (first.request_id, "bad"), (first.request_id, "good"), (second.request_id, "good"),
    ]  # fmt: skip
    assert {line["service"] for line in logged} == {"orders"} and {line["function_name"] for line in logged} == {name}
    assert {line["level"] for line in logged} == {"INFO"}
    assert all(line["xray_trace_id"].startswith("1-") for line in logged), logged[0]
    metrics = [line for line in said if "_aws" in line]
    handled = [line for line in metrics if "Handled" in line]
    assert [line["Handled"] for line in handled] == [[1, 1, 1], [1]] or [line["Handled"] for line in handled] == [[1, 1, 1], 1]
    assert handled[0]["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Shop"
    cold = [line for line in metrics if "ColdStart" in line]
    assert len(cold) == 1 and cold[0]["function_name"] == name


# Lambda Web Adapter, as its layer is laid out.

FASTAPI = """
from fastapi import FastAPI, Request
from pydantic import BaseModel

app = FastAPI()

class Item(BaseModel):
    name: str
    price: float

@app.get("/items/{number}")
def read(number: int, q: str | None = None):
    return {"number": number, "q": q}

@app.post("/items", status_code=201)
async def create(item: Item, request: Request):
    return {"item": item, "test": request.headers.get("x-test")}
"""
EXPRESS = """
const express = require('express');
const app = express();
app.use(express.json());
app.get('/', (request, response) => response.send('ready'));
app.get('/items/:number', (request, response) => response.json({ number: Number(request.params.number), q: request.query.q ?? null }));
app.post('/items', (request, response) => {
  if (typeof request.body.price !== 'number') return response.status(422).json({ detail: 'price' });
  response.status(201).json({ item: request.body, test: request.get('x-test') });
});
app.listen(process.env.PORT ?? 8080);
"""


def fastapi(make, **settings):
    packages = parts.python_packages(*parts.FASTAPI)
    script = '#!/bin/bash\nexec python -m uvicorn --host 127.0.0.1 --port "$PORT" main:app\n'
    settings["Environment"]["Variables"] |= {"AWS_LWA_READINESS_CHECK_PATH": "/docs"}
    return make({"main.py": FASTAPI, "run.sh": script} | parts.files(packages / "python"), Handler="run.sh", **settings)


def express(make, **settings):
    modules = parts.needed(parts.node_packages() / "node_modules", "express")
    return make({"app.js": EXPRESS, "run.sh": "#!/bin/bash\nexec node app.js\n"} | modules, Handler="run.sh", **settings | {"Runtime": "nodejs20.x"})


@pytest.fixture
def web(make, layer):
    """A function behind the adapter."""
    adapter = parts.adapter()

    def web(application, **variables):
        arn = layer({"extensions/lambda-adapter": (adapter / "bin/lambda-adapter").read_bytes(), "bootstrap": (adapter / "bootstrap").read_bytes()})
        variables = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap", "PORT": "8000"} | variables
        return application(make, Layers=[arn], MemorySize=512, Timeout=60, Environment={"Variables": variables})

    return web


@pytest.mark.parametrize("application", [fastapi, express])
def test_a_web_application_is_a_function(client, call, web, application):
    """Through a URL, and through a call with an event of one."""
    name = web(application)
    url = create(client, name)
    assert url.request("GET", "/items/7?q=a%20b").json == {"number": 7, "q": "a b"}
    body = json.dumps({"name": "é", "price": 1.5})
    made = url.request("POST", "/items", body, {"Content-Type": "application/json", "X-Test": "yes"})
    assert made.status == 201
    assert json.loads(made.body) == {"item": {"name": "é", "price": 1.5}, "test": "yes"}
    assert url.request("POST", "/items", '{"name": "x"}', {"Content-Type": "application/json"}).status == 422
    assert url.request("GET", "/nowhere").status == 404
    answer = call(name, event_of_a_url("GET", "/items/3"))
    assert answer.error is None, answer.payload
    assert (answer.payload["statusCode"], json.loads(answer.payload["body"])) == (200, {"number": 3, "q": None})


def test_a_web_application_streams(client, web):
    url = create(client, web(fastapi, AWS_LWA_INVOKE_MODE="response_stream"), InvokeMode="RESPONSE_STREAM")
    answer = url.request("GET", "/items/7")
    assert answer.json == {"number": 7, "q": None} and answer.headers["content-type"] == "application/json"


def event_of_a_url(method, path):
    http = {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "test"}
    context = {
        "accountId": "anonymous", "apiId": "x", "domainName": "x.lambda-url.us-east-1.on.aws", "domainPrefix": "x", "http": http,
        "requestId": "r", "routeKey": "$default", "stage": "$default", "time": "01/Jan/2026:00:00:00 +0000", "timeEpoch": 1767225600000,
    }  # fmt: skip
    return {
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "", "headers": {"host": "x"},
        "requestContext": context, "isBase64Encoded": False,
    }  # fmt: skip


def test_lambda_http_answers_requests(client, make, call):
    name = make({"bootstrap": parts.rust("http")}, Runtime="provided.al2023", Handler="bootstrap")
    url = create(client, name)
    answer = url.request("POST", "/a%20b?q=1&q=2", "text é", {"Content-Type": "text/plain", "X-Test": "yes"})
    assert (answer.status, answer.headers["x-by"], answer.every("set-cookie")) == (201, "lambda_http", ["a=1", "b=2"])
    seen = {"method": "POST", "path": "/a%20b", "query": "1", "header": "yes", "body": "text é"}
    assert json.loads(answer.body) == seen
    assert json.loads(url.request("PUT", "/", bytes(range(256)), {"Content-Type": "application/octet-stream"}).body)["body"] == "256 bytes"
    assert url.request("GET", "/fail").status == 502
    direct = call(name, event_of_a_url("GET", "/x")).payload
    assert (direct["statusCode"], json.loads(direct["body"])["path"]) == (201, "/x")


# Packages with native code.


def test_numpy(make, call):
    packages = parts.python_packages("numpy==2.4.6")
    files = python("a = numpy.array(event)\nreturn [float(numpy.linalg.det(a)), (a @ a).tolist(), numpy.__version__]", before="import numpy")
    name = make(files | parts.files(packages / "python", without=("tests",)), MemorySize=1024, Timeout=60)
    assert call(name, [[1.0, 2.0], [3.0, 4.0]]).payload == [pytest.approx(-2), [[7, 10], [15, 22]], "2.4.6"]


def test_sharp(make, call):
    source = """
import sharp from 'sharp';
export const handler = async ({ width, height }) => {
  const image = await sharp({ create: { width: 64, height: 48, channels: 3, background: '#336699' } }).png().toBuffer();
  const { data, info } = await sharp(image).resize(width, height).raw().toBuffer({ resolveWithObject: true });
  return [info.width, info.height, [...data.subarray(0, 3)]];
};
"""
    modules = parts.needed(parts.node_packages() / "node_modules", "sharp")
    name = make({"index.mjs": source} | modules, Runtime="nodejs20.x", MemorySize=1024, Timeout=60)
    assert call(name, {"width": 8, "height": 6}).payload == [8, 6, [0x33, 0x66, 0x99]]
