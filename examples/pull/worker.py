# A pull worker: takes jobs of the kind count, one at a time, and does them.
import json, os, time, urllib.error, urllib.request

server, key = os.environ.get("MILLSTREAM_SERVER", "http://127.0.0.1:8080"), os.environ.get("MILLSTREAM_KEY", "")
headers = {"Content-Type": "application/json", "Prefer": "wait=20", **({"Authorization": "Bearer " + key} if key else {})}

def post(path, body):
    while True:  # a server that is away, or says 503, is asked again
        try:
            with urllib.request.urlopen(urllib.request.Request(server + path, json.dumps(body).encode(), headers), timeout=40) as answer:
                return json.load(answer) if answer.status == 200 else {}
        except OSError as e:
            if getattr(e, "code", 503) not in (429, 500, 502, 503, 504):
                raise
        time.sleep(1)

def work(lease, job, checkpoint):
    say = lambda *events: post(f"/v1/leases/{lease}/events", events)
    for n in range((checkpoint or 0) + 1, job["input"]["to"] + 1):  # on from what the last attempt had done
        time.sleep(float(os.environ.get("PACE", 1)))
        if say({"type": "job.progress", "data": {"progress": n, "total": job["input"]["to"]}}, {"type": "checkpoint", "data": n})["cancel"]:
            return say({"type": "job.failed", "data": {"error": {"detail": "stopped"}}})
    say({"type": "job.succeeded", "data": {"result": {"counted": job["input"]["to"]}}})

while True:
    for taken in post("/v1/leases", {"kinds": ["count"], "worker": os.environ.get("WORKER", "python")}).get("leases", []):
        try:
            work(taken["lease"], taken["job"], taken["checkpoint"])
        except urllib.error.HTTPError as e:  # 409: the lease is lost, somebody else does it
            print(e.code, e.read().decode())
