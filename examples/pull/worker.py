# A pull worker: takes jobs of the kind count, one at a time, and does them.
import json, os, time, urllib.error, urllib.request

server = os.environ.get("MILLSTREAM_SERVER", "http://127.0.0.1:8080")
headers = {"Content-Type": "application/json", "Prefer": "wait=20"}
if key := os.environ.get("MILLSTREAM_KEY"):
    headers["Authorization"] = "Bearer " + key

def post(path, body):
    while True:  # a server that is away, or says 503, is asked again
        try:
            req = urllib.request.Request(server + path, json.dumps(body).encode(), headers)
            with urllib.request.urlopen(req, timeout=40) as answer:
                return json.load(answer) if answer.status == 200 else None
        except urllib.error.HTTPError as e:
            if e.code < 500 and e.code != 429:
                raise
        except OSError:
            pass
        time.sleep(1)

def work(lease):
    say = lambda *events: post(f"/v1/leases/{lease['lease']}/events", events)
    to, n = lease["job"]["input"]["to"], lease["checkpoint"] or 0  # what the last attempt had done
    while n < to:
        time.sleep(float(os.environ.get("PACE", "1")))
        n += 1
        told = say({"type": "job.progress", "data": {"progress": n, "total": to}}, {"type": "checkpoint", "data": n})
        if told["cancel"]:
            return say({"type": "job.failed", "data": {"error": {"detail": "stopped"}}})
    say({"type": "job.succeeded", "data": {"result": {"counted": n}}})

while True:
    for lease in (post("/v1/leases", {"kinds": ["count"], "worker": "python"}) or {}).get("leases", []):
        try:
            work(lease)
        except urllib.error.HTTPError as e:  # 409: the lease is lost, somebody else does it
            print(e.code, e.read().decode())
