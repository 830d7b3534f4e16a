// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/signature"
)

func (a *app) signCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign a rule file, for machines without minisign",
		Long: `sign writes FILE.minisig: what "minisign -S -t serial:N -m FILE" writes, whose keys it
reads. N goes up with every file; "arbiterctl status" says above what. Sign where the
secret key is, which is not the machine that the rules are for.

The password is read from the terminal without showing it, or from the first line of
--password-file. To read an encrypted key takes a GiB of memory.`,
		Example: `  arbiterctl rules sign rules.yaml --key ops.key --serial 42 --comment "ticket 7"`,
		Args:    a.oneArg("a rule file"),
	}
	keyFile := cmd.Flags().String("key", "", "file of the secret key")
	serial := cmd.Flags().Uint64("serial", 0, "number of this file, above all that were signed before")
	comment := cmd.Flags().String("comment", "", "what else to sign, one line")
	password := passwordFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *keyFile == "" || *serial == 0 {
			return usage(cmd, errors.New("give --key, and --serial above 0"))
		}
		data, err := signature.ReadFile(*keyFile, nil)
		var key signature.SecretKey
		if err == nil {
			key, err = signature.OpenSecretKey(data, func() (string, error) { return a.readSecret(cmd.Context(), "password", *password) })
		}
		if err != nil {
			return fail(exitFailure, "give the file that arbiterctl rules keygen or minisign -G has written, and its password", fmt.Errorf("reading the secret key from %s: %w", quoteArg(*keyFile), withoutPath(err)))
		}
		text, name, err := a.readRules(cmd, args[0])
		if err != nil {
			return err
		}
		if name != args[0] {
			return usage(cmd, errors.New("give a file: its signature is written beside it"))
		}
		sig, err := key.Sign(text, *serial, *comment)
		if err != nil {
			return usage(cmd, fmt.Errorf("signing: %w", err))
		}
		if err := writeSignature(name+signature.Suffix, sig); err != nil {
			return err
		}
		return a.print(fmt.Sprintf("%s: signed by key %s, serial %d\n", audit.Quote(name+signature.Suffix), key.ID(), *serial))
	}
	return cmd
}

func writeSignature(file string, sig []byte) error {
	if err := os.WriteFile(file, sig, 0o644); err != nil {
		return fail(exitFailure, "", fmt.Errorf("writing the signature to %s: %w", quoteArg(file), withoutPath(err)))
	}
	return nil
}

func passwordFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("password-file", "", "file with the password of the secret key, - for stdin")
}

func (a *app) keygenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keygen NAME",
		Short: "Make a key to sign rule files with, for machines without minisign",
		Long: `keygen makes a secret key, NAME.key, and its public key, NAME.pub, as "minisign -G" does.
The public one goes into the daemon's trusted_keys. The secret one is encrypted with a
password, which is read twice from the terminal without showing it, or from the first
line of --password-file; to encrypt takes a GiB of memory. Files that are there stay.`,
		Example: `  arbiterctl rules keygen ops
  sudo install -m 0644 ops.pub /etc/arbiter/keys/`,
		Args: a.oneArg("a name for the two files"),
	}
	password := passwordFlag(cmd)
	none := cmd.Flags().Bool("no-password", false, "do not encrypt the secret key")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		secret := ""
		if !*none {
			var err error
			if secret, err = a.newPassword(cmd.Context(), *password); err != nil {
				return fail(exitFailure, "give a password with --password-file, or --no-password", fmt.Errorf("reading the password: %w", withoutPath(err)))
			}
		}
		key, err := signature.NewSecretKey()
		var sealed []byte
		if err == nil {
			sealed, err = key.Seal(secret)
		}
		if err != nil {
			return fail(exitFailure, "", err)
		}
		for _, file := range []struct {
			name string
			data []byte
			mode os.FileMode
		}{{args[0] + ".key", sealed, 0o600}, {args[0] + ".pub", key.Public(), 0o644}} {
			if err := writeNew(file.name, file.data, file.mode); err != nil {
				return fail(exitFailure, "choose another name, or move the file away", fmt.Errorf("writing %s: %w", quoteArg(file.name), withoutPath(err)))
			}
		}
		return a.print(fmt.Sprintf("key %s: keep %s secret; the daemon trusts %s in its trusted_keys\n", key.ID(), audit.Quote(args[0]+".key"), audit.Quote(args[0]+".pub")))
	}
	return cmd
}

// newPassword reads a password; from the terminal twice, because nobody sees what he types.
func (a *app) newPassword(ctx context.Context, file string) (string, error) {
	first, err := a.readSecret(ctx, "password", file)
	if err != nil || file != "" {
		return first, err
	}
	again, err := a.readSecret(ctx, "password again", file)
	if err == nil && first != again {
		err = errors.New("the two differ")
	}
	return first, err
}

// writeNew writes a file that is not there yet.
func writeNew(name string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
