// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"compress/flate"
	"io"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// packFrom is from how many bytes on a text is packed: most files are smaller, and large
// ones are mostly the same words again.
const packFrom = 256 << 10

// packed is the text of a rule file, which somebody may want to see again.
type packed struct {
	kept     []byte // as it is, or deflated
	deflated bool
	len      int
	sum      uint64 // tells most other texts at once
}

// pack keeps nothing of src.
func pack(src string) packed {
	p := packed{len: len(src), sum: xxhash.Sum64String(src)}
	if len(src) < packFrom {
		p.kept = []byte(src)
		return p
	}
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestSpeed) // the level is one that there is
	// io.WriteString would copy all of it, for w takes bytes alone. So would the reader, by its WriteTo: it is hidden.
	_, _ = io.CopyBuffer(w, struct{ io.Reader }{strings.NewReader(src)}, make([]byte, 32<<10)) // never fails in memory
	_ = w.Close()
	p.deflated, p.kept = true, bytes.Clone(b.Bytes())
	return p
}

// is reports whether src is the text.
func (p *packed) is(src []byte) bool {
	return p.len == len(src) && p.sum == xxhash.Sum64(src) && bytes.Equal(p.bytes(), src)
}

// same reports whether both are of one text, which is packed in one way only.
func (p *packed) same(as *packed) bool {
	return p.len == as.len && p.sum == as.sum && p.deflated == as.deflated && bytes.Equal(p.kept, as.kept)
}

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
