package access

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/millstream/millstream/pkg/job"
)

// leaseKind is the typ of a lease: a read token is none, and none of them reads.
const leaseKind = "millstream-lease+jwt"

var leaseHeader = headerOf(leaseKind)

// Lease says which attempt at which job a pull worker holds.
type Lease struct {
	Job     job.ID
	Seq     uint64 // of the job.running that began it
	Kind    string
	Worker  string // as it calls itself
	Expires time.Time
}

type leaseClaims struct {
	jwt.RegisteredClaims
	Job  job.ID `json:"job"`
	Seq  uint64 `json:"lease"`
	Kind string `json:"kind"`
}

// MintLease returns the token of a lease.
func (s *Signer) MintLease(l Lease) string {
	body, err := json.Marshal(leaseClaims{
		RegisteredClaims: jwt.RegisteredClaims{Subject: l.Worker, ExpiresAt: jwt.NewNumericDate(l.Expires)},
		Job:              l.Job, Seq: l.Seq, Kind: l.Kind,
	})
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return s.sign(leaseHeader, body)
}

// VerifyLease returns the lease of a token that MintLease made with the same key. Of
// one that has expired it is job.ErrLeaseLost; any other is ErrToken.
func (s *Signer) VerifyLease(token string) (Lease, error) {
	if len(token) > maxToken {
		return Lease{}, ErrToken
	}
	var c leaseClaims
	t, err := s.parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return s.key, nil })
	switch {
	case t == nil || t.Header["typ"] != leaseKind:
		return Lease{}, ErrToken
	case errors.Is(err, jwt.ErrTokenExpired): // the signature is looked at first
		return Lease{}, job.ErrLeaseLost
	case err != nil || c.Seq == 0 || !job.ValidID(string(c.Job)):
		return Lease{}, ErrToken
	}
	return Lease{Job: c.Job, Seq: c.Seq, Kind: c.Kind, Worker: c.Subject, Expires: c.ExpiresAt.Time}, nil
}
