// Package standardwebhooks signs and verifies webhooks as Standard Webhooks 1.0.0 has it
// (https://www.standardwebhooks.com), with HMAC-SHA256. A receiver needs no more of
// Millstream than this package, or any other implementation of that specification.
package standardwebhooks

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of a webhook.
const (
	HeaderID        = "webhook-id"        // the same each time a message is sent: who has seen it need not look
	HeaderTimestamp = "webhook-timestamp" // Unix seconds, when it was sent
	HeaderSignature = "webhook-signature" // a signature for each key of the sender, between spaces
)

// Tolerance is how far the timestamp of a message may be from now: one that is older may
// be a copy that somebody else sends.
const Tolerance = 5 * time.Minute

// Why a message is refused.
var (
	ErrHeaders   = errors.New("the headers of a webhook are not there, or are not what they should be")
	ErrTimestamp = errors.New("the timestamp is too far from now")
	ErrSignature = errors.New("no signature is of one of the keys")
)

const (
	secretPrefix = "whsec_"
	version      = "v1,"
	minKey       = 24 // bytes, by the specification
	maxKey       = 64
	newKey       = 32 // as many as the hash has
)

// NewSecret returns a fresh secret, as text.
func NewSecret() string {
	key := make([]byte, newKey)
	_, _ = rand.Read(key) // never fails
	return secretPrefix + base64.StdEncoding.EncodeToString(key)
}

// Keys are what messages are signed with. While secrets are rotated there are two.
type Keys [][]byte

// ParseKeys reads secrets: whsec_ and 24 to 64 bytes in base64. Its errors say which of them
// is none, from 1, and nothing of what is in it.
func ParseKeys(secrets ...string) (Keys, error) {
	var keys Keys
	for i, secret := range secrets {
		text, ok := strings.CutPrefix(secret, secretPrefix)
		key, err := base64.StdEncoding.DecodeString(text)
		if !ok || err != nil || len(key) < minKey || len(key) > maxKey {
			return nil, fmt.Errorf("secret %d of %d is not %s and %d to %d bytes in base64", i+1, len(secrets), secretPrefix, minKey, maxKey)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// Sign returns the webhook-signature of a message that is sent at a time: one signature for
// each key.
func (k Keys) Sign(id string, at time.Time, body []byte) string {
	signatures := make([]string, len(k))
	for i, key := range k {
		signatures[i] = version + base64.StdEncoding.EncodeToString(signature(key, id, at.Unix(), body))
	}
	return strings.Join(signatures, " ")
}

// SetHeader sets the headers of a message that is sent at a time.
func (k Keys) SetHeader(h http.Header, id string, at time.Time, body []byte) {
	h.Set(HeaderID, id)
	h.Set(HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
	h.Set(HeaderSignature, k.Sign(id, at, body))
}

// Verify returns nil if body is what the sender has signed with one of the keys, within
// Tolerance of now; else ErrHeaders, ErrTimestamp or ErrSignature. The body has to be as it
// was received, byte for byte.
func (k Keys) Verify(h http.Header, body []byte) error { return k.VerifyAt(time.Now(), h, body) }

// VerifyAt is Verify at another time than now.
func (k Keys) VerifyAt(now time.Time, h http.Header, body []byte) error {
	id, given := h.Get(HeaderID), h.Get(HeaderSignature)
	sent, err := strconv.ParseInt(h.Get(HeaderTimestamp), 10, 64)
	switch {
	case id == "" || given == "" || err != nil:
		return ErrHeaders
	case now.Sub(time.Unix(sent, 0)).Abs() > Tolerance:
		return ErrTimestamp
	}
	for _, key := range k {
		want := signature(key, id, sent, body)
		for text := range strings.FieldsSeq(given) {
			encoded, ours := strings.CutPrefix(text, version)
			got, err := base64.StdEncoding.DecodeString(encoded)
			if ours && err == nil && hmac.Equal(got, want) {
				return nil
			}
		}
	}
	return ErrSignature
}

func signature(key []byte, id string, at int64, body []byte) []byte {
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%d.", id, at)
	_, _ = mac.Write(body)
	return mac.Sum(nil)
}
