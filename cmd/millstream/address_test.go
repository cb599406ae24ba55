package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// What can never work, or never match, is told before it is tried.
func TestConfig_refusesAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"listen: 127.0.0.1:99999":                       `listen: "127.0.0.1:99999" has no port between 0 and 65535`,
		"listen: :-1":                                   "listen: ",
		"listen: :no-such-service":                      "listen: ",
		"listen: http://127.0.0.1:8080":                 `listen: "http://127.0.0.1:8080" is not an address`,
		"listen: 'a b:80'":                              "is not an address",
		"listen: ':80/path'":                            "has no port",
		"hosts: [https://jobs.example]":                 `hosts: "https://jobs.example" is not the name of a host`,
		"hosts: [jobs.example/]":                        `hosts: "jobs.example/" is not the name`,
		"hosts: ['*.example']":                          `hosts: "*.example" is not the name`,
		"hosts: [me@jobs.example]":                      "is not the name",
		"hosts: ['a b']":                                "is not the name",
		"hosts: [jobs.exämple]":                         "is not the name",
		"hosts: [jobs.example, '']":                     `hosts: "" is not the name`,
		"hosts: ['jobs.example:port']":                  "is not the name",
		"nats: foo":                                     `nats: "foo" is not a server: write it as nats://host:4222`,
		"nats: http://a:4222":                           `nats: "http://a:4222" is not a server`,
		"nats: nats://":                                 `nats: "nats://" is not a server`,
		"nats: a:99999":                                 `nats: "a:99999" is not a server`,
		"nats: nats://a:4222,foo":                       `nats: "foo" is not a server`,
		"nats: 'nats://a:4222,'":                        `nats: "" is not a server`,
		"key: k\nkey_file: the.key":                     "key: is there beside key_file",
		"key: ' k'":                                     "key: cannot be sent",
		`key: "a\nb"`:                                   "key: cannot be sent",
		"cors: {origins: [https://app.example/path]}":   `cors.origins: "https://app.example/path" is not an origin: write it as https://app.example`,
		"cors: {origins: [https://app.example/]}":       "is not an origin",
		"cors: {origins: ['https://app.example?']}":     "is not an origin",
		"cors: {origins: [app.example]}":                `cors.origins: "app.example" is not an origin`,
		"cors: {origins: ['app.example:8080']}":         "is not an origin",
		"cors: {origins: [//app.example]}":              "is not an origin",
		"cors: {origins: ['*']}":                        "is not an origin",
		"cors: {origins: ['null']}":                     "is not an origin",
		"cors: {origins: ['https://*.example']}":        "is not an origin",
		"cors: {origins: [https://me@app.example]}":     "is not an origin",
		"cors: {origins: [https://App.example]}":        "a browser sends https://app.example",
		"cors: {origins: ['https://app.example:443']}":  "write it as https://app.example",
		"cors: {origins: ['http://app.example:80']}":    "write it as http://app.example",
		"cors: {origins: ['https://app.example:port']}": "is not an origin",
	} {
		t.Run(text, func(t *testing.T) {
			_, err := loadFrom(t, text, nil)
			require.ErrorContains(t, err, want)
			require.Equal(t, exitUsage, exitCode(err))
		})
	}
}

func TestConfig_takesAddresses(t *testing.T) {
	for _, text := range []string{
		"listen: ':0'", "listen: '127.0.0.1:'", "listen: ':http'", "listen: '[::1]:80'", "listen: '[fe80::1%eth0]:80'", "listen: 'my_host.example:80'",
		"hosts: [jobs, jobs.example, 'jobs.example:8080', Jobs.example, my_jobs, 10.0.0.1, '[::1]:80', jobs.example.]",
		"nats: nats://a", "nats: a:4222", "nats: 'nats://me:pass@a:4222, tls://b:4222,[::1]:4222'", "nats: wss://a/path", "nats: ''",
		"key: a key", "key_file: the.key",
		"cors: {origins: [https://app.example, 'http://localhost:3000', 'http://[::1]:8080', 'https://app.example:80', capacitor://localhost]}",
	} {
		_, err := loadFrom(t, text, nil)
		require.NoError(t, err, text)
	}
}

// An error ends up in logs: there is no password in it.
func TestConfig_wrongServerIsShownWithoutItsPassword(t *testing.T) {
	_, err := loadFrom(t, "nats: nats://me:s3cret@a:99999", nil)
	require.ErrorContains(t, err, `nats: "a:99999" is not a server`)
}

func TestKeyFileThatCannotBeSent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(path, []byte("one\ntwo\n"), 0o600))
	_, err := (&settings{KeyFile: path}).key()
	require.ErrorContains(t, err, "cannot be sent in a header")
}
