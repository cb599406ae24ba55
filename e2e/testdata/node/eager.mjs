// Cuts the bytes of standard input at every position, and prints how many times the parser
// of fetch-event-source had by then taken note of the id of an event that it had not shown.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'

const { getLines, getMessages } = createRequire(import.meta.url)('@microsoft/fetch-event-source/lib/cjs/parse.js')
const bytes = readFileSync(0)

let ahead = 0
for (let i = 0; i <= bytes.length; i++) {
  let noted = '', shown = ''
  getLines(getMessages(id => { noted = id }, () => {}, message => { shown = message.id || shown }))(bytes.subarray(0, i))
  if (noted !== shown) ahead++
}
console.log(ahead)
