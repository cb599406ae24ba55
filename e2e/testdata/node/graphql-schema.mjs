// Reads the schema of the server at argv[2] with all that introspection can be asked, and
// prints it beside that of the file at argv[3].
import { readFileSync } from 'node:fs'
import { buildClientSchema, buildSchema, getIntrospectionQuery, lexicographicSortSchema, printSchema } from 'graphql'

const query = getIntrospectionQuery({ descriptions: true, specifiedByUrl: true, directiveIsRepeatable: true, schemaDescription: true, inputValueDeprecation: true, oneOf: true })
const response = await fetch(process.argv[2], { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ query }) })
const { data, errors } = await response.json()
if (errors) throw new Error(JSON.stringify(errors))
const print = schema => printSchema(lexicographicSortSchema(schema))
console.log(JSON.stringify({ served: print(buildClientSchema(data)), written: print(buildSchema(readFileSync(process.argv[3], 'utf8'))) }))
