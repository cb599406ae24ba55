package job

// MaxDepth is how deep JSON may nest that comes in, as an input or an event, or that
// stands in a job as its result: deeper than any honest one, and far from where a
// recursive parser of a worker or a client runs out of stack.
const MaxDepth = 64

// Deep reports whether doc, which is JSON, nests deeper than MaxDepth.
func Deep(doc []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(doc); i++ {
		switch c := doc[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case quoted:
		case c == '{', c == '[':
			if depth++; depth > MaxDepth {
				return true
			}
		case c == '}', c == ']':
			depth--
		}
	}
	return false
}
