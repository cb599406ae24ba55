package sse

// Valid is appendValid, for the oracles of the tests.
func Valid(s string) string { return string(appendValid(nil, []byte(s))) }
