// Follows a job with graphql-ws: argv holds the address, the job, and a token if there is
// one. Prints the object of each event as a line. Whenever the socket is lost, or the server
// sends it away, it comes back for what follows the last event, until the job is over.
import { createClient } from 'graphql-ws'
import WebSocket from 'ws'

const [url, job, token] = process.argv.slice(2)
const query = `subscription ($job: ID!, $after: String) { events(job: $job, after: $after) { id type object } }`
let after = null

for (let over = false; !over;) {
  const client = createClient({ url, webSocketImpl: WebSocket, retryAttempts: 0, connectionParams: token && { Authorization: `Bearer ${token}` } })
  try {
    for await (const { data, errors, extensions } of client.iterate({ query, variables: { job, after } })) {
      if (errors) throw new Error(JSON.stringify(errors))
      const { id, type, object } = data.events
      if (type === 'stream.end') continue
      if (extensions.id !== id) throw new Error(`${extensions.id} is not ${id}`)
      console.log(JSON.stringify(object))
      after = id
      over = ['job.succeeded', 'job.failed', 'job.canceled'].includes(type)
    }
  } catch (e) {
    if (e instanceof Error) throw e
    console.error(`lost: ${e.code ?? e.message ?? e} ${e.reason ?? ''}`) // a close, or a server that is not there
    await new Promise(r => setTimeout(r, 20))
  } finally {
    await client.dispose()
  }
}
