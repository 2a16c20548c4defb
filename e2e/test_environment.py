"""What code sees from inside."""

import json
import pathlib
import re

import boto3

from conftest import Functions, accounts, caller, make_client
from packages import python, zipped
from test_invoke import REPORT


def test_the_variables_of_aws_are_set(make, call):
    body = "import os\nreturn [dict(os.environ), os.getcwd(), context.log_stream_name]"
    name = make(python(body), Environment={"Variables": {"MINE": "1", "LANG": "C"}}, MemorySize=256)
    variables, folder, stream = call(name).payload
    expected = {
        "MINE": "1",
        "LANG": "C",
        "TZ": ":UTC",
        "_HANDLER": "index.handler",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": stream,
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:4566",
    }
    assert {name: variables.get(name) for name in expected} == expected
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", stream)
    assert variables["AWS_LAMBDA_RUNTIME_API"] in ("127.0.0.1:9001", "169.254.100.1:9001")
    for secret in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        assert variables[secret]
    assert {"/usr/local/bin", "/bin", "/opt/bin"} <= set(variables["PATH"].split(":"))
    assert {"/var/task", "/opt/lib"} <= set(variables["LD_LIBRARY_PATH"].split(":"))
    assert not [name for name in variables if name.startswith("HEARTH_")]
    assert folder == "/var/task"


def test_provided_runtimes_have_no_execution_environment_name(make, call):
    script = """#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while true; do
    id=$(curl -sS -D - -o /dev/null "$api/next" | sed -n 's/^lambda-runtime-aws-request-id: *//Ip' | tr -d '\\r')
    curl -sS -o /dev/null -d "\\"${AWS_EXECUTION_ENV-unset} $AWS_LAMBDA_RUNTIME_API\\"" "$api/$id/response"
done
"""
    answers = [call(make({"bootstrap": script}, Runtime=f"provided.{os}")).payload for os in ("al2023", "al2")]
    assert answers == ["unset 169.254.100.1:9001", "unset 127.0.0.1:9001"]


def test_both_addresses_of_the_runtime_api_answer(make, call):
    body = """
answers = []
for address in ('127.0.0.1:9001', '169.254.100.1:9001'):
    with urllib.request.urlopen(f'http://{address}/2018-06-01/ping', timeout=5) as answer:
        answers.append([answer.status, answer.read().decode()])
return answers
"""
    assert call(make(python(body, before="import urllib.request"))).payload == [[200, "pong"]] * 2


CONFINED = """
status = dict(line.split(':', 1) for line in open('/proc/self/status'))
def attempt(what):
    try:
        what()
        return 'done'
    except OSError as error:
        return errno.errorcode[error.errno]
return {
    'uid': [os.getuid(), os.getgid()],
    'user': pwd.getpwuid(os.getuid()).pw_name,
    'capabilities': [int(status[name], 16) for name in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')],
    'no_new_privs': status['NoNewPrivs'].strip(),
    'seccomp': status['Seccomp'].strip(),
    'processes': len([name for name in os.listdir('/proc') if name.isdigit()]),
    'task': attempt(lambda: open('/var/task/new', 'w')),
    'code': attempt(lambda: open('/var/task/index.py', 'a')),
    'root': attempt(lambda: open('/new', 'w')),
    'etc': attempt(lambda: open('/etc/hosts', 'a')),
    'seen': sum([seen(place) for place in ('/root', '/home', '/mnt', '/srv', '/run', event)], []),
    'mount': attempt(lambda: mount()),
    'tmp': attempt(lambda: open('/tmp/new', 'w').write('x')),
    'mode': oct(os.stat('/tmp').st_mode & 0o7777),
    'owner': [os.stat('/var/task').st_uid, os.stat('/var/task').st_gid, oct(os.stat('/var/task').st_mode & 0o777)],
    'outside': attempt(lambda: socket.create_connection(('10.0.0.1', 80), timeout=20)),
}
"""
BEFORE = """
import ctypes, errno, os, pwd, socket
def seen(place):
    try:
        return os.listdir(place)
    except OSError:
        return []
def mount():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b'none', b'/tmp', b'tmpfs', 0, None):
        raise OSError(ctypes.get_errno(), 'mount')
"""


