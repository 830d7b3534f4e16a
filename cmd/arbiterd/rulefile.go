// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter/signature"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/rules"
)

// signedFile is a rule file with its signature.
type signedFile struct {
	source    []byte
	signature []byte // nil: there is none
}

func (t signedFile) sum() [sha256.Size]byte {
	h := sha256.New()
	for _, part := range [][]byte{t.source, t.signature} {
		sum := sha256.Sum256(part)
		h.Write(sum[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// ruleFile is what this process has seen in the rule file: a SIGHUP for the sake of
// the verdict log must not take back what was pushed by hand since.
type ruleFile struct {
	known  bool
	sum    [sha256.Size]byte
	failed bool   // it could not be put in force
	epoch  uint64 // in force then
}

func (f *ruleFile) read(text signedFile, epoch uint64, failed bool) {
	*f = ruleFile{known: true, sum: text.sum(), failed: failed, epoch: epoch}
}

// settled reports whether there is nothing to push: the contents were read before.
// What failed is tried again while nothing else has been pushed.
func (f *ruleFile) settled(text signedFile, epoch uint64) bool {
	return f.known && f.sum == text.sum() && !(f.failed && f.epoch == epoch)
}

// compareFile reads the rule file beside a set of the store that is in force and says
// what differs, "" for nothing.
func (d *daemon) compareFile(inForce *rules.RuleSet) string {
	if d.cfg.Rules == "" {
		return ""
	}
	stored := fmt.Sprintf("the stored rule set of epoch %d is in force", inForce.Epoch())
	text, err := readRules(d.cfg.Rules)
	if err != nil {
		return fmt.Sprintf("%s; %v", stored, err)
	}
	d.file.read(text, inForce.Epoch(), false)
	if inForce.SourceIs(text.source) {
		return ""
	}
	rs, err := rules.Load(d.cfg.Rules, text.source, rules.Options{CgroupID: kernelbridge.CgroupID})
	if err == nil && rs.Fingerprint() == inForce.Fingerprint() {
		return ""
	}
	return fmt.Sprintf("%s, and the rule file says otherwise; to put it in force: arbiterctl rules push %s", stored, d.cfg.Rules)
}

// readRules reads the rule file of the configuration, and the signature if there is one
// beside it.
func readRules(path string) (signedFile, error) {
	source, err := readRuleFile(path, rules.MaxFileBytes)
	if err != nil {
		return signedFile{}, err
	}
	sig, err := signature.ReadFile(path+signature.Suffix, nil)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return signedFile{}, fmt.Errorf("reading the signature of the rule file: %w; repair %s%s, or take it away", err, path, signature.Suffix)
	}
	return signedFile{source, sig}, nil
}

// readRuleFile reads the rule file of the configuration: a regular file of at most so many
// bytes, so that it neither waits for a writer nor fills the memory.
func readRuleFile(path string, most int64) ([]byte, error) {
	wrong := func(err error) error {
		return fmt.Errorf("reading the rule file: %w; repair it, or give another in rules", err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, wrong(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, wrong(err)
	}
	if !info.Mode().IsRegular() {
		return nil, wrong(fmt.Errorf("%s is no regular file (%s)", path, info.Mode()))
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, wrong(err)
	}
	if int64(len(b)) > most {
		return nil, wrong(fmt.Errorf("%s has more than the %d bytes that a rule file may have", path, most))
	}
	return b, nil
}
