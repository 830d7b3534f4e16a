// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"structs"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// mirrors are the C structs of bpf/arb_abi.h and what the Go side has for them. What
// stands only inside of another one is compared with that.
var mirrors = map[string]reflect.Type{
	"arb_header":        reflect.TypeFor[ring.Header](),
	"arb_slot":          reflect.TypeFor[ring.Slot](),
	"arb_facts":         reflect.TypeFor[ring.Facts](),
	"arb_counts":        reflect.TypeFor[Counts](),
	"arb_notice":        reflect.TypeFor[notice](),
	"arb_tree":          reflect.TypeFor[treeKey](),
	"arb_cgroup_key":    reflect.TypeFor[cgroupKey](),
	"arb_uid_range":     reflect.TypeFor[uidRange](),
	"arb_scope_config":  reflect.TypeFor[scopeConfig](),
	"arb_marking":       reflect.TypeFor[marking](),
	"arb_native_args":   reflect.TypeFor[nativeQueueArbNativeArgs](),
	"arb_protection":    reflect.TypeFor[protectArbProtection](),
	"arb_guarded":       reflect.TypeFor[protectArbGuarded](),
	"arb_token":         reflect.TypeFor[protectArbToken](),
	"arb_place":         reflect.TypeFor[protectArbPlace](),
	"arb_refusals":      reflect.TypeFor[protectArbRefusals](),
	"arb_refusal":       reflect.TypeFor[protectArbRefusal](),
	"arb_test":          reflect.TypeFor[kernelTest](),
	"arb_rule":          reflect.TypeFor[kernelRule](),
	"arb_pattern":       reflect.TypeFor[kernelPattern](),
	"arb_pattern_rules": reflect.TypeFor[patternRules](),
	"arb_pattern_lens":  reflect.TypeFor[patternLens](),
}

// objects are the compiled programs and the structs that each of them must show.
func objects(t *testing.T) map[string]*ebpf.CollectionSpec {
	t.Helper()
	file, err := loadHooks()
	if err != nil {
		t.Fatalf("reading the file hooks: %v", err)
	}
	native, err := loadNativeQueue()
	if err != nil {
		t.Fatalf("reading the native queue: %v", err)
	}
	protect, err := loadProtect()
	if err != nil {
		t.Fatalf("reading the self-protection: %v", err)
	}
	lineage, err := loadLineage()
	if err != nil {
		t.Fatalf("reading the programs on process trees: %v", err)
	}
	return map[string]*ebpf.CollectionSpec{"hooks": file, "native": native, "protect": protect, "lineage": lineage}
}

// Every struct of the shared memory has the same members in Go and in each
// compiled object: name, offset, size and kind, down to the last.
func TestLayout(t *testing.T) {
	only := map[string]string{"arb_tree": "hooks", "arb_test": "hooks", "arb_rule": "hooks", "arb_pattern": "hooks", "arb_pattern_rules": "hooks", "arb_pattern_lens": "hooks", "arb_native_args": "native", "arb_protection": "protect", "arb_guarded": "protect",
		"arb_token": "protect", "arb_place": "protect", "arb_refusals": "protect", "arb_refusal": "protect",
		"arb_cgroup_key": "hooks", "arb_uid_range": "hooks", "arb_scope_config": "hooks", "arb_marking": "lineage"}
	for object, spec := range objects(t) {
		for name, g := range mirrors {
			if o := only[name]; o != object && (o != "" || object == "protect" || object == "lineage") {
				continue
			}
			t.Run(object+"/"+name, func(t *testing.T) {
				var c *btf.Struct
				if err := spec.Types.TypeByName(name, &c); err != nil {
					t.Fatalf("struct %s in the BTF of the object: %v", name, err)
				}
				for _, d := range differences(name, c, g) {
					t.Error(d)
				}
			})
		}
	}
}