def test_code_is_confined(server, make, call):
    seen = call(make(python(CONFINED, before=BEFORE)), str(server.data)).payload
    assert 0 not in seen["uid"] and seen["user"].startswith("sbx_user")
    assert seen["capabilities"] == [0] * 5
    assert (seen["no_new_privs"], seen["seccomp"]) == ("1", "2")
    # The init and the runtime.
    assert seen["processes"] <= 2
    assert [seen[place] for place in ("task", "root")] == ["EROFS", "EROFS"]
    # What another owns is refused for that before it is refused for being read-only.
    assert {seen[place] for place in ("code", "etc")} <= {"EROFS", "EACCES"}
    assert seen["seen"] == []
    assert seen["mount"] in ("EPERM", "ENOSYS", "EACCES")
    assert (seen["tmp"], seen["mode"]) == ("done", "0o1777")
    assert seen["owner"] == [0, 0, "0o755"]
    assert seen["outside"] in ("ENETUNREACH", "EHOSTUNREACH", "EPERM", "EACCES")


def test_tmp_is_disk_of_its_size_and_not_the_functions_memory(make, call):
    body = """
block = b'x' * (1 << 20)
written = 0
try:
    with open('/tmp/big', 'wb', buffering=0) as file:
        while written < 2048:
            if file.write(block) < len(block):
                continue
            written += 1
except OSError as error:
    return [written, errno.errorcode[error.errno]]
"""
    name = make(python(body, before="import errno"), MemorySize=128, Timeout=60)
    answer = call(name, LogType="Tail")
    written, end = answer.payload
    assert end == "ENOSPC" and 500 <= written <= 520, answer.payload
    assert int(REPORT.search(answer.tail)["used"]) < 128


def test_cpu_is_in_proportion_to_memory(make, call):
    body = """
began = time.monotonic(), time.process_time()
while time.process_time() - began[1] < event:
    pass
return (time.process_time() - began[1]) / (time.monotonic() - began[0])
"""
    # 1,769 MB are one CPU. A busy machine gives less, never more; a little more is the burst after idleness.
    for memory, work in ((128, 0.25), (442, 0.5)):
        share = call(make(python(body, before="import time"), MemorySize=memory, Timeout=60), work).payload
        assert share < memory / 1769 * 1.3, (memory, share)


def test_reading_a_gigabyte_is_not_use_of_memory(make, call):
    body = """
import os
if event == 'make':
    with open('/tmp/sparse', 'wb') as file:
        file.truncate(1 << 30)
    return 0
read = 0
with open('/tmp/sparse', 'rb', buffering=0) as file:
    while chunk := file.read(1 << 20):
        read += len(chunk)
return read
"""
    name = make(python(body), MemorySize=128, EphemeralStorage={"Size": 2048}, Timeout=60)
    small = call(name, "make", LogType="Tail")
    big = call(name, "read", LogType="Tail")
    assert big.payload == 1 << 30
    used = [int(REPORT.search(answer.tail)["used"]) for answer in (small, big)]
    assert used[1] <= used[0] + 8, used


def test_memory_that_is_used_is_reported(make, call):
    name = make(python("kept.append(bytearray(b'x') * (event << 20))", before="kept = []"), MemorySize=512)
    before, after = [int(REPORT.search(call(name, size, LogType="Tail").tail)["used"]) for size in (0, 200)]
    assert 195 <= after - before <= 215


CALL_BACK = """
import json, os, urllib.request
def call(name, payload):
    scope = 'AWS4-HMAC-SHA256 Credential=%s/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=00'
    request = urllib.request.Request(
        f"{os.environ['AWS_ENDPOINT_URL']}/2015-03-31/functions/{name}/invocations",
        json.dumps(payload).encode(),
        {'Authorization': scope % os.environ['AWS_ACCESS_KEY_ID'], 'Content-Type': 'application/json'},
    )
    with urllib.request.urlopen(request, timeout=15) as answer:
        return json.load(answer)
"""


def test_a_function_calls_another_through_its_endpoint(make, call):
    other = make(python("return event + 1"))
    assert call(make(python("return call(event, 41)", before=CALL_BACK)), other).payload == 42


def package_of_boto3():
    """The SDK as a developer packages it, without the models of services that the test does not call."""
    files = {}
    site = pathlib.Path(boto3.__file__).parent.parent
    for distribution in ("boto3", "botocore", "jmespath", "dateutil", "urllib3", "s3transfer"):
        for path in (site / distribution).rglob("*"):
            relative = path.relative_to(site)
            if path.suffix not in (".py", ".json", ".gz", ".pem") or "__pycache__" in path.parts:
                continue
            inside = relative.parts
            if inside[:2] in (("botocore", "data"), ("boto3", "data")) and len(inside) > 3 and inside[2] not in ("iam", "lambda", "sqs", "sts"):
                continue
            files[str(relative)] = path.read_bytes()
    files["six.py"] = (site / "six.py").read_bytes()
    return files


