// A pull worker: takes jobs of the kind count, one at a time, and does them.
const { MILLSTREAM_SERVER: server = 'http://127.0.0.1:8080', MILLSTREAM_KEY: key, PACE = '1' } = process.env
const headers = { 'Content-Type': 'application/json', Prefer: 'wait=20', ...(key && { Authorization: `Bearer ${key}` }) }
const sleep = seconds => new Promise(done => setTimeout(done, seconds * 1000))

async function post(path, body) {
  for (;; await sleep(1)) { // a server that is away, or says 503, is asked again
    const answer = await fetch(server + path, { method: 'POST', headers, body: JSON.stringify(body) }).catch(() => null)
    if (!answer || answer.status >= 500 || answer.status === 429) continue
    if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`)
    return answer.status === 200 ? answer.json() : {}
  }
}

async function work({ lease, job, checkpoint }) {
  const say = (...events) => post(`/v1/leases/${lease}/events`, events)
  const { to } = job.input
  for (let n = (checkpoint ?? 0) + 1; n <= to; n++) { // on from what the last attempt had done
    await sleep(Number(PACE))
    const told = await say({ type: 'job.progress', data: { progress: n, total: to } }, { type: 'checkpoint', data: n })
    if (told.cancel) return say({ type: 'job.failed', data: { error: { detail: 'stopped' } } })
  }
  await say({ type: 'job.succeeded', data: { result: { counted: to } } })
}

for (;;) {
  const { leases = [] } = await post('/v1/leases', { kinds: ['count'], worker: 'node' })
  for (const lease of leases) await work(lease).catch(console.error) // 409: the lease is lost, somebody else does it
}
