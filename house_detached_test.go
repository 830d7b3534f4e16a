// SPDX-License-Identifier: Apache-2.0

//go:build !race

// This file reads programs that it builds without the race detector, whatever it runs under.

package house

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// detachedRoot is where detached code begins.
const detachedRoot = module + "/arbiter/detached.Run"

// behind says what is called where detached code calls by way of an interface, and at how many
// places. The linker cannot know, so it neither counts their stack nor could this test follow.
var behind = map[string]struct {
	places  int
	methods []string
}{
	detachedRoot:                                          {1, []string{"Detached"}},
	module + "/arbiter.(*worker).turn":                    {1, []string{"NextDetached"}},
	module + "/arbiter.(*worker).answerHit":               {1, []string{"ReplyDetached"}},
	module + "/arbiter.(*worker).parkDetached":            {1, []string{"ParkDetached"}},
	module + "/kernelbridge/ring.(*Source).serveDetached": {2, []string{"Served", "ServeDetached"}},
	module + "/kernelbridge/ring.(*Source).reply":         {1, []string{"Release"}},
	module + "/kernelbridge/ring.(*Source).ParkDetached":  {1, []string{"WaitDetached"}},
	module + "/kernelbridge/gate.(*Gate).sleep":           {2, []string{"State"}},
	module + "/kernelbridge/ring.(*FDParker).poll":        {1, []string{"DrainKicks"}},
	module + "/kernelbridge/gate.(*Parker).poll":          {1, []string{"DrainKicks"}},
}

// namesakes are methods with a name of behind that are not of its interfaces.
var namesakes = []string{module + "/arbiter/store.(*Store).Release", module + "/kernelbridge/abi.(*Word).State"}

// leaves are functions of others that detached code may call. They are not followed: each is
// nosplit, and takes no more stack than it says here, bytes.
var leaves = map[string]int{
	"runtime.entersyscall":                    0, // before and after what is detached
	"runtime.exitsyscall":                     0,
	"runtime.memmove":                         8,
	"runtime.memequal":                        8,
	"runtime.duffcopy":                        16,
	"runtime.duffzero":                        16,
	"internal/bytealg.IndexByte.abi0":         8,
	"runtime.nanotime":                        64,  // the rest is on the stack of the thread
	"runtime.panicBounds":                     0,   // ends the program, as nothing that is detached may panic: it is never called
	"syscall.RawSyscall":                      200, // with RawSyscall6 and Syscall6 of package internal/runtime/syscall
	"syscall.RawSyscall6":                     144,
	"syscall.Syscall6":                        0, // what is attached calls the same function: it is never called here
	"github.com/cespare/xxhash/v2.Sum64.abi0": 64,
}

// nosplitBytes is the stack that a nosplit function and all that it calls may take: the linker's
// limit, without a last return address.
const nosplitBytes = 784

// disassembled is what a function does to the stack, and what it calls.
type disassembled struct {
	frame    int // bytes, the return address among them
	calls    []string
	indirect int
}

var (
	reText  = regexp.MustCompile(`^TEXT (\S+)\(SB\)`)
	reCall  = regexp.MustCompile(`\sCALL (\S+)`)
	reJump  = regexp.MustCompile(`\sJMP (\S+)\(SB\)`)
	reFar   = regexp.MustCompile(`\sJMP ([A-Z]\w*|\S*\([A-Z]\w*\))$`) // to what a register or a pointer in memory says
	reFrame = regexp.MustCompile(`\s(SUBQ|ADDQ) \$(-?0x[0-9a-f]+), SP`)
)

// disassemble returns the functions of a program that have these names.
func disassemble(t *testing.T, program string, names []string) map[string]*disassembled {
	t.Helper()
	var patterns []string
	for _, n := range names {
		patterns = append(patterns, regexp.QuoteMeta(n))
	}
	out, err := exec.Command("go", "tool", "objdump", "-s", "^("+strings.Join(patterns, "|")+")$", program).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			out = exit.Stderr
		}
		t.Fatalf("disassembling: %v: %s", err, out)
	}
	found := map[string]*disassembled{}
	var now *disassembled
	for line := range strings.Lines(string(bytes.TrimSpace(out))) {
		line = strings.TrimRight(line, "\n\t ")
		if m := reText.FindStringSubmatch(line); m != nil {
			now = &disassembled{frame: 8}
			found[m[1]] = now
			continue
		}
		if now == nil {
			continue
		}
		if m := reCall.FindStringSubmatch(line); m != nil {
			if name, direct := strings.CutSuffix(m[1], "(SB)"); direct {
				now.calls = append(now.calls, name)
			} else {
				now.indirect++
			}
		} else if m := reJump.FindStringSubmatch(line); m != nil {
			now.calls = append(now.calls, m[1])
		} else if reFar.MatchString(line) {
			now.indirect++
		} else if m := reFrame.FindStringSubmatch(line); m != nil {
			n, err := strconv.ParseInt(m[2], 0, 32)
			if err != nil {
				t.Fatal(err)
			}
			if m[1] == "ADDQ" {
				n = -n
			}
			if n > 0 { // else it gives the frame back
				now.frame += int(n)
			}
		} else if strings.Contains(line, "PUSHQ") {
			now.frame += 8
		}
	}
	return found
}

