// Follows a job with graphql-sse: argv holds the address, the job, and a token if there is
// one. Prints the object of each event as a line. Whenever the stream is lost, or the server
// sends it away, it comes back for what follows the last event, until the job is over.
import { createClient } from 'graphql-sse'

const [url, job, token] = process.argv.slice(2)
const query = `subscription ($job: ID!, $after: String) { events(job: $job, after: $after) { id type object } }`
let after = null

// patient gives up on results that do not come: graphql-sse never settles if its connection
// ends while it waits for nothing.
async function* patient(results) {
  for (;;) {
    let timer
    const silence = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error('silence')), 2000) })
    try {
      const { value, done } = await Promise.race([results.next(), silence])
      if (done) return
      yield value
    } finally {
      clearTimeout(timer)
    }
  }
}

for (let over = false; !over;) {
  const client = createClient({ url, retryAttempts: 0, headers: token ? { Authorization: `Bearer ${token}` } : {} })
  try {
    for await (const { data, errors, extensions } of patient(client.iterate({ query, variables: { job, after } }))) {
      if (errors) throw new Error(JSON.stringify(errors))
      const { id, type, object } = data.events
      if (type === 'stream.end') continue
      if (extensions.id !== id) throw new Error(`${extensions.id} is not ${id}`)
      console.log(JSON.stringify(object))
      after = id
      over = ['job.succeeded', 'job.failed', 'job.canceled'].includes(type)
    }
  } catch (e) {
    if (e.response || e.message.startsWith('[')) throw e // an answer, and not that there was none
    console.error(`lost: ${e.message}`)
    await new Promise(r => setTimeout(r, 20))
  } finally {
    client.dispose()
  }
}
