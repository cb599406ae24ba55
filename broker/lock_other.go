//go:build !unix

package broker

// lock does nothing where there is no flock.
func lock(string) (unlock func(), err error) { return func() {}, nil }

func lockOnly(string) (unlock func(), err error) { return func() {}, nil }
