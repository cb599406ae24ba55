package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

const (
	serverFlag     = "server"
	serverVariable = "MILLSTREAM_SERVER"
	keyVariable    = "MILLSTREAM_KEY" // no flag: others of the machine see those
	defaultServer  = "http://127.0.0.1:8080"
)

// remote is the server that a command talks to.
type remote struct {
	*client.Client
	address string
	screen  screen // of what is followed; nil: nothing is
	flags   string // that name it to another command; empty if the default or the variable does
}

// fault makes an error of a request one that ends the program; what the user
// has interrupted stays that, and so does output that could not be written.
func (r *remote) fault(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.As(err, new(*exitError)) {
		return err
	}
	return &exitError{exitServer, inPlainWords(r.address, err)}
}

// lost says that a watch waits for the server to come back.
func (r *remote) lost(id job.ID, err error) {
	if e := away(err); e != nil {
		err = e.Err
	}
	r.screen.lost(id, fmt.Sprintf("the server is away (%v): trying again", err))
}

// found says that the watch goes on.
func (r *remote) found(id job.ID) { r.screen.found(id) }

// serverFlags adds --server to a command.
func serverFlags(cmd *cobra.Command) {
	cmd.Flags().Var(newText(defaultServer, "url"), serverFlag, "the server to ask; "+serverVariable+" names another default, "+keyVariable+" the key it asks for")
}

// connect returns the server that the flag or the variable names.
func connect(cmd *cobra.Command) (*remote, error) {
	f := cmd.Flags().Lookup(serverFlag)
	address := f.Value.String()
	if v := os.Getenv(serverVariable); v != "" && !f.Changed {
		address = v
	}
	var flags string
	if f.Changed {
		flags = " --" + serverFlag + " " + address
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	r := &remote{address: address, flags: flags}
	var err error
	r.Client, err = client.New(address, &client.Options{Key: os.Getenv(keyVariable), Lost: r.lost, Found: r.found})
	return r, err
}

// local returns how this machine reaches what listens on an address: one that
// stands for all of its addresses cannot be asked.
func local(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
