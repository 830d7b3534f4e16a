// SPDX-License-Identifier: Apache-2.0

package content

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// The cache never says what was not put, holds what was put last, and no more than it may.
func TestCacheIsTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 8).Draw(t, "entries")
		c := newCache(most)
		model := map[stamp]known{}
		gen := rapid.Custom(func(t *rapid.T) stamp {
			return stamp{ino: rapid.Uint64Range(0, 12).Draw(t, "ino"), ctime: rapid.Int64Range(0, 1).Draw(t, "ctime")}
		})
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			s := gen.Draw(t, "stamp")
			if rapid.Bool().Draw(t, "put") {
				found := known{Content: abi.Content{Known: abi.FieldDigest | abi.FieldFormat, Digest: [32]byte{byte(i), 1}, Format: abi.Format(1 + i%3)}}
				before, ok := c.get(s)
				if rapid.Bool().Draw(t, "scanned") {
					found.SetScan(strings.Repeat("x", i%3))
					found.edition = strings.Repeat("y", i)
				}
				c.put(s, found)
				if ok && found.Known&abi.FieldScan == 0 && before.Known&abi.FieldScan != 0 { // it is true still
					found.Known, found.Scan, found.Signature, found.edition = found.Known|abi.FieldScan, before.Scan, before.Signature, before.edition
				}
				model[s] = found
				if got, ok := c.get(s); !ok || got != found {
					t.Fatalf("put %v: got %v, %t", s, got, ok)
				}
			} else if got, ok := c.get(s); ok && got != model[s] {
				t.Fatalf("get %v: %v, want %v", s, got, model[s])
			}
			if len(c.entries) > most || len(c.at) != len(c.entries) {
				t.Fatalf("%d entries, %d found, want at most %d", len(c.entries), len(c.at), most)
			}
		}
	})
}

const table = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n" +
	"23 22 0:21 /x\\040y /proc rw - proc proc rw\n" +
	"2 1 0:1048575 / /a rw - overlay overlay rw\n"

func TestDeviceOf(t *testing.T) {
	for id, want := range map[uint64]uint64{22: 254 << 20, 23: 21, 2: 1048575} {
		if got, ok := deviceOf(strings.NewReader(table), id); got != want || !ok {
			t.Errorf("mount %d: %#x, %t; want %#x", id, got, ok, want)
		}
	}
	for name, text := range map[string]string{"missing": table, "short": "1 1", "no device": "1 1 x / /\n", "too large": "1 1 4096:0 / /\n"} {
		if got, ok := deviceOf(strings.NewReader(text), 1); ok {
			t.Errorf("%s: %#x", name, got)
		}
	}
}

func TestInodeOf(t *testing.T) {
	for text, want := range map[string]uint64{"pos:\t0\nflags:\t012\nmnt_id:\t29\nino:\t77\n": 77, "pos:\t0\n": 0, "ino:\tx\n": 0, "": 0} {
		if got, ok := inodeOf([]byte(text)); got != want || ok != (want != 0) {
			t.Errorf("%q: %d, %t; want %d", text, got, ok, want)
		}
	}
}

func FuzzDeviceOf(f *testing.F) {
	f.Add(table, uint64(22))
	f.Add("1 1 1:1 /", uint64(1))
	f.Fuzz(func(t *testing.T, text string, id uint64) {
		if len(text) > 1<<16 {
			t.Skip("longer than what the search bounds")
		}
		inodeOf([]byte(text))
		if dev, ok := deviceOf(strings.NewReader(text), id); ok && dev >= 1<<32 {
			t.Errorf("the device %#x", dev)
		}
	})
}
