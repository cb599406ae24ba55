// Package sse is the text/event-stream format, both ways, as the WHATWG HTML
// standard has it in section 9.2. It knows nothing of jobs.
package sse

// ContentType is the media type of a stream. It is always UTF-8, so there is no
// charset parameter to get wrong.
const ContentType = "text/event-stream"

// Heartbeat is a comment that shows that a stream lives. It has no blank line: a
// client that dispatches on each of them would take it for an event without data.
const Heartbeat = ":\n"
