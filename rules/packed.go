// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"io"
	"slices"
)

// packFrom is from how many bytes on a text is packed: most files are smaller, and large
// ones are mostly the same words again.
const packFrom = 256 << 10

// packed is the text of a rule file, which somebody may want to see again.
type packed struct {
	kept     []byte // as it is, or deflated
	deflated bool
	len      int
	sum      [sha256.Size]byte
}

// pack copies src.
func pack(src []byte) packed {
	p := packed{kept: src, len: len(src), sum: sha256.Sum256(src)}
	if len(src) >= packFrom {
		var b bytes.Buffer
		w, _ := flate.NewWriter(&b, flate.BestSpeed) // the level is one that there is
		_, _ = w.Write(src)                          // never fails in memory
		_ = w.Close()
		p.deflated, p.kept = true, b.Bytes()
	}
	p.kept = slices.Clone(p.kept)
	return p
}

func (p *packed) is(src []byte) bool { return p.len == len(src) && p.sum == sha256.Sum256(src) }

// parsed returns the file that the rule set was compiled from, for those who need positions
// in it.
func (rs *RuleSet) parsed() *File {
	f, err := Parse(rs.name, rs.Source())
	if err != nil {
		panic("BUG: a rule file that was read is wrong: " + err.Error())
	}
	return f
}

func (p *packed) bytes() []byte {
	if !p.deflated {
		return p.kept
	}
	b := bytes.NewBuffer(make([]byte, 0, p.len+bytes.MinRead))
	if _, err := io.Copy(b, flate.NewReader(bytes.NewReader(p.kept))); err != nil {
		panic("BUG: unpacking a rule file: " + err.Error()) // written by pack, in memory
	}
	return b.Bytes()
}
