// Runs graphql-http's audits of a server against argv[2], and prints each result as a line
// of JSON.
import { auditServer } from 'graphql-http'

for (const { id, name, status, reason } of await auditServer({ url: process.argv[2] })) {
  console.log(JSON.stringify({ id, name, status, reason }))
}
