"""What a call through a function URL costs over Invoke."""

import json
import os
import statistics
import urllib.request

from servers import bench, call, create, hearth, invocations, ministack, package

# Hearth and ministack run it on the interpreters that they find.
CODE = "def lambda_handler(event, context):\n    return {'statusCode': 200, 'body': 'ok'}\n"
ECHO = "def lambda_handler(event, context):\n    return event\n"
BODY = json.dumps({"message": "x" * 64})
ROUNDS, SECONDS = int(os.environ.get("BENCH_ROUNDS", "7")), 2


def url(base, name, prefix):
    """By path: not every resolver knows names below localhost."""
    made = call(base, "POST", f"/2021-10-31/functions/{name}/url", {"AuthType": "NONE"})
    for action, more in (("lambda:InvokeFunctionUrl", {"FunctionUrlAuthType": "NONE"}),
                         ("lambda:InvokeFunction", {"InvokedViaFunctionUrl": True})):
        statement = {"StatementId": action[7:], "Action": action, "Principal": "*", **more}
        call(base, "POST", f"/2015-03-31/functions/{name}/policy", statement)
    return f"{base}{prefix}/{made['FunctionUrl'].split('//')[1].split('.')[0]}/"


def measure_one(base, prefix, runtime):
    """In turns, so that what else the machine does meets both alike. Invoke is given the event that the URL makes."""
    for name, code in (("told", ECHO), ("answers", CODE)):
        create(base, name, runtime, "lambda_function.lambda_handler", package({"lambda_function.py": code}))
    request = urllib.request.Request(url(base, "told", prefix), BODY.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        event = answer.read().decode()
    through, invoke = url(base, "answers", prefix), invocations(base, "answers")
    bench("once", through, BODY)
    turns = [(bench("load", invoke, event, 1, SECONDS), bench("load", through, BODY, 1, SECONDS)) for _ in range(ROUNDS)]
    p50 = [(one["p50Us"], other["p50Us"]) for one, other in turns]
    return {
        "invokeP50Us": round(statistics.median(one for one, _ in p50)),
        "urlP50Us": round(statistics.median(other for _, other in p50)),
        "overheadUs": round(statistics.median(other - one for one, other in p50)),
        "failed": sum(one["failed"] + other["failed"] for one, other in turns),
        "n": sum(other["requests"] for _, other in turns),
    }


def measure(folder):
    results = {}
    with hearth(folder) as base:
        results["Hearth"] = measure_one(base, "/_hearth/v1/url", "python3.11")
    with ministack() as base:
        results["ministack"] = measure_one(base, "/_aws/lambda-url", "python3.11")
    return results


def table(results):
    lines = [
        "", "## Function URLs", "",
        f"A function of Python through its URL and by Invoke with the same event, one caller, {ROUNDS} turns of each. moto has no",
        "function URLs that run functions.", "",
        "| | Invoke p50 | URL p50 | URL over Invoke, p50 | n | failed |", "|---|---|---|---|---|---|",
    ]
    return lines + [
        f"| {name} | {one['invokeP50Us']} | {one['urlP50Us']} | {one['overheadUs']} | {one['n']} | {one['failed']} |"
        for name, one in results.items()
    ]
