package access_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/access"
	"github.com/millstream/millstream/pkg/job"
)

const typ = "millstream-read+jwt"

var key = bytes.Repeat([]byte{7}, access.KeySize)

func TestMintVerify(t *testing.T) {
	s := access.NewSigner(key)
	id, expires := job.NewID(), time.Now().Add(time.Hour).Truncate(time.Second)
	c, err := s.Verify(s.Mint(id, "somebody", expires))
	require.NoError(t, err)
	require.Equal(t, id, c.Job)
	require.Equal(t, "somebody", c.Owner)
	require.True(t, expires.Equal(c.Expires))
}

// A token of a batch reads the jobs of that batch, one of a job that job.
func TestReads(t *testing.T) {
	s := access.NewSigner(key)
	batch, id := job.NewBatchID(), job.NewID()
	many, err := s.Verify(s.MintBatch(batch, "somebody", time.Now().Add(time.Hour)))
	require.NoError(t, err)
	require.Equal(t, batch, many.Batch)
	require.Equal(t, "somebody", many.Owner)
	one, err := s.Verify(s.Mint(id, "somebody", time.Time{}))
	require.NoError(t, err)
	for n := range job.MaxBatch {
		require.True(t, many.Reads(job.IDIn(batch, n)))
		require.False(t, one.Reads(job.IDIn(batch, n)))
		require.False(t, many.Reads(job.IDIn(job.NewBatchID(), n)))
	}
	require.False(t, many.Reads(id))
	require.True(t, one.Reads(id))
	require.False(t, one.Reads(job.NewID()))
}

// The library makes the same tokens, byte for byte.
func TestMintAsTheLibrary(t *testing.T) {
	type claims struct {
		jwt.RegisteredClaims
		Job job.ID `json:"job"`
	}
	id, expires := job.NewID(), time.Now().Add(time.Hour)
	s := access.NewSigner(key)
	for _, owner := range []string{"somebody", "", `"<é>&`} {
		theirs := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{jwt.RegisteredClaims{Subject: owner, ExpiresAt: jwt.NewNumericDate(expires)}, id})
		theirs.Header["typ"] = typ
		signed, err := theirs.SignedString(key)
		require.NoError(t, err)
		require.Equal(t, signed, s.Mint(id, owner, expires))
	}
}

func TestLife(t *testing.T) {
	for name, tc := range map[string]struct{ asked, got time.Duration }{
		"short":    {time.Minute, time.Minute},
		"too long": {access.MaxLife + time.Hour, access.MaxLife},
		"not said": {0, access.MaxLife},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := access.NewSigner(key)
				var expires time.Time
				if tc.asked > 0 {
					expires = time.Now().Add(tc.asked)
				}
				token := s.Mint(job.NewID(), "", expires)

				time.Sleep(tc.got - time.Second)
				_, err := s.Verify(token)
				require.NoError(t, err)

				time.Sleep(time.Second)
				_, err = s.Verify(token)
				require.ErrorIs(t, err, access.ErrToken)
			})
		})
	}
}

// forged is a token of somebody who knows the format, and perhaps the key.
func forged(method jwt.SigningMethod, key any, header, body map[string]any) string {
	t := jwt.NewWithClaims(method, jwt.MapClaims(body))
	for k, v := range header {
		t.Header[k] = v
	}
	s, err := t.SignedString(key)
	if err != nil {
		panic(err)
	}
	return s
}

func TestRefused(t *testing.T) {
	s := access.NewSigner(key)
	good := s.Mint(job.NewID(), "", time.Now().Add(time.Hour))
	head, rest, _ := strings.Cut(good, ".")
	body, mac, _ := strings.Cut(rest, ".")
	claims := func(edit ...any) map[string]any {
		c := map[string]any{"job": string(job.NewID()), "exp": time.Now().Add(time.Hour).Unix()}
		for i := 0; i < len(edit); i += 2 {
			c[edit[i].(string)] = edit[i+1]
		}
		return c
	}
	typed := map[string]any{"typ": typ}
	noExp := claims()
	delete(noExp, "exp")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"` + typ + `"}`))

	for name, token := range map[string]string{
		"empty":             "",
		"no token":          "a.b.c",
		"two parts":         head + "." + body,
		"flipped mac":       head + "." + body + "." + flip(mac),
		"flipped body":      head + "." + flip(body) + "." + mac,
		"padding":           good + "=",
		"other spare bits":  good[:len(good)-1] + spare(good[len(good)-1]),
		"long":              forged(jwt.SigningMethodHS256, key, typed, claims("more", strings.Repeat("a", 1<<10))),
		"alg none":          none + "." + body + ".",
		"alg none with mac": none + "." + body + "." + mac,
		"other key":         access.NewSigner(bytes.Repeat([]byte{8}, 32)).Mint(job.NewID(), "", time.Now().Add(time.Hour)),
		"HS512":             forged(jwt.SigningMethodHS512, key, typed, claims()),
		"typ JWT":           forged(jwt.SigningMethodHS256, key, nil, claims()),
		"typ at+jwt":        forged(jwt.SigningMethodHS256, key, map[string]any{"typ": "at+jwt"}, claims()),
		"no exp":            forged(jwt.SigningMethodHS256, key, typed, noExp),
		"expired":           forged(jwt.SigningMethodHS256, key, typed, claims("exp", time.Now().Add(-time.Minute).Unix())),
		"exp a year off":    forged(jwt.SigningMethodHS256, key, typed, claims("exp", time.Now().AddDate(1, 0, 0).Unix())),
		"exp a string":      forged(jwt.SigningMethodHS256, key, typed, claims("exp", "tomorrow")),
		"not yet valid":     forged(jwt.SigningMethodHS256, key, typed, claims("nbf", time.Now().Add(time.Minute).Unix())),
		"no job":            forged(jwt.SigningMethodHS256, key, typed, claims("job", "")),
		"a wildcard":        forged(jwt.SigningMethodHS256, key, typed, claims("job", "*")),
		"no batch":          forged(jwt.SigningMethodHS256, key, typed, claims("job", "", "batch", "batch_*")),
		"a job as a batch":  forged(jwt.SigningMethodHS256, key, typed, claims("job", "", "batch", string(job.NewID()))),
		"a job and a batch": forged(jwt.SigningMethodHS256, key, typed, claims("batch", job.NewBatchID())),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Verify(token)
			require.ErrorIs(t, err, access.ErrToken)
		})
	}

	_, err := s.Verify(forged(jwt.SigningMethodHS256, key, typed, claims()))
	require.NoError(t, err, "the forger's form is the right one, so that the table tests what it says")
}

// flip changes the first character: its bits are all used, unlike the last one's.
func flip(s string) string {
	if s[0] == 'A' {
		return "B" + s[1:]
	}
	return "A" + s[1:]
}

// spare returns another character that stands for the same bits at the end of a
// base64 text whose last character has two to spare.
func spare(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)^1])
}

func TestShortKey(t *testing.T) {
	require.Panics(t, func() { access.NewSigner(make([]byte, access.KeySize-1)) })
	require.NotPanics(t, func() { access.NewSigner(make([]byte, access.KeySize)) })
}

func FuzzVerify(f *testing.F) {
	s := access.NewSigner(key)
	f.Add("")
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add(access.NewSigner(bytes.Repeat([]byte{8}, 32)).Mint(job.NewID(), "", time.Now().Add(time.Hour)))
	f.Fuzz(func(t *testing.T, token string) {
		_, err := s.Verify(token) // nobody finds a token without the key
		require.ErrorIs(t, err, access.ErrToken)
	})
}
