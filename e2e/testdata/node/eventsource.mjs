// Prints each event of the stream at argv[2] as a line of JSON, and ends when the
// EventSource gives up: the server has said that there is no more.
import { EventSource } from 'eventsource'

const [url, ...types] = process.argv.slice(2)
const source = new EventSource(url)
for (const type of types) {
  source.addEventListener(type, e => console.log(JSON.stringify({ id: e.lastEventId, type: e.type, data: e.data })))
}
source.addEventListener('error', () => {
  if (source.readyState === EventSource.CLOSED) process.exit(0)
})
