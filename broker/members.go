package broker

import "bytes"

// What encoding/json has written, without spaces, is taken apart here. The parts are not looked
// into further than it takes to find where they end.

// members calls each with the members of the object that text is, until it returns false. It
// reports whether it never did, and there are no others than those of names, in their order.
func members(text []byte, names []string, each func(name string, value []byte) bool) bool {
	rest, ok := bytes.CutPrefix(text, []byte{'{'})
	for ok {
		var name string
		if name, names, rest, ok = nextMember(rest, names); !ok {
			return false
		}
		n := extent(rest)
		if n == 0 || n == len(rest) || !each(name, rest[:n]) {
			return false
		}
		if rest[n] == '}' {
			return len(rest) == n+1
		}
		rest, ok = bytes.CutPrefix(rest[n:], []byte{','})
	}
	return false
}

// nextMember returns which of names text begins with, as the name of a member, and what is behind both.
func nextMember(text []byte, names []string) (name string, later []string, rest []byte, ok bool) {
	for i, name := range names {
		n := len(name)
		if len(text) > n+3 && text[0] == '"' && string(text[1:n+1]) == name && text[n+1] == '"' && text[n+2] == ':' {
			return name, names[i+1:], text[n+3:], true
		}
	}
	return "", nil, nil, false
}

// elements does the same with a list.
func elements(text []byte, each func(value []byte) bool) bool {
	rest, ok := bytes.CutPrefix(text, []byte{'['})
	for ok {
		n := extent(rest)
		if n == 0 || n == len(rest) || !each(rest[:n]) {
			return false
		}
		if rest[n] == ']' {
			return len(rest) == n+1
		}
		rest, ok = bytes.CutPrefix(rest[n:], []byte{','})
	}
	return false
}

// extent returns how long the value is that text begins with; 0: there is none, or it does not end.
func extent(text []byte) int {
	switch {
	case len(text) == 0:
		return 0
	case text[0] == '"':
		return quoted(text)
	case text[0] == '{' || text[0] == '[':
		return nested(text)
	}
	for i, c := range text {
		if c == ',' || c == '}' || c == ']' {
			return i
		}
	}
	return 0
}

// nested returns how long the object or list is that begins there; 0: it does not end.
func nested(text []byte) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		case '"':
			n := quoted(text[i:])
			if n == 0 {
				return 0
			}
			i += n - 1
		}
	}
	return 0
}

// quoted returns how long the text in quotes is that begins there; 0: it does not end.
func quoted(text []byte) int {
	for i := 1; ; i++ {
		n := bytes.IndexByte(text[i:], '"')
		if n < 0 {
			return 0
		}
		if i += n; text[i-1] != '\\' || (i-len(bytes.TrimRight(text[:i], `\`)))%2 == 0 {
			return i + 1
		}
	}
}
