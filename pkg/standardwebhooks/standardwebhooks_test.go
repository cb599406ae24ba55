package standardwebhooks

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func keysOf(t require.TestingT, secrets ...string) Keys {
	keys, err := ParseKeys(secrets...)
	require.NoError(t, err)
	return keys
}

// What the specification's own example is signed as.
func TestVector(t *testing.T) {
	keys := keysOf(t, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	at := time.Unix(1614265330, 0)
	h := http.Header{}
	keys.SetHeader(h, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, []byte(`{"test": 2432232314}`))
	require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", h.Get(HeaderSignature))
	require.Equal(t, "1614265330", h.Get(HeaderTimestamp))
	require.NoError(t, keys.VerifyAt(at, h, []byte(`{"test": 2432232314}`)))
}

func TestVerify(t *testing.T) {
	key, body, at := NewSecret(), []byte(`{"a":1,"b":2}`), time.Unix(1_800_000_000, 0)
	keys := keysOf(t, key)
	for name, tc := range map[string]struct {
		change func(http.Header)
		body   string
		at     time.Duration
		want   error
	}{
		"as it was sent":      {},
		"five minutes late":   {at: Tolerance},
		"five minutes early":  {at: -Tolerance},
		"too late":            {at: Tolerance + time.Second, want: ErrTimestamp},
		"too early":           {at: -Tolerance - time.Second, want: ErrTimestamp},
		"another body":        {body: `{"b":2,"a":1}`, want: ErrSignature},
		"another id":          {change: func(h http.Header) { h.Set(HeaderID, "x") }, want: ErrSignature},
		"another time":        {change: func(h http.Header) { h.Set(HeaderTimestamp, "1800000001") }, want: ErrSignature},
		"no id":               {change: func(h http.Header) { h.Del(HeaderID) }, want: ErrHeaders},
		"no time":             {change: func(h http.Header) { h.Del(HeaderTimestamp) }, want: ErrHeaders},
		"no time at all":      {change: func(h http.Header) { h.Set(HeaderTimestamp, "now") }, want: ErrHeaders},
		"no signature":        {change: func(h http.Header) { h.Del(HeaderSignature) }, want: ErrHeaders},
		"another version":     {change: func(h http.Header) { h.Set(HeaderSignature, "v1a"+h.Get(HeaderSignature)[2:]) }, want: ErrSignature},
		"not base64":          {change: func(h http.Header) { h.Set(HeaderSignature, "v1,!") }, want: ErrSignature},
		"one of a hundred":    {change: func(h http.Header) { h.Set(HeaderSignature, strings.Repeat("v1,AAAA ", 99)+h.Get(HeaderSignature)) }},
		"a cut signature":     {change: func(h http.Header) { h.Set(HeaderSignature, h.Get(HeaderSignature)[:20]) }, want: ErrSignature},
		"an empty signature":  {change: func(h http.Header) { h.Set(HeaderSignature, "v1,") }, want: ErrSignature},
		"a time out of range": {change: func(h http.Header) { h.Set(HeaderTimestamp, "9223372036854775807") }, want: ErrTimestamp},
	} {
		h := http.Header{}
		keys.SetHeader(h, "msg", at, body)
		if tc.change != nil {
			tc.change(h)
		}
		got := body
		if tc.body != "" {
			got = []byte(tc.body)
		}
		require.Equal(t, tc.want, keys.VerifyAt(at.Add(tc.at), h, got), name)
	}
	h := http.Header{}
	keys.SetHeader(h, "msg", time.Now(), body)
	require.NoError(t, keys.Verify(h, body))
	require.Equal(t, ErrSignature, Keys(nil).Verify(h, body), "who has no key believes nobody")
}

// While secrets are rotated, whoever has one of them verifies what all of them sign, and who
// has both what one of them signs.
func TestRotation(t *testing.T) {
	fresh, old, at := NewSecret(), NewSecret(), time.Now()
	both := keysOf(t, fresh, old)
	h := http.Header{}
	both.SetHeader(h, "m", at, nil)
	for _, secret := range []string{fresh, old} {
		one := keysOf(t, secret)
		require.NoError(t, one.VerifyAt(at, h, nil))
		h2 := http.Header{}
		one.SetHeader(h2, "m", at, nil)
		require.NoError(t, both.VerifyAt(at, h2, nil))
	}
	require.Equal(t, ErrSignature, keysOf(t, NewSecret()).VerifyAt(at, h, nil))
}

func TestParseKeys(t *testing.T) {
	raw := func(n int) string { return secretPrefix + base64.StdEncoding.EncodeToString(make([]byte, n)) }
	keysOf(t, raw(minKey), raw(maxKey), NewSecret())
	for _, secret := range []string{"", "whsec_", raw(minKey - 1), raw(maxKey + 1), raw(32)[len(secretPrefix):], "whsec_!" + raw(32), "whsk_" + raw(32)[6:]} {
		_, err := ParseKeys(NewSecret(), secret)
		require.ErrorContains(t, err, "secret 2 of 2 is not whsec_")
		if len(secret) > 8 {
			require.NotContains(t, err.Error(), secret[8:])
		}
	}
	require.NotEqual(t, NewSecret(), NewSecret())
}

// Whatever is signed verifies, and nothing else does.
func TestSignedVerifies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "body")
		id := rapid.StringMatching(`[a-zA-Z0-9_-]{1,40}`).Draw(t, "id")
		keys := keysOf(t, NewSecret())
		h := http.Header{}
		keys.SetHeader(h, id, time.Now(), body)
		require.NoError(t, keys.Verify(h, body))
		body[rapid.IntRange(0, len(body)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		require.Equal(t, ErrSignature, keys.Verify(h, body))
	})
}
