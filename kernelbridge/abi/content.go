// SPDX-License-Identifier: Apache-2.0

package abi

// Format is what kind of file something is by its first bytes.
type Format uint8

// The formats.
const (
	FormatUnknown Format = iota // nobody has looked
	FormatELF                   // it begins with 0x7f E L F: a program, a library, an object, a core
	FormatScript                // it begins with #!
	FormatOther                 // anything else, an empty file too
	FormatCount
)

// HeadBytes is how much of a file FormatOf has to see.
const HeadBytes = 4

var formatNames = [FormatCount]string{FormatELF: "elf", FormatScript: "script", FormatOther: "other"}

// FormatOf returns the format of a file by its first HeadBytes bytes, fewer only where it has
// no more.
func FormatOf(head []byte) Format {
	switch {
	case len(head) >= HeadBytes && string(head[:HeadBytes]) == "\x7fELF":
		return FormatELF
	case len(head) >= 2 && string(head[:2]) == "#!":
		return FormatScript
	}
	return FormatOther
}

// String returns the format as rules and records write it, "" for FormatUnknown.
func (f Format) String() string {
	if f < FormatCount {
		return formatNames[f]
	}
	return "unknown"
}

// ParseFormat returns the format with that name, false when there is none.
func ParseFormat(name string) (Format, bool) {
	for f := FormatUnknown + 1; f < FormatCount; f++ {
		if formatNames[f] == name {
			return f, true
		}
	}
	return FormatUnknown, false
}

// Content is what somebody has found out about the content of a file.
type Content struct {
	Known  Fields // of ContentFields, those that are filled in
	Format Format
	Verity Verity
	Digest [32]byte // SHA-256
	Scan   Scan
	// Signature is what the scanner calls what it has found, NUL behind it.
	Signature [SignatureBytes]byte
}

// Learn gives r what c knows.
func (r *Request) Learn(c *Content) {
	if c.Known&FieldDigest != 0 {
		r.Digest, r.Flags = c.Digest, r.Flags|FlagDigest
	}
	if c.Known&FieldFormat != 0 {
		r.Format = c.Format
	}
	if c.Known&FieldVerity != 0 {
		r.Verity = c.Verity
	}
	if c.Known&FieldScan != 0 {
		r.Scan, r.Signature = c.Scan, c.Signature
	}
	r.Have |= c.Known
}

// Content returns which facts of the content of the object r has.
func (r *Request) Content() (has Fields) {
	if r.Flags&FlagDigest != 0 {
		has |= FieldDigest
	}
	if r.Format != FormatUnknown {
		has |= FieldFormat
	}
	if r.Verity.Alg != VerityUnknown {
		has |= FieldVerity
	}
	if r.Scan != ScanUnknown {
		has |= FieldScan
	}
	return has
}

// ForgetContent makes those of the given facts that are about the content unknown. What a
// request has of Have is left to the caller.
func (r *Request) ForgetContent(f Fields) {
	if f&ContentFields == ContentFields {
		r.Flags &^= FlagNoContent
	}
	if f&FieldDigest != 0 {
		r.Flags &^= FlagDigest
	}
	if f&FieldFormat != 0 {
		r.Format = FormatUnknown
	}
	if f&FieldVerity != 0 {
		r.Verity = Verity{}
	}
	if f&FieldScan != 0 && r.Scan != ScanUnknown { // else there is no name either
		r.Scan, r.Signature = ScanUnknown, [SignatureBytes]byte{}
	}
}

// modeFormat and modeRegular are S_IFMT and S_IFREG of stat(2).
const (
	modeFormat  = 0o170000
	modeRegular = 0o100000
)

// NoContent reports whether it is known that the object is no file with a content: there
// is none, or it is a directory, a device, a fifo.
func (r *Request) NoContent() bool {
	format := r.Mode & modeFormat
	return r.Flags&(FlagNoObject|FlagNoContent) != 0 || format != 0 && format != modeRegular
}

// SetNoContent makes r one whose object has no content, whatever else is known of it.
func (r *Request) SetNoContent() { r.Flags |= FlagNoContent }