// What is decoded from bytes instead of mapped must have no hidden padding.
func TestLayoutDecoded(t *testing.T) {
	for _, v := range []any{notice{}, Counts{}, treeKey{}, protectArbRefusal{}, cgroupKey{}, uidRange{}, scopeConfig{}, marking{}} {
		if got, want := binary.Size(v), int(reflect.TypeOf(v).Size()); got != want {
			t.Errorf("%T is %d bytes when decoded, want %d", v, got, want)
		}
	}
}

func TestLayoutMaps(t *testing.T) {
	type shape struct{ key, value, entries uint32 }
	want := map[string]shape{
		"arb_header": {4, uint32(ring.HeaderBytes), 1},
		"arb_slots":  {4, uint32(ring.SlotsBytes / abi.Slots), abi.Slots},
		"arb_counts": {4, uint32(reflect.TypeFor[Counts]().Size()), uint32(abi.EventCount)},
		// Of the hooks alone.
		"arb_trees":         {uint32(reflect.TypeFor[treeKey]().Size()), 4, 8 * maxScope},
		"arb_cgroups":       {uint32(reflect.TypeFor[cgroupKey]().Size()), 4, 4*maxScope + 2*maxServices},
		"arb_mounted":       {8, 4, 4 * maxScope},
		"arb_uids":          {4, 8, 4 * maxUIDs},
		"arb_scope_configs": {4, uint32(reflect.TypeFor[scopeConfig]().Size()), 2},
		"arb_roots":         {uint32(reflect.TypeFor[treeKey]().Size()), 8, 2 * maxRoots},
		// Of the programs on process trees alone.
		"arb_markings": {4, uint32(reflect.TypeFor[marking]().Size()), 1},
		// Of the native object alone.
		"arb_question": {4, uint32(ring.SlotsBytes / abi.Slots), 1},
		"arb_samples":  {4, 8, 1024},
		// Of the self-protection alone.
		"arb_protection": {4, 8, 1},
		"arb_refusals":   {4, uint32(reflect.TypeFor[protectArbRefusals]().Size()), uint32(len(guardHooks))},
		"arb_guarded":    {4, uint32(reflect.TypeFor[protectArbGuarded]().Size()), 64},
	}
	seen := map[string]bool{}
	for object, spec := range objects(t) {
		for name, m := range spec.Maps {
			w, ok := want[name]
			if !ok {
				continue // a ring buffer, or a section
			}
			seen[name] = true
			if got := (shape{m.KeySize, m.ValueSize, m.MaxEntries}); got != w {
				t.Errorf("map %s of %s: key, value, entries %v, want %v", name, object, got, w)
			}
		}
	}
	for name := range want {
		if !seen[name] {
			t.Errorf("no object has the map %s", name)
		}
	}
}

// differences compares a C type with its Go mirror and says where they differ.
func differences(at string, c btf.Type, g reflect.Type) []string {
	c = btf.UnderlyingType(c)
	size, err := btf.Sizeof(c)
	if err != nil {
		return []string{fmt.Sprintf("%s: size of %v: %v", at, c, err)}
	}
	var out []string
	if uint64(size) != uint64(g.Size()) {
		out = append(out, fmt.Sprintf("%s: %d bytes in C, %d in Go", at, size, g.Size()))
	}
	switch c := c.(type) {
	case *btf.Int:
		want := []reflect.Kind{reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64}
		if c.Encoding == btf.Signed {
			want = []reflect.Kind{reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64}
		}
		if !slices.Contains(want, g.Kind()) {
			out = append(out, fmt.Sprintf("%s: %s (%s) in C, %s in Go", at, c.Name, c.Encoding, g))
		}
	case *btf.Array:
		if g.Kind() != reflect.Array || g.Len() != int(c.Nelems) {
			return append(out, fmt.Sprintf("%s: %d elements in C, %s in Go", at, c.Nelems, g))
		}
		out = append(out, differences(at+"[]", c.Type, g.Elem())...)
	case *btf.Struct:
		if g.Kind() != reflect.Struct {
			return append(out, fmt.Sprintf("%s: a struct in C, %s in Go", at, g))
		}
		out = append(out, memberDifferences(at, c, g)...)
	default:
		out = append(out, fmt.Sprintf("%s: %v in C has no place in shared memory", at, c))
	}
	return out
}

