// SPDX-License-Identifier: Apache-2.0

package abi

// Scan is what an anti-malware scanner has said of a file.
type Scan uint8

// The results. A file that could not be scanned, or not in full, has none of them.
const (
	ScanUnknown  Scan = iota // nobody has looked
	ScanClean                // nothing that the scanner knows is in it
	ScanInfected             // something is
	ScanCount
)

// SignatureBytes is how much is kept of the name of what was found; longer names are cut.
const SignatureBytes = 64

var scanNames = [ScanCount]string{ScanClean: "clean", ScanInfected: "infected"}

// String returns the result as rules and records write it, "" for ScanUnknown.
func (s Scan) String() string {
	if s < ScanCount {
		return scanNames[s]
	}
	return "unknown"
}

// ParseScan returns the result with that name, false when there is none.
func ParseScan(name string) (Scan, bool) {
	for s := ScanUnknown + 1; s < ScanCount; s++ {
		if scanNames[s] == name {
			return s, true
		}
	}
	return ScanUnknown, false
}

// SetScan makes the result of a scan known: the name of what was found, "" for nothing.
func (c *Content) SetScan(found string) {
	c.ForgetScan()
	c.Known |= FieldScan
	if c.Scan = ScanClean; found != "" {
		c.Scan = ScanInfected
		copy(c.Signature[:], found)
	}
}

// ForgetScan makes the result of a scan unknown.
func (c *Content) ForgetScan() {
	c.Known &^= FieldScan
	c.Scan, c.Signature = ScanUnknown, [SignatureBytes]byte{}
}
