#!/usr/bin/env python3
"""A worker in any language: input on stdin, result on stdout, log on stderr, and
events as JSON lines on file descriptor 3."""
import json
import os
import sys

events = os.fdopen(3, "w", buffering=1)


def say(kind, **data):
    print(json.dumps({"type": kind, "data": data}), file=events)


names = json.load(sys.stdin)
for done, name in enumerate(names, start=1):
    print("reading", name, file=sys.stderr)
    say("thumbnail", name=name, width=128)
    say("job.progress", progress=done, total=len(names), message=name)
json.dump({"made": len(names)}, sys.stdout)
