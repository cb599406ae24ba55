package webhook

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/millstream/millstream/pkg/job"
)

// maxURL is how long the URL of a webhook may be: as long as most servers take.
const maxURL = 2048

// Check says what is wrong with the URL of a webhook that nothing can be sent to, as far as it shows. Where a name leads to is looked at when it is sent.
func (s *Sender) Check(w *job.Webhook) error {
	if len(w.URL) > maxURL {
		return fmt.Errorf("must be at most %d bytes", maxURL)
	}
	if strings.ContainsFunc(w.URL, notVisible) {
		return errors.New("must have no spaces, and no letters but those of ASCII: a name has its form with xn--, other bytes are percent-encoded")
	}
	u, err := url.Parse(w.URL)
	switch {
	case err != nil, u.Scheme != "https" && u.Scheme != "http", u.Hostname() == "":
		return errors.New("must be an https:// URL")
	case u.User != nil:
		return errors.New("must not have a user or a password: what is sent is signed")
	case u.Fragment != "" || strings.Contains(w.URL, "#"):
		return errors.New("must not have a fragment")
	case u.Port() != "" && !isPort(u.Port()):
		return errors.New("must have a port from 1 to 65535, or none")
	case u.Scheme == "http" && len(s.guard.allow) == 0:
		return errors.New("must be an https:// URL: http:// is for addresses that webhooks.allow lists, and it lists none")
	}
	return s.checkAddress(u)
}

// checkAddress looks at a URL that has an address in place of a name.
func (s *Sender) checkAddress(u *url.URL) error {
	addr, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return nil
	}
	at, look := netip.AddrPortFrom(addr, 1).String(), s.guard.public
	if u.Scheme == "http" {
		look = s.guard.listed
	}
	network := "tcp4"
	if addr.Is6() {
		network = "tcp6"
	}
	if look(network, at, nil) != nil {
		return fmt.Errorf("must not lead to %s: webhooks.allow does not list it", addr)
	}
	return nil
}

func notVisible(r rune) bool { return r <= ' ' || r > '~' }

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}
