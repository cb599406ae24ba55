package millstream

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/broker"
)

func TestAdminKey(t *testing.T) {
	b, err := broker.Open(t.Context(), broker.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	var told []string
	admin := func(c Config, at string) func(string) bool {
		c.NewKey = func(key string) { told = append(told, key) }
		ip := &net.TCPAddr{IP: net.ParseIP(at)}
		knows, err := New(c).admin(t.Context(), b, ip)
		require.NoError(t, err)
		return knows
	}
	require.Nil(t, admin(Config{}, "127.0.0.1"), "only this machine reaches it")
	require.Nil(t, admin(Config{}, "::1"))
	require.Empty(t, told)

	knows := admin(Config{}, "0.0.0.0")
	require.Len(t, told, 1)
	require.True(t, knows(told[0]))
	for _, wrong := range []string{"", "msk_", told[0] + "x", told[0][:len(told[0])-1]} {
		require.False(t, knows(wrong))
	}
	again := admin(Config{}, "10.0.0.1")
	require.Len(t, told, 1, "it is told once")
	require.True(t, again(told[0]), "and is the same after a restart")

	own := admin(Config{AdminKey: "my own"}, "127.0.0.1")
	require.True(t, own("my own"))
	require.False(t, own(told[0]))
}