def test_a_function_with_boto3_calls_another_and_the_server_too(make, call):
    body = """
client = boto3.client('lambda')
answer = client.invoke(FunctionName=event, Payload=b'41')
names = [f['FunctionName'] for f in client.list_functions()['Functions']]
account = boto3.client('sts').get_caller_identity()['Account']
return [json.load(answer['Payload']), event in names, account]
"""
    other = make(python("return event + 1"))
    files = package_of_boto3() | python(body, before="import json, boto3")
    name = make(zipped(files), MemorySize=1024, Timeout=60)
    assert call(name, other).payload == [42, True, "000000000000"]


WHO = """
def who(**settings):
    return {key: value for key, value in boto3.client('sts', **settings).get_caller_identity().items() if key != 'ResponseMetadata'}
"""


def test_a_function_is_its_role(server):
    """Its credentials say so, inside and outside, and it acts in its own account, whatever else it presents."""
    number = str(next(accounts))
    session = f"arn:aws:sts::{number}:assumed-role/runner/"
    iam = make_client(server, "iam", account=number)
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = iam.create_role(RoleName="runner", Path="/x/", AssumeRolePolicyDocument=document)["Role"]
    own = Functions(make_client(server, account=number))
    body = """
mine = [os.environ[name] for name in ('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN')]
other = {'aws_access_key_id': '999999999999', 'aws_secret_access_key': 'x'}
names = [f['FunctionName'] for f in boto3.client('lambda').list_functions()['Functions']]
roles = [r['RoleName'] for r in boto3.client('iam').list_roles()['Roles']]
return {'mine': mine, 'who': who(), 'as_other': who(**other), 'names': names, 'roles': roles}
"""
    files = package_of_boto3() | python(body, before="import boto3, os" + WHO)
    try:
        name = own.make(zipped(files), Role=role["Arn"], MemorySize=1024, Timeout=60)
        payload = caller(own.client)(name).payload
        expected = {"UserId": f"{role['RoleId']}:{name}", "Account": number, "Arn": session + name}
        assert payload["who"] == payload["as_other"] == expected
        assert (payload["names"], payload["roles"]) == ([name], ["runner"])
        key, secret, token = payload["mine"]
        outside = boto3.client(
            "sts",
            endpoint_url=server.url,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
        )
        assert outside.get_caller_identity()["Arn"] == session + name
    finally:
        own.delete()


def test_a_function_takes_on_another_role(server):
    """In an account that trusts it; its own credentials stay what they were."""
    number, other = str(next(accounts)), str(next(accounts))
    role = f"arn:aws:iam::{number}:role/never-made"
    trust = {"Effect": "Allow", "Principal": {"AWS": role}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    wanted = make_client(server, "iam", account=other).create_role(RoleName="open", AssumeRolePolicyDocument=document)
    own = Functions(make_client(server, account=number))
    body = """
answer = boto3.client('sts').assume_role(RoleArn=event, RoleSessionName='from-inside')['Credentials']
names = ('aws_access_key_id', 'aws_secret_access_key', 'aws_session_token')
taken = who(**dict(zip(names, [answer[key] for key in ('AccessKeyId', 'SecretAccessKey', 'SessionToken')])))
return [taken, who()]
"""
    files = package_of_boto3() | python(body, before="import boto3" + WHO)
    try:
        name = own.make(zipped(files), Role=role, MemorySize=1024, Timeout=60)
        taken, before = caller(own.client)(name, wanted["Role"]["Arn"]).payload
        assert taken["Arn"] == f"arn:aws:sts::{other}:assumed-role/open/from-inside" and taken["Account"] == other
        assert before["Arn"] == f"arn:aws:sts::{number}:assumed-role/never-made/{name}"
        assert re.fullmatch(f"AROA[A-Z2-7]{{17}}:{name}", before["UserId"])
    finally:
        own.delete()


def test_a_package_keeps_modes_and_folders(make, call):
    files = python("import subprocess\nreturn subprocess.check_output(['bin/tool', 'a']).decode()")
    files["bin/tool"] = "#!/bin/sh\necho tool $1 in $PWD\n"
    assert call(make(files)).payload == "tool a in /var/task\n"


def test_subprocesses_and_threads_work(make, call):
    body = """
import concurrent.futures, multiprocessing, socket
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    squares = list(pool.map(lambda n: n * n, range(8)))
here, there = multiprocessing.Pipe()
child = multiprocessing.Process(target=there.send, args=('from a child',))
child.start()
said = here.recv()
child.join()
return [squares, said, child.exitcode]
"""
    assert call(make(python(body), MemorySize=256)).payload == [[n * n for n in range(8)], "from a child", 0]
