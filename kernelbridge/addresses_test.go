// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"strings"
	"testing"
)

func TestNoAddress(t *testing.T) {
	f := func(name, kallsyms string, want bool) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			if got := noAddress(strings.NewReader(kallsyms)); got != want {
				t.Errorf("got %t, want %t", got, want)
			}
		})
	}
	f("hidden", "0000000000000000 T _stext\n0000000000000000 D init_user_ns\n", true)
	f("shown", "0000000000000000 A fixed_percpu_data\nffffffff81000000 T _stext\nffffffff82000000 D init_user_ns\n", false)
	f("of functions alone", "ffffffff81000000 T _stext\nffffffff81000010 t put_init_user_ns\n", true)
	f("empty", "", true)
}

// Each of the programs' addresses can be forgotten, so that the loader looks none up.
func TestForgetAddresses(t *testing.T) {
	spec, err := loadHooks()
	if err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		for _, p := range spec.Programs {
			for _, ins := range p.Instructions {
				if kernelAddresses[ins.Reference()] {
					n++
				}
			}
		}
		return n
	}
	if count() == 0 {
		t.Fatal("the programs look at no address, want the four of the kernel's variables")
	}
	for name := range kernelAddresses {
		found := false
		for _, p := range spec.Programs {
			for _, ins := range p.Instructions {
				found = found || ins.Reference() == name
			}
		}
		if !found {
			t.Errorf("no program looks at the address of %s", name)
		}
	}
	forgetAddresses(spec.Programs)
	if n := count(); n != 0 {
		t.Errorf("%d instructions still look at an address", n)
	}
}
