//go:build !broken_ack

package broker

// early returns the store as it is. In a build that is broken on purpose it is one that
// tells before it has stored: `millstream torture` has to notice.
func early(s store) store { return s }
