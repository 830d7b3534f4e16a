// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	_ "embed"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// The compiler leaves enums and macros that only stand in code out of the BTF, so
// the constants are compared with the header that both programs are compiled from.
//
//go:embed bpf/arb_abi.h
var abiHeader string

// constants are the header's enumerators and numeric macros as Go has them.
var constants = map[string]uint64{
	"ARB_VERSION":           abi.Version,
	"ARB_MAX_RULES":         abi.MaxKernelRules,
	"ARB_MAX_TESTS":         abi.MaxKernelTests,
	"ARB_DECIDE_COUNT":      ring.DecideCount,
	"ARB_DECIDE_BEFORE":     ring.DecideBefore,
	"ARB_DECIDE_ODD":        ring.DecideOdd,
	"ARB_MAX_PATTERNS":      abi.MaxKernelPatterns,
	"ARB_PATTERN_BYTES":     abi.KernelPatternBytes,
	"ARB_PATTERN_LENS":      abi.MaxKernelBeginnings,
	"ARB_TEST_UID":          uint64(abi.KernelUID),
	"ARB_TEST_EUID":         uint64(abi.KernelEUID),
	"ARB_TEST_GID":          uint64(abi.KernelGID),
	"ARB_TEST_EGID":         uint64(abi.KernelEGID),
	"ARB_TEST_ACCESS":       uint64(abi.KernelAccess),
	"ARB_TEST_ARG":          uint64(abi.KernelArg),
	"ARB_SLOTS":             abi.Slots,
	"ARB_PATH_BYTES":        abi.PathBytes,
	"ARB_CGROUP_LEVELS":     abi.CgroupLevels,
	"ARB_ARGS":              abi.Args,
	"ARB_NAME_BYTES":        abi.NameBytes,
	"ARB_MAX_WORKERS":       abi.MaxWorkers,
	"ARB_MAX_CPUS":          abi.MaxCPUs,
	"ARB_FIRST_GEN":         abi.FirstGen,
	"ARB_NOTICE_PATH_BYTES": noticePathBytes,
	"ARB_SAMPLES":           1024, // bounds native.go's runChunk, see below

	"ARB_NS_CGROUP": uint64(abi.NamespaceCgroup), "ARB_NS_IPC": uint64(abi.NamespaceIPC), "ARB_NS_MNT": uint64(abi.NamespaceMnt),
	"ARB_NS_NET": uint64(abi.NamespaceNet), "ARB_NS_USER": uint64(abi.NamespaceUser), "ARB_NS_UTS": uint64(abi.NamespaceUTS),
	"ARB_NS_PID": uint64(abi.NamespacePID), "ARB_NS_COUNT": uint64(abi.NamespaceCount),

	// The events themselves are compared by their names.
	"ARB_EVENT_NONE": uint64(abi.EventNone), "ARB_EVENT_COUNT": uint64(abi.EventCount),

	"ARB_REASON_NONE":               uint64(abi.ReasonNone),
	"ARB_REASON_NO_WORKER":          uint64(abi.ReasonNoWorker),
	"ARB_REASON_RING_FULL":          uint64(abi.ReasonRingFull),
	"ARB_REASON_DEADLINE":           uint64(abi.ReasonDeadline),
	"ARB_REASON_INTERRUPTED":        uint64(abi.ReasonInterrupted),
	"ARB_REASON_GATE_DEAD":          uint64(abi.ReasonGateDead),
	"ARB_REASON_UNSUPPORTED_CALLER": uint64(abi.ReasonUnsupportedCaller),
	"ARB_REASON_FACTS_TRUNCATED":    uint64(abi.ReasonFactsTruncated),
	"ARB_REASON_WORKER_ERROR":       uint64(abi.ReasonWorkerError),
	"ARB_REASON_COUNT":              uint64(abi.KernelReasons),

	"ARB_FREE": uint64(abi.Free), "ARB_FILLING": uint64(abi.Filling), "ARB_POSTED": uint64(abi.Posted),
	"ARB_TAKEN": uint64(abi.Taken), "ARB_DONE": uint64(abi.Done), "ARB_ABANDONED": uint64(abi.Abandoned), "ARB_UNWOUND": uint64(abi.Unwound),
	"ARB_SLEEPING": uint64(abi.Sleeping), "ARB_KEEP": uint64(abi.Keep),

	"ARB_ACCESS_READ": uint64(abi.AccessRead), "ARB_ACCESS_WRITE": uint64(abi.AccessWrite),
	"ARB_ACCESS_EXEC": uint64(abi.AccessExec), "ARB_ACCESS_APPEND": uint64(abi.AccessAppend),
	"ARB_ACCESS_TRUNCATE": uint64(abi.AccessTruncate), "ARB_ACCESS_CREATED": uint64(abi.AccessCreated),

	"ARB_FIELD_PATH": uint64(abi.FieldPath), "ARB_FIELD_EXE": uint64(abi.FieldExe),
	"ARB_FIELD_UID": uint64(abi.FieldUID), "ARB_FIELD_GID": uint64(abi.FieldGID),
	"ARB_FIELD_CGROUP": uint64(abi.FieldCgroup), "ARB_FIELD_ACCESS": uint64(abi.FieldAccess),
	"ARB_FIELD_DETAIL": uint64(abi.FieldDetail), "ARB_FIELD_ARGS": uint64(abi.FieldArgs), "ARB_FIELD_TREE": uint64(abi.FieldTree),
	"ARB_FIELD_CREDENTIALS": uint64(abi.FieldCredentials),
	"ARB_FIELD_SIZE":        uint64(abi.FieldSize),
	"ARB_FIELD_KEEP":        uint64(abi.FieldKeep),

	"ARB_FLAG_PATH_TRUNCATED": uint64(abi.FlagPathTruncated), "ARB_FLAG_NO_EXE": uint64(abi.FlagNoExe),
	"ARB_FLAG_NO_OBJECT": uint64(abi.FlagNoObject), "ARB_FLAG_DETAIL_TRUNCATED": uint64(abi.FlagDetailTruncated),

	"ARB_PLACE_KEPT": placeKept, "ARB_PLACE_TREE": placeTree, "ARB_PLACE_WAY": placeWay,
	"ARB_LEAF_BYTES": leafBytes, "ARB_HOOK_COUNT": uint64(len(guardHooks)),

	"ARB_SCOPE_TREES": ring.ScopeTrees, "ARB_SCOPE_CGROUPS": ring.ScopeCgroups, "ARB_SCOPE_PARITY": ring.ScopeParity,
	"ARB_SCOPE_UIDS": ring.ScopeUIDs, "ARB_SCOPE_MOUNTED": ring.ScopeMounted, "ARB_SCOPE_EXES": ring.ScopeExes, "ARB_SCOPE_LINEAGE": ring.ScopeLineage,
	"ARB_SCOPE_DIMS": uint64(dimensions), "ARB_SCOPE_INIT": ring.ScopeInit, "ARB_SCOPE_SERVICES": ring.ScopeServices, "ARB_SCOPE_CGROUP1": ring.ScopeCgroup1, "ARB_SCOPE_COUNT": ring.ScopeCount,
}

