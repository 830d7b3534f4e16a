// SPDX-License-Identifier: Apache-2.0

//go:build !race

// The work is done by spin and a C compiler; the race detector has nothing to see here.

package model

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	runFor    = 5 * time.Minute // one run; some seconds on an idle machine
	memoryMiB = 1500            // one run; the largest takes half of it
	maxDepth  = 10000           // steps of the longest run, some hundred today
	lastSteps = 60              // of a trail, in a failure's message
)

// Two runs at a time, whatever the number of CPUs: they have 4 GiB between them.
var turns = make(chan struct{}, 2)

// configurations are what must hold. All have two tasks, two workers and one slot, and
// each task asks twice, unless it says otherwise.
var configurations = []struct {
	name  string
	flags string
}{
	// Nobody who saw a worker poll needs another wake-up.
	{"hot rung alone", "-DKICK -DHOT_ONLY -DGIVE_UP"},
	{"kick", "-DKICK -DGIVE_UP"},
	{"kick, two slots", "-DKICK -DGIVE_UP -DSLOTS=2"},
	// Nobody who sleeps is forgotten: a sleep has no end of its own here.
	{"gate", "-DGATE -DGIVE_UP"},
	{"gate, two slots", "-DGATE -DSLOTS=2"},
	{"gate or kick", "-DGATE -DKICK -DGIVE_UP -DASKS=1"},
	{"gate, workers never park", "-DGATE -DNEVER_PARK"},
	{"gate, SIGKILL", "-DGATE -DGIVE_UP -DKILLS=1 -DASKS=1"},
	{"gate, a signal", "-DGATE -DSIGNALS=1 -DASKS=1"},
	{"gate, a signal and SIGKILL, one task", "-DGATE -DGIVE_UP -DSIGNALS=1 -DKILLS=1 -DREQUESTERS=1"},
	{"gate, the heart", "-DGATE -DHEART=1 -DASKS=1"},
	{"gate, the heart and a signal, one task", "-DGATE -DHEART=1 -DSIGNALS=1 -DREQUESTERS=1"},
	{"gate, a stranger in it", "-DGATE -DFOREIGN -DASKS=1"},
	{"gate, a stranger in it, workers never park", "-DGATE -DFOREIGN -DASKS=1 -DNEVER_PARK"},
	// Whatever order a reader has, the swap alone loses nobody.
	{"gate, a stranger in it, the facts before the word", "-DGATE -DFOREIGN -DASKS=1 -DTID_FIRST"},
	{"gate, a signal, told at once", "-DGATE -DSIGNALS=1 -DASKS=1 -DTELL_AT_ONCE"},
	{"gate, another LSM before it", "-DGATE -DKICK -DREFUSED -DGIVE_UP -DASKS=1"},
	// Everybody has an outcome without a worker, too.
	{"kick, death", "-DKICK -DDEATH"},
	{"gate, death", "-DGATE -DDEATH -DASKS=1"},
	{"gate, death, SIGKILL, one task", "-DGATE -DDEATH -DKILLS=1 -DREQUESTERS=1"},
	// No run goes on for ever.
	{"kick, cycles", "-DKICK -DGIVE_UP -DASKS=1" + cycles},
	{"gate, cycles", "-DGATE -DGIVE_UP -DASKS=1" + cycles},
	{"gate, a signal, cycles", "-DGATE -DSIGNALS=1 -DREQUESTERS=1" + cycles},
	{"gate, death, cycles", "-DGATE -DDEATH -DREQUESTERS=1" + cycles},
}

// cycles looks for cycles instead of final states.
const cycles = " -DNP"

func TestEveryOrder(t *testing.T) {
	tools(t)
	for _, tt := range configurations {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := check(t, tt.flags)
			if r.errors != "0" {
				t.Fatalf("got %s errors, want 0: %s\n%s", r.errors, r.first(), r.trail(t))
			}
			if why := r.incomplete(); why != "" {
				t.Fatalf("not every state was looked at: %s\n%s", why, r.text)
			}
			t.Attr("seen", fmt.Sprintf("spin looked at all %s states of the queue: %s", r.states, tt.name))
		})
	}
}

