package millstream

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net"
	"os"

	"github.com/millstream/millstream/broker"
)

// keyPrefix tells an admin key from other secrets, in a log or a repository where
// it should not be.
const keyPrefix = "msk_"

// admin returns what knows the admin key, or nil if anybody may do everything: no
// key is configured and only this machine reaches the server. On any other address
// a key is made at the first start, told once, and kept as a hash.
func (s *Server) admin(ctx context.Context, b *broker.Broker, at net.Addr) (func(key string) bool, error) {
	if s.config.AdminKey != "" {
		return knows(hashOf(s.config.AdminKey)), nil
	}
	if loopback(at) {
		return nil, nil
	}
	fresh := keyPrefix + rand.Text()
	hash, err := b.Secret(ctx, "admin-key", []byte(hashOf(fresh)))
	if err != nil {
		return nil, fmt.Errorf("admin key: %w", err)
	}
	if string(hash) == hashOf(fresh) {
		s.config.NewKey(fresh)
	}
	return knows(string(hash)), nil
}

func loopback(at net.Addr) bool {
	tcp, ok := at.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

func hashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// knows returns a check of keys against the hash of one, in constant time.
func knows(hash string) func(string) bool {
	return func(key string) bool { return subtle.ConstantTimeCompare([]byte(hashOf(key)), []byte(hash)) == 1 }
}

// printKey is the NewKey of a Config that has none.
func printKey(key string) {
	fmt.Fprintf(os.Stderr, "The server can be reached from other machines, so it asks for a key. This is told once:\n\n    %s\n\n", key)
}