func memberDifferences(at string, c *btf.Struct, g reflect.Type) []string {
	var fields []reflect.StructField
	for i := range g.NumField() {
		if f := g.Field(i); f.Type != reflect.TypeFor[structs.HostLayout]() {
			fields = append(fields, f)
		}
	}
	if len(fields) != len(c.Members) {
		return []string{fmt.Sprintf("%s: %d members in C, %d in Go", at, len(c.Members), len(fields))}
	}
	var out []string
	for i, m := range c.Members {
		f := fields[i]
		name := at + "." + m.Name
		if !sameName(m.Name, f.Name) {
			out = append(out, fmt.Sprintf("%s: in its place Go has %s", name, f.Name))
		}
		if m.BitfieldSize != 0 || uint64(m.Offset.Bytes()) != uint64(f.Offset) {
			out = append(out, fmt.Sprintf("%s: offset %d in C (bits of a bit field: %d), %d in Go", name, m.Offset.Bytes(), m.BitfieldSize, f.Offset))
		}
		out = append(out, differences(name, m.Type, f.Type)...)
	}
	return out
}

// sameName reports whether a C member and a Go field are called the same, for
// padding too: pad, pad_heart and pad32 are _.
func sameName(c, g string) bool {
	if g == "_" {
		return strings.HasPrefix(c, "pad")
	}
	return strings.EqualFold(strings.ReplaceAll(c, "_", ""), g)
}

// The comparison itself must notice what it is there for.
func TestLayoutNoticesChanges(t *testing.T) {
	u8 := &btf.Int{Name: "__u8", Size: 1}
	u32 := &btf.Int{Name: "__u32", Size: 4}
	u64 := &btf.Int{Name: "__u64", Size: 8}
	c := &btf.Struct{Name: "s", Size: 24, Members: []btf.Member{
		{Name: "one_ns", Type: u64},
		{Name: "two", Type: u32, Offset: 8 * 8},
		{Name: "pad", Type: u32, Offset: 12 * 8},
		{Name: "bytes", Type: &btf.Array{Index: u32, Type: u8, Nelems: 8}, Offset: 16 * 8},
	}}
	type same struct {
		_     structs.HostLayout
		OneNS uint64
		Two   uint32
		_     uint32
		Bytes [8]byte
	}
	if got := differences("s", c, reflect.TypeFor[same]()); len(got) != 0 {
		t.Fatalf("the same layout differs: %q", got)
	}
	f := func(name string, g reflect.Type) {
		t.Helper()
		if len(differences("s", c, g)) == 0 {
			t.Errorf("%s is not noticed", name)
		}
	}
	f("a moved member", reflect.TypeFor[struct {
		Two   uint32
		_     uint32
		OneNS uint64
		Bytes [8]byte
	}]())
	f("two members of one size exchanged", reflect.TypeFor[struct {
		OneNS uint64
		_     uint32
		Two   uint32
		Bytes [8]byte
	}]())
	f("another name", reflect.TypeFor[struct {
		TwoNS uint64
		Two   uint32
		_     uint32
		Bytes [8]byte
	}]())
	f("another sign", reflect.TypeFor[struct {
		OneNS int64
		Two   uint32
		_     uint32
		Bytes [8]byte
	}]())
	f("another type of one size", reflect.TypeFor[struct {
		OneNS float64
		Two   uint32
		_     uint32
		Bytes [8]byte
	}]())
	f("a member less", reflect.TypeFor[struct {
		OneNS uint64
		Two   uint32
		Bytes [12]byte
	}]())
	f("a narrower element", reflect.TypeFor[struct {
		OneNS uint64
		Two   uint32
		_     uint32
		Bytes [4]uint16
	}]())
	f("a longer array", reflect.TypeFor[struct {
		OneNS uint64
		Two   uint32
		_     uint32
		Bytes [16]byte
	}]())
}
