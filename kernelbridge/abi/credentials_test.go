// SPDX-License-Identifier: Apache-2.0

package abi

import "testing"

func TestCredentials(t *testing.T) {
	f := func(text string, want Credentials) {
		t.Helper()
		got, ok := ParseCredentials(text)
		if got != want || ok != want.Known {
			t.Errorf("%q: got %+v, %t, want %+v", text, got, ok, want)
		}
		if want.Known && got.String() != text {
			t.Errorf("%q: written as %q", text, got.String())
		}
	}
	f("1000:3:0000000000200001:mnt,user", Credentials{true, 1000, 3, 1<<21 | 1, 1<<NamespaceMnt | 1<<NamespaceUser})
	f("unset:unset:ffffffffffffffff:", Credentials{true, NoLogin, NoSession, ^uint64(0), 0})
	f("0:unset:0000000000000000:pid", Credentials{true, 0, NoSession, 0, 1 << NamespacePID})
	f("unset:0:0000000000000000:pid", Credentials{true, NoLogin, 0, 0, 1 << NamespacePID})
	for _, bad := range []string{"", "1000:0000000000200001:mnt,user", "1:2:3", "a:3:0:mnt", "1:b:0:mnt", "1:4294967296:0:mnt", "1:3:x:mnt", "1:3:0:mount", "1:3:0:mnt,", "1:3:0:mnt:5", "1::0:mnt"} {
		f(bad, Credentials{})
	}
	if got := (Credentials{LoginUID: 1}).String(); got != "" {
		t.Errorf("not known: written as %q, want nothing", got)
	}
}
