package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/millstream/millstream/pkg/millstream"
	"github.com/millstream/millstream/pkg/standardwebhooks"
)

// check finds what nothing could be signed with, or sent to. It says nothing of what is in a
// secret.
func (w *webhookSettings) check(f *faults) {
	checkSecrets(f, "webhooks.secret", w.first()...)
	checkSecrets(f, "webhooks.secrets", w.Secrets...)
	for _, text := range w.Allow {
		if _, err := parsePrefix(text); err != nil {
			f.add("webhooks.allow", "%q is no network: write it as 10.0.0.0/8, or as one address", text)
		}
	}
}

// maxSecrets is how many may sign: the new one and the old one, and some of who is in a hurry.
const maxSecrets = 5

func checkSecrets(f *faults, key string, secrets ...string) {
	if _, err := standardwebhooks.ParseKeys(secrets...); err != nil {
		f.add(key, "%w; `millstream webhook secret` makes one", err)
	}
}

// first returns the secret that stands by itself, if there is one.
func (w *webhookSettings) first() []string {
	if w.Secret == "" {
		return nil
	}
	return []string{w.Secret}
}

// parsePrefix reads a network, or an address as one that has no other.
func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err
}

// webhooks returns the settings as the library takes them.
func (s *settings) webhooks() (millstream.Webhooks, error) {
	filed, err := s.filedSecrets()
	made := millstream.Webhooks{Secrets: slices.Concat(s.Webhooks.first(), s.Webhooks.Secrets, filed)}
	if err == nil && len(made.Secrets) > maxSecrets {
		err = fmt.Errorf("webhooks: there are %d secrets, which is more than %d", len(made.Secrets), maxSecrets)
	}
	if err != nil {
		return made, err
	}
	for _, text := range s.Webhooks.Allow {
		p, err := parsePrefix(text)
		if err != nil {
			return made, fmt.Errorf("webhooks.allow: %w", err)
		}
		made.Allow = append(made.Allow, p)
	}
	return made, nil
}

// filedSecrets returns the secrets in the file, if there is one.
func (s *settings) filedSecrets() ([]string, error) {
	name := s.Webhooks.SecretFile
	if name == "" {
		return nil, nil
	}
	text, err := readFile(s.path(name))
	if err != nil {
		return nil, fmt.Errorf("webhooks.secret_file: %w", err)
	}
	secrets := strings.Fields(string(text))
	if _, err := standardwebhooks.ParseKeys(secrets...); err != nil {
		return nil, fmt.Errorf("webhooks.secret_file: %s: %w; `millstream webhook secret` makes one", name, err)
	}
	if len(secrets) == 0 {
		return nil, fmt.Errorf("webhooks.secret_file: %s is empty", name)
	}
	return secrets, nil
}

// redacted returns the settings without what is secret in them.
func (w webhookSettings) redacted() webhookSettings {
	if w.Secret != "" {
		w.Secret = hidden
	}
	w.Secrets = slices.Clone(w.Secrets)
	for i := range w.Secrets {
		w.Secrets[i] = hidden
	}
	return w
}
