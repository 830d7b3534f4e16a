// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/arbiter/signature"
)

// signatureFlag adds --signature; the func returns the signature of a rule file, nil when
// there is none and none was named.
func signatureFlag(cmd *cobra.Command) func(ruleFile string) ([]byte, error) {
	named := cmd.Flags().String("signature", "", "file of the signature, when it is not FILE"+signature.Suffix)
	return func(ruleFile string) ([]byte, error) {
		file := *named
		if file == "" {
			if ruleFile == "-" {
				return nil, nil
			}
			file = ruleFile + signature.Suffix
		}
		sig, err := signature.ReadFile(file, nil)
		if *named == "" && errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, fail(exitFailure, "give a signature that you can read", fmt.Errorf("reading the signature from %s: %w", quoteArg(file), withoutPath(err)))
		}
		return sig, nil
	}
}

// signatureFlags adds --signature and --no-signature.
func signatureFlags(cmd *cobra.Command) func(ruleFile string) ([]byte, error) {
	read := signatureFlag(cmd)
	none := cmd.Flags().Bool("no-signature", false, "push without the signature that lies beside the file")
	return func(ruleFile string) ([]byte, error) {
		switch {
		case *none && cmd.Flags().Changed("signature"):
			return nil, usage(cmd, errors.New("--signature and --no-signature: give one of them"))
		case *none:
			return nil, nil
		}
		return read(ruleFile)
	}
}

// defaultKeys is where the documents put the keys that a daemon trusts.
const defaultKeys = "/etc/arbiter/keys"

// verified is what verify prints with -o json.
type verified struct {
	File    string `json:"file"`
	KeyID   string `json:"key_id"`
	Serial  uint64 `json:"serial"`
	Comment string `json:"trusted_comment"`
	Base64  string `json:"trusted_comment_b64,omitempty"` // when it is not UTF-8
}

func (a *app) verifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify FILE|-",
		Short: "Verify the signature of a rule file without the daemon",
		Long: `verify compares a rule file with its signature, FILE.minisig, and prints whose it is, its
serial, and the whole trusted comment. It needs no daemon, and so it does not know which
serials were in force already. It exits with 4 when the signature is not accepted.`,
		Example: `  arbiterctl rules verify rules.yaml --keys keys/`,
		Args:    a.oneArg("a rule file, or - for stdin"),
	}
	read := signatureFlag(cmd)
	dir := cmd.Flags().String("keys", defaultKeys, "directory of the public keys that are trusted, *.pub")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		keys, err := signature.ReadKeys(*dir, nil)
		if err != nil {
			return fail(exitFailure, "name the directory of the trusted public keys with --keys", err)
		}
		text, name, err := a.readRules(cmd, args[0])
		if err != nil {
			return err
		}
		sig, err := read(args[0])
		if err != nil {
			return err
		}
		refused := signature.Missing()
		var s signature.Signed
		if sig != nil {
			if s, err = keys.Verify(text, sig); err == nil {
				return a.printVerified(name, s, out.json())
			}
			errors.As(err, &refused) // every error of Verify is one
		}
		return fail(exitRules, refused.Next, fmt.Errorf("verifying %s: %w", quoteArg(name), refused))
	}
	return cmd
}

func (a *app) printVerified(name string, s signature.Signed, json bool) error {
	if !json {
		return a.print(fmt.Sprintf("%s: signed by key %s, serial %d\ntrusted comment: %s\n", audit.Quote(name), s.KeyID, s.Serial, audit.Quote(s.Comment)))
	}
	v := verified{File: name, KeyID: s.KeyID, Serial: s.Serial, Comment: s.Comment}
	if !utf8.ValidString(s.Comment) {
		v.Comment, v.Base64 = audit.Quote(s.Comment), base64.StdEncoding.EncodeToString([]byte(s.Comment))
	}
	return a.printJSON(v)
}

// signingText says whose signatures count, and what of the rules in force.
func signingText(g *controlv1.SigningState) string {
	text := "not required"
	if g.Required {
		text = "required"
	}
	text += ", trusted: " + audit.Quote(strings.Join(g.TrustedKeys, ", "))
	if g.Serial != 0 {
		text += fmt.Sprintf("; in force: key %s, serial %d", audit.Quote(g.KeyId), g.Serial)
	}
	return text + fmt.Sprintf("; next serial: above %d", g.HighestSerial)
}

// withoutPath takes the path out of an error of the file system: it is not quoted there.
func withoutPath(err error) error {
	if p := new(fs.PathError); errors.As(err, &p) {
		return p.Err
	}
	return err
}
