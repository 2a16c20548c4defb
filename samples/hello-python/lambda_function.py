import json
import platform


def lambda_handler(event, context):
    print("event:", json.dumps(event))
    name = event.get("name", "world") if isinstance(event, dict) else "world"
    return {
        "message": f"Hello, {name}!",
        "runtime": f"Python {platform.python_version()}",
        "memoryMb": int(context.memory_limit_in_mb),
        "requestId": context.aws_request_id,
    }
