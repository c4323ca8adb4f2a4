"""Follows a feed with requests: requests.py URL. What it gets goes to the standard output."""

import json
import sys
import time


def say(kind, **fields):
    print(json.dumps({"kind": kind, **fields}), flush=True)


# This script's own name would come before the library's.
sys.path.pop(0)
import requests  # noqa: E402

retry, last = 3.0, ""
while True:
    headers = {"Accept": "text/event-stream"}
    if last:
        headers["Last-Event-ID"] = last
    try:
        with requests.get(sys.argv[1], headers=headers, stream=True, timeout=(5, 3)) as response:
            if response.status_code == 204 or 400 <= response.status_code < 500:
                say("end")
                break
            response.raise_for_status()
            response.encoding = "utf-8"
            kind, data, event_id, buffer = "", [], None, b""
            for chunk in response.iter_content(None):
                buffer += chunk
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    field, _, value = line.decode("utf-8").partition(":")
                    value = value[1:] if value.startswith(" ") else value
                    if not line:
                        if event_id is not None:
                            last = event_id
                        if data:
                            say("event", type=kind or "message", data="\n".join(data), id=last)
                        kind, data, event_id = "", [], None
                    elif field == "event":
                        kind = value
                    elif field == "data":
                        data.append(value)
                    elif field == "id" and "\0" not in value:
                        event_id = value
                    elif field == "retry" and value.isdigit():
                        retry = int(value) / 1000
    except requests.RequestException:
        pass
    time.sleep(retry)