func TestConstants(t *testing.T) {
	header := headerConstants(t, abiHeader)
	for _, name := range slices.Sorted(maps.Keys(header)) {
		got, ok := constants[name]
		if e, event := strings.CutPrefix(name, "ARB_EVENT_"); event && !ok {
			var of abi.Event
			of, ok = abi.ParseEvent(strings.ToLower(e))
			got = uint64(of)
		}
		if h, hook := strings.CutPrefix(name, "ARB_HOOK_"); hook && !ok {
			for i := range guardHooks {
				if guardHooks[i].name == strings.ToLower(h) {
					got, ok = uint64(i), true
				}
			}
		}
		if !ok {
			t.Errorf("%s is %d in the header and not compared with Go", name, header[name])
			continue
		}
		if want := header[name]; got != want {
			t.Errorf("%s is %d in Go, want %d as in the header", name, got, want)
		}
	}
	for name := range constants {
		if _, ok := header[name]; !ok {
			t.Errorf("the header has no %s", name)
		}
	}
	if runChunk > header["ARB_SAMPLES"] {
		t.Errorf("one run asks %d times, want at most %d, what it keeps the durations of", runChunk, header["ARB_SAMPLES"])
	}
}

// The words that operators see are the header's, in lower case.
func TestConstantNames(t *testing.T) {
	f := func(prefix string, count int, name func(int) string) {
		t.Helper()
		for i := range count {
			c := prefix + strings.ToUpper(name(i))
			if got, ok := constants[c]; !ok || got != uint64(i) {
				t.Errorf("value %d is called %q; %s is %d (there: %t)", i, name(i), c, got, ok)
			}
		}
	}
	f("ARB_REASON_", int(abi.KernelReasons), func(i int) string { return abi.Reason(i).String() })
	f("ARB_", int(abi.Unwound)+1, func(i int) string { return abi.State(i).String() })
}

// Every struct of the header has its mirror in the layout test.
func TestLayoutIsComplete(t *testing.T) {
	found := regexp.MustCompile(`(?m)^struct (arb_\w+) \{`).FindAllStringSubmatch(abiHeader, -1)
	for _, m := range found {
		if _, ok := mirrors[m[1]]; !ok && !strings.Contains(abiHeader, "\tstruct "+m[1]+" ") {
			t.Errorf("struct %s is not compared with Go", m[1])
		}
	}
	if len(found) < len(mirrors) {
		t.Errorf("the header has %d structs, Go mirrors %d", len(found), len(mirrors))
	}
}

// headerConstants reads the enumerators and the macros that are numbers.
func headerConstants(t *testing.T, src string) map[string]uint64 {
	t.Helper()
	out := map[string]uint64{}
	src = regexp.MustCompile(`(?s)/\*.*?\*/`).ReplaceAllString(src, "")
	for _, m := range regexp.MustCompile(`(?m)^#define (ARB_\w+)[ \t]+(\w+)\s*$`).FindAllStringSubmatch(src, -1) {
		out[m[1]] = number(t, m[2])
	}
	for _, m := range regexp.MustCompile(`(?s)enum \w+ \{(.*?)\}`).FindAllStringSubmatch(src, -1) {
		next := uint64(0)
		for _, item := range strings.Split(m[1], ",") {
			name, value, given := strings.Cut(strings.TrimSpace(item), "=")
			if name = strings.TrimSpace(name); name == "" {
				continue
			}
			if given {
				a, b, shifted := strings.Cut(value, "<<")
				next = number(t, a)
				if shifted {
					next <<= number(t, b)
				}
			}
			out[name] = next
			next++
		}
	}
	return out
}

func number(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimRight(strings.TrimSpace(s), "uU"), 0, 64)
	if err != nil {
		t.Fatalf("reading a number of the header: %v", err)
	}
	return n
}
