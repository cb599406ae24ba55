// Package access signs and checks tokens: what the answer to a submit carries, so that
// a browser may follow that one job and nothing else, and the leases of pull workers.
package access

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/millstream/millstream/pkg/job"
)

const (
	// MaxLife is the longest that a token lives. A link that is passed around
	// must end one day, however long its job is kept.
	MaxLife = 7 * 24 * time.Hour

	// KeySize is the least length of a signing key: that of the hash (RFC 7518 3.2).
	KeySize = 32

	// maxToken is several times what Mint makes. Nothing longer is looked into.
	maxToken = 1 << 10

	// kind is the token's typ (RFC 8725 3.11): no other JWT signed with the key
	// is mistaken for one, and none of ours for another.
	kind = "millstream-read+jwt"
)

// ErrToken is the error of a token that is not valid. It does not say why to
// whoever tries one out.
var ErrToken = errors.New("the token is not valid")

// Claims are what a token says: its bearer may read one job, or those of one batch and the
// list of them, until it expires.
type Claims struct {
	Job     job.ID
	Batch   string // in place of Job
	Owner   string // of what it reads
	Expires time.Time
}

// Reads reports whether the bearer may read a job, if it is the owner's. The id must be a
// valid one.
func (c *Claims) Reads(id job.ID) bool {
	if c.Batch != "" {
		return id == job.IDIn(c.Batch, id.IndexIn())
	}
	return id == c.Job
}

// Signer makes and checks tokens with one key. It is safe for concurrent use.
type Signer struct {
	key    []byte
	parser *jwt.Parser
	macs   sync.Pool // of hash.Hash, which have taken in the key already
}

// NewSigner returns a signer with the key, which it keeps. A key shorter than
// KeySize is a mistake of the program and panics: its tokens could be forged.
func NewSigner(key []byte) *Signer {
	if len(key) < KeySize {
		panic(fmt.Sprintf("access: a signing key of %d bytes, not %d", len(key), KeySize))
	}
	s := &Signer{key: key, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), // never what the token asks for
		jwt.WithExpirationRequired(),
		jwt.WithStrictDecoding(),
	)}
	s.macs.New = func() any { return hmac.New(sha256.New, key) }
	return s
}

// claims are the token's body.
type claims struct {
	jwt.RegisteredClaims
	Job   job.ID `json:"job,omitempty"`
	Batch string `json:"batch,omitempty"`
}

// sound reports whether a token says one thing to read.
func (c *claims) sound() bool {
	if c.Batch != "" {
		return c.Job == "" && job.ValidBatchID(c.Batch)
	}
	return job.ValidID(string(c.Job))
}

// Mint returns a token that reads the job until it expires, or for MaxLife if
// that is sooner.
func (s *Signer) Mint(id job.ID, owner string, expires time.Time) string {
	return s.mint(claims{Job: id}, owner, expires)
}

// MintBatch returns a token that reads all jobs of the batch, as Mint does.
func (s *Signer) MintBatch(batch, owner string, expires time.Time) string {
	return s.mint(claims{Batch: batch}, owner, expires)
}

func (s *Signer) mint(c claims, owner string, expires time.Time) string {
	if limit := time.Now().Add(MaxLife); expires.IsZero() || expires.After(limit) {
		expires = limit
	}
	c.RegisteredClaims = jwt.RegisteredClaims{Subject: owner, ExpiresAt: jwt.NewNumericDate(expires)}
	body, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings and a number always encode
	}
	return s.sign(readHeader, body)
}

// readHeader is that of every read token, as it stands in one.
var readHeader = headerOf(kind)

func headerOf(typ string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"`+typ+`"}`)) + "."
}

// sign returns the token with the header and the body. Each answer to a submit has one, and the
// library would make the header and take in the key for each anew.
func (s *Signer) sign(header string, body []byte) string {
	enc := base64.RawURLEncoding
	b := make([]byte, 0, len(header)+enc.EncodedLen(len(body))+1+enc.EncodedLen(sha256.Size))
	b = enc.AppendEncode(append(b, header...), body)
	mac := s.macs.Get().(hash.Hash)
	defer s.macs.Put(mac)
	mac.Reset()
	mac.Write(b)
	sum := mac.Sum(make([]byte, 0, sha256.Size))
	return string(enc.AppendEncode(append(b, '.'), sum))
}

// Verify returns the claims of a token that Mint made with the same key and that
// has not expired. Any other is ErrToken.
func (s *Signer) Verify(token string) (Claims, error) {
	if len(token) > maxToken {
		return Claims{}, ErrToken
	}
	var c claims
	t, err := s.parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return s.key, nil })
	if err != nil || t.Header["typ"] != kind || !c.sound() {
		return Claims{}, ErrToken
	}
	if time.Until(c.ExpiresAt.Time) > MaxLife {
		return Claims{}, ErrToken // not one of Mint's, whoever has the key
	}
	return Claims{Job: c.Job, Batch: c.Batch, Owner: c.Subject, Expires: c.ExpiresAt.Time}, nil
}
