// Parses the bytes of standard input, split in two at every position and once
// byte by byte. Prints the events, which must be the same each time.
import { createParser } from 'eventsource-parser'
import { readFileSync } from 'node:fs'

const bytes = readFileSync(0)

function parse(pieces) {
  const seen = { events: [], comments: 0, retries: 0 }
  const parser = createParser({
    onEvent: e => seen.events.push({ id: e.id, type: e.event, data: e.data }),
    onComment: () => seen.comments++,
    onRetry: () => seen.retries++,
    onError: e => { throw e },
  })
  const decoder = new TextDecoder()
  for (const piece of pieces) parser.feed(decoder.decode(piece, { stream: true }))
  return JSON.stringify(seen)
}

const whole = parse([bytes])
for (let i = 1; i < bytes.length; i++) {
  if (parse([bytes.subarray(0, i), bytes.subarray(i)]) !== whole) throw new Error(`differs when split at ${i}`)
}
if (parse(Array.from(bytes, (_, i) => bytes.subarray(i, i + 1))) !== whole) throw new Error('differs byte by byte')
console.log(whole)