// implementers returns the methods of this module with one of these names, by name, that are in
// a program.
func implementers(t *testing.T, program string) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "tool", "nm", program).Output()
	if err != nil {
		t.Fatalf("listing the symbols: %v", err)
	}
	found := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if name := f[len(f)-1]; strings.HasPrefix(name, module) && strings.Contains(name, ").") && !slices.Contains(namesakes, name) {
			method := name[strings.LastIndex(name, ").")+2:]
			found[method] = append(found[method], name)
		}
	}
	return found
}

// Detached code is nosplit, calls nothing of the Go runtime but what is listed, and fits into
// the stack that it has: see package arbiter/detached. It is read from machine code,
// so whatever the compiler adds is seen as well: a write barrier, a conversion to an
// interface, a copy of a function for a method value.
func TestDetachedCode(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("runs on amd64 only: nothing is detached elsewhere")
	}
	for _, command := range []string{"arbiterd", "arbiter-bench"} {
		t.Run(command, func(t *testing.T) {
			program := filepath.Join(t.TempDir(), command)
			build := exec.Command("go", "build", "-trimpath", "-o", program, "./cmd/"+command)
			build.Env = append(build.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("building it: %v\n%s", err, out)
			}
			functions := readDetached(t, program)
			depth, path := deepest(functions, detachedRoot, map[string]bool{}, t)
			if depth > nosplitBytes {
				t.Errorf("detached code takes %d bytes of stack, %d are to be had: %s", depth, nosplitBytes, strings.Join(path, ", "))
			}
			if len(functions) < 15 {
				t.Errorf("%d functions were read, want all of the detached code: %v", len(functions), slices.Sorted(maps.Keys(functions)))
			}
			t.Attr("detached", fmt.Sprintf("%d functions, %d bytes of stack", len(functions), depth))
		})
	}
}

// readDetached returns the detached functions of a program.
func readDetached(t *testing.T, program string) map[string]*disassembled {
	t.Helper()
	methods := implementers(t, program)
	functions := map[string]*disassembled{}
	for todo := []string{detachedRoot}; len(todo) > 0; {
		maps.Copy(functions, disassemble(t, program, todo))
		var next []string
		for _, name := range todo {
			f := functions[name]
			if f == nil {
				t.Fatalf("there is no function %s: was it renamed, or is the tag attached set?", name)
			}
			by := behind[name]
			if f.indirect != by.places {
				t.Errorf("%s calls by way of an interface, or of a pointer, at %d places, and %d are listed", name, f.indirect, by.places)
			}
			for _, method := range by.methods {
				if len(methods[method]) == 0 {
					t.Errorf("%s calls a method %s that nothing has", name, method)
				}
				f.calls = append(f.calls, methods[method]...)
			}
			for _, callee := range f.calls {
				if _, leaf := leaves[callee]; leaf || functions[callee] != nil || slices.Contains(next, callee) {
					continue
				}
				if !strings.HasPrefix(callee, module) {
					t.Errorf("%s calls %s, which detached code may not", name, callee)
					continue
				}
				next = append(next, callee)
			}
		}
		todo = next
	}
	return functions
}

// deepest returns the most stack that a function takes with all that it calls, bytes, and by
// which way.
func deepest(functions map[string]*disassembled, name string, above map[string]bool, t *testing.T) (int, []string) {
	if above[name] {
		t.Errorf("%s calls itself", name)
		return 0, nil
	}
	above[name] = true
	defer delete(above, name)
	f := functions[name]
	most, path := 0, []string(nil)
	for _, callee := range f.calls {
		n, way := leaves[callee], []string{callee}
		if functions[callee] != nil {
			n, way = deepest(functions, callee, above, t)
		}
		if n > most {
			most, path = n, way
		}
	}
	return f.frame + most, append([]string{fmt.Sprintf("%s %d", name, f.frame)}, path...)
}