// mistakes are changes of the protocol that break it, so that the model is known to see
// such breaches.
var mistakes = []struct {
	name  string
	flags string
	want  string // what spin calls it
}{
	{"MUT_ABANDON_STORE", "-DKICK -DGIVE_UP", isWrong},
	{"MUT_BIT_AFTER_TAKE", "-DKICK -DGIVE_UP", isLost},
	{"MUT_BIT_BEFORE_WORD", "-DKICK", isLost},
	{"MUT_CLAIM_STORE", "-DKICK", isWrong},
	{"MUT_HEART_WAKES_NOBODY", "-DGATE -DHEART=1 -DASKS=1", isLost},
	{"MUT_LATE_AS_ANSWER", "-DKICK -DGIVE_UP", isWrong},
	{"MUT_NO_GENERATION", "-DKICK -DGIVE_UP", isWrong},
	{"MUT_PARK_WITHOUT_LOOK", "-DKICK -DHOT_ONLY", isLost},
	{"MUT_POST_BEFORE_FACTS", "-DKICK", isWrong},
	{"MUT_REGISTER_WITHOUT_LOOK", "-DGATE", isLost},
	{"MUT_REPLY_NO_RETRY", "-DGATE", isWrong},
	{"MUT_SLEEPER_STORE", "-DGATE -DSIGNALS=1 -DASKS=1 -DTELL_AT_ONCE", isLost},
	{"MUT_SLEEPER_STORE", "-DGATE -DKILLS=1 -DASKS=1 -DTELL_AT_ONCE", isLost},
	{"MUT_SLEEPER_STORE", "-DGATE -DFOREIGN -DASKS=1 -DTID_FIRST", isLost},
	{"MUT_SLEEP_NO_RETRY", "-DGATE", isLost},
	{"MUT_SLEEP_STORE", "-DGATE", isWrong},
	{"MUT_TAKE_ANY_GENERATION", "-DGATE -DGIVE_UP", isWrong},
	{"MUT_TAKE_NO_RETRY", "-DGATE", isLost},
	{"MUT_WAKE_WITHOUT_SCAN", "-DGATE", isLost},
	// A generation that comes round while a worker decides.
	{"GENERATIONS=2", "-DKICK -DGIVE_UP", isWrong},
}

const (
	isLost  = "invalid end state" // somebody waits and nobody will come
	isWrong = "assertion violated"
)

func TestMistakesAreFound(t *testing.T) {
	tools(t)
	for _, tt := range mistakes {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := check(t, tt.flags+" -D"+tt.name)
			if r.errors == "0" || !strings.Contains(r.first(), tt.want) {
				t.Errorf("got %s errors, first %q, want %q", r.errors, r.first(), tt.want)
			}
		})
	}
}

// Each mistake that the model can make is tried.
func TestMistakesAreAllListed(t *testing.T) {
	text, err := os.ReadFile("queue.pml")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range mistakes {
		if strings.HasPrefix(m.name, "MUT_") {
			got = append(got, m.name)
		}
	}
	want := regexp.MustCompile(`MUT_[A-Z_]+[A-Z]`).FindAllString(string(text), -1)
	slices.Sort(got)
	slices.Sort(want)
	got, want = slices.Compact(got), slices.Compact(want)
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("mistakes that are tried: got %q, want %q", got, want)
	}
}

