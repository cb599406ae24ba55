package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/millstream/millstream/broker"
)

func backupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup FILE|-",
		Short: "Copies the store of a server that is stopped",
		Long: `Writes an embedded store into a file, which must not be there yet, or to standard
output: a tar, zstd, with the checksum of each file in it. It has the jobs, their
results and the store's secrets: keep it as you keep those.

A store that a server has open is not copied: stop it first. Damage is copied as it is;
'millstream verify' finds it.`,
		Example: `  millstream backup store.tar.zst
  millstream backup --data /var/lib/millstream - | ssh backup 'cat >millstream.tar.zst'`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := storeDir(cmd)
			if err != nil {
				return err
			}
			if args[0] == "-" {
				return backupTo(cmd, dir, cmd.OutOrStdout())
			}
			return backupFile(cmd, dir, args[0])
		},
	}
	dataFlags(cmd)
	return cmd
}

// backupTo writes the backup to standard output.
func backupTo(cmd *cobra.Command, dir string, out io.Writer) error {
	if isTerminal(out) {
		return errors.New("a backup is no text: send it to a file or another program")
	}
	return copied(cmd, dir, func(ctx context.Context, progress func(int64, int64)) (broker.Copied, error) {
		return broker.Backup(ctx, dir, out, progress)
	})
}

// backupFile writes the backup into a file, which is there once it is whole.
func backupFile(cmd *cobra.Command, dir, name string) error {
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return ofStore(cmp.Or(err, fmt.Errorf("%s is there already: nothing is written over", name)))
	}
	part := name + ".part"
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return &exitError{exitFailed, err}
	}
	err = copied(cmd, dir, func(ctx context.Context, progress func(int64, int64)) (broker.Copied, error) {
		c, err := broker.Backup(ctx, dir, f, progress)
		if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
			err = os.Rename(part, name)
		}
		return c, err
	})
	if err != nil {
		_ = os.Remove(part)
	}
	return err
}

func restoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore FILE|-",
		Short: "Puts a backup back into an empty directory",
		Long: `Puts back what 'millstream backup' wrote, from a file or standard input, into a
directory that has nothing in it. Every checksum is looked at; if one is wrong, or
anything is missing or too much, nothing is left of it.

What was submitted after the backup is gone, and its job ids answer 404. Who reads a
job with a cursor of that time is told to start over ('stream.reset').`,
		Example: `  millstream restore --data /var/lib/millstream store.tar.zst
  ssh backup 'cat millstream.tar.zst' | millstream restore --data /var/lib/millstream -`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := storeDir(cmd)
			if err != nil {
				return err
			}
			in := cmd.InOrStdin()
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return ofStore(err)
				}
				defer f.Close()
				in = f
			}
			return copied(cmd, dir, func(ctx context.Context, progress func(int64, int64)) (broker.Copied, error) {
				return broker.Restore(ctx, dir, bufio.NewReaderSize(in, 1<<20), progress)
			})
		},
	}
	dataFlags(cmd)
	return cmd
}

// copied copies a store and says how much of it there was.
func copied(cmd *cobra.Command, dir string, do func(ctx context.Context, progress func(done, total int64)) (broker.Copied, error)) error {
	bar := newMeter(cmd.ErrOrStderr())
	c, err := do(cmd.Context(), bar.set)
	bar.close()
	if err != nil {
		return ofStore(err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s: %d files, %d bytes\n", clean(dir), c.Files, c.Bytes)
	return nil
}
