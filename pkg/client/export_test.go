package client

import (
	"context"
	"net"
	"net/http"
)

// DialBy has c connect by dial, with the transports that it has by itself.
func (c *Client) DialBy(dial func(context.Context, string, string) (net.Conn, error)) (hangUp func()) {
	var clones []*http.Transport
	for _, by := range []**http.Client{&c.http, &c.slow} {
		t := (*by).Transport.(*http.Transport).Clone()
		t.DialContext = dial
		*by = &http.Client{Transport: t}
		clones = append(clones, t)
	}
	return func() {
		for _, t := range clones {
			t.CloseIdleConnections()
		}
	}
}