// The steps of the model are named after functions that are there.
func TestNamesAreThere(t *testing.T) {
	model, err := os.ReadFile("queue.pml")
	if err != nil {
		t.Fatal(err)
	}
	var code []byte
	for _, pattern := range []string{"../bpf/arb_*.h", "../ring/*.go", "../gate/*.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("looking for %s: got %v, %v", pattern, names, err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			code = append(code, b...)
		}
	}
	names := namedFunc.FindAllStringSubmatch(string(model), -1)
	for _, m := range names {
		name := m[1] + m[2]
		if m[3] != "" { // a file
			continue
		}
		// In Go with a receiver or in an interface, in C after its type.
		if !regexp.MustCompile(`(?m)(^func \(.*\) |^\t|^static .*\b)` + name + `\(`).Match(code) {
			t.Errorf("got no function %s in kernelbridge/bpf, ring or gate, want one", name)
		}
	}
	if len(names) < 25 {
		t.Errorf("names in queue.pml: got %d, want 25 or more: are they still written as they were?", len(names))
	}
}

var namedFunc = regexp.MustCompile(`\b(?:(arb_[a-z_]+[a-z])|(?:Source|Slots|Gate|Parker|sleepers|device)\.(\w+))(\.h)?`)

// tools skips the test where it cannot run.
func tools(t *testing.T) {
	t.Helper()
	for _, p := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip("the program " + p + " is not installed")
		}
	}
}

// result is what pan, the verifier that spin writes, said.
type result struct {
	dir, flags     string
	text           string
	errors, states string
}

var (
	errorsLine = regexp.MustCompile(`(?m)^State-vector .* errors: (\d+)$`)
	statesLine = regexp.MustCompile(`(?m)^ *([\d.e+]+) states, stored`)
)

// check runs spin, the compiler and the verifier, with flags for the first two.
func check(t *testing.T, flags string) *result {
	t.Helper()
	turns <- struct{}{}
	defer func() { <-turns }()
	r := &result{dir: t.TempDir(), flags: flags}
	text, err := os.ReadFile("queue.pml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "queue.pml"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	compile := []string{"-O1", "-w", fmt.Sprintf("-DMEMLIM=%d", memoryMiB), "-o", "pan", "pan.c"}
	search := []string{fmt.Sprintf("-m%d", maxDepth)}
	model := strings.Fields(flags)
	if strings.Contains(flags, cycles) {
		model = strings.Fields(strings.Replace(flags, cycles, "", 1))
		compile, search = append(compile, "-DNP"), append(search, "-l")
	} else {
		compile = append(compile, "-DSAFETY")
	}
	r.run(t, "spin", append(model, "-a", "queue.pml")...)
	r.run(t, "gcc", compile...)
	r.text = r.run(t, "./pan", search...)
	errors, states := errorsLine.FindStringSubmatch(r.text), statesLine.FindStringSubmatch(r.text)
	if errors == nil || states == nil {
		t.Fatalf("the verifier does not say how it ended:\n%s", r.text)
	}
	r.errors, r.states = errors[1], states[1]
	return r
}

// run runs one program to its end, and returns what it printed.
func (r *result) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runFor)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = r.dir
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("running %s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// first is the first breach, "" for none.
func (r *result) first() string {
	for line := range strings.Lines(r.text) {
		if what, ok := strings.CutPrefix(line, "pan:1: "); ok {
			return strings.TrimSpace(what)
		}
	}
	return ""
}

// incomplete says why the search was not of all states, "" if it was. Without bit-state
// hashing, which is not compiled in, nothing else cuts it short.
func (r *result) incomplete() string {
	for _, s := range []string{"max search depth too small", "Search not completed", "reached -DMEMLIM", "out of memory", "hash table is full"} {
		if strings.Contains(r.text, s) {
			return s
		}
	}
	if !strings.Contains(r.text, "Full statespace search") {
		return "no full search"
	}
	return ""
}

// trail tells the way to the breach, its last steps.
func (r *result) trail(t *testing.T) string {
	t.Helper()
	args := append(strings.Fields(r.flags), "-p", "-k", "queue.pml.trail", "queue.pml")
	lines := strings.SplitAfter(r.run(t, "spin", args...), "\n")
	return strings.Join(lines[max(0, len(lines)-lastSteps):], "")
}
