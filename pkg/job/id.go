package job

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"

	"github.com/google/uuid"
)

// ID names a job: "job_" and 26 characters of lower-case Crockford base32. It
// sorts by creation time and is not a credential.
type ID string

const (
	idPrefix = "job_"
	idLen    = len(idPrefix) + 26 // 128 bits, five a character
)

// crockford has no i, l, o, u: an id read aloud is not mistaken.
const crockford = "0123456789abcdefghjkmnpqrstvwxyz"

// NewID returns a fresh id made from a UUIDv7 (RFC 9562).
func NewID() ID {
	u := uuid.Must(uuid.NewV7()) // fails only when the system has no randomness left
	return IDOf(u)
}

// IDFor returns the id of the message uuid on the topic of kind: uuid itself if
// it is one of our ids, else one derived from both, so that publishing the same
// message twice is one job and the same uuid in two kinds is two.
func IDFor(kind, uuid string) ID {
	if ValidID(uuid) {
		return ID(uuid)
	}
	sum := sha256.Sum256([]byte(kind + "\x00" + uuid))
	return IDOf([16]byte(sum[:16]))
}

// IDOf returns the id that is made of 128 bits, written as in a ULID: the first
// character has three of them.
func IDOf(b [16]byte) ID {
	high, low := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	id := []byte(idPrefix + "00000000000000000000000000")
	for i := idLen - 1; i >= len(idPrefix); i-- {
		id[i] = crockford[low&31]
		low = low>>5 | high<<59
		high >>= 5
	}
	return ID(id)
}

// Bytes returns the bits that the id is made of; ok is false if it is none. They sort
// as ids do.
func (id ID) Bytes() (b [16]byte, ok bool) {
	if !ValidID(string(id)) {
		return b, false
	}
	var high, low uint64
	for _, c := range []byte(id[len(idPrefix):]) {
		high = high<<5 | low>>59
		low = low<<5 | uint64(digitOf[c])
	}
	binary.BigEndian.PutUint64(b[:8], high)
	binary.BigEndian.PutUint64(b[8:], low)
	return b, true
}

// digitOf is the value of each character of crockford; the others have noDigit.
var digitOf = func() (of [256]byte) {
	for i := range of {
		of[i] = noDigit
	}
	for i := range len(crockford) {
		of[crockford[i]] = byte(i)
	}
	return of
}()

const noDigit = 0xff

// ValidID reports whether s could be the id of a job. What it refuses never
// reaches the broker, where a star or a dot would mean something.
func ValidID(s string) bool {
	if len(s) != idLen || !strings.HasPrefix(s, idPrefix) || s[len(idPrefix)] > '7' {
		return false
	}
	for i := len(idPrefix); i < len(s); i++ {
		if digitOf[s[i]] == noDigit {
			return false
		}
	}
	return true
}

// maxName bounds kinds: they are a token of a subject and a label of a metric.
const maxName = 64

// ValidKind reports whether s can name a kind: 1 to 64 letters, digits, '-' and
// '_'. It is one token of a broker subject, so no dot, star, '>' or space.
func ValidKind(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if !alphanumeric(s[i]) && s[i] != '-' && s[i] != '_' {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool { return letter(c) || '0' <= c && c <= '9' }

func letter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
