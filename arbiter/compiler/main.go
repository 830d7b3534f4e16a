// SPDX-License-Identifier: Apache-2.0

package compiler

import (
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/rules"
)

// Main is the compiling process. In every other process it returns at once; call it before
// anything else in main.
func Main() {
	if len(os.Args) == 1 && os.Args[0] == argZero {
		os.Exit(compile())
	}
}

const (
	// From how large a source on garbage is collected all along. That of a smaller one ends with
	// the process: it is collected only when there is more of it than most files leave behind.
	collected = 16 << 20
	garbage   = 40 // bytes for each of the source
	least     = 128 << 20
	needed    = 20 // bytes for each of the source: what most files leave behind
	// idleFor is how long the process runs only when nobody else wants its CPU: then it takes its
	// turn, or a push to a busy machine would never end.
	idleFor = 5 * time.Second
)

// compile carries out one job and returns the exit status.
func compile() int {
	background()
	time.AfterFunc(idleFor, foreground)
	say, hear := gob.NewEncoder(os.Stdout), gob.NewDecoder(os.Stdin)
	if say.Encode(message{Kind: isUp}) != nil {
		return 1
	}
	var j job
	if hear.Decode(&j) != nil {
		return 1
	}
	stayOn(&j.CPUs)
	answers := make(chan answer)
	go func() {
		for {
			var a answer
			if hear.Decode(&a) != nil {
				os.Exit(1) // the daemon has ended, or wants no more
			}
			answers <- a
		}
	}()
	ask := func(m message) (answer, error) {
		if err := say.Encode(m); err != nil {
			return answer{}, fmt.Errorf("asking the daemon: %w", err)
		}
		a := <-answers
		if a.Err != "" {
			return a, errors.New(a.Err)
		}
		return a, nil
	}
	o := rules.Options{Epoch: j.Epoch}
	if j.Cgroups {
		o.CgroupID = func(path string) (uint64, error) {
			a, err := ask(message{asksCgroup, path})
			return a.ID, err
		}
	}
	if j.Programs {
		o.Program = func(path string) (dev, ino uint64, err error) {
			a, err := ask(message{asksProgram, path})
			return a.Dev, a.Ino, err
		}
	}
	if say.Encode(result(j, o)) != nil {
		return 1
	}
	return 0
}

// hugePages gives the heap so many bytes that come in huge pages, as far as there are any: to have
// it in pages of 4 KiB, one after the other, is a sixth of what compiling takes.
func hugePages(bytes int) {
	_ = unix.Madvise(make([]byte, bytes), unix.MADV_HUGEPAGE) // else it takes longer, no more
	runtime.GC()                                              // which leaves them to what is allocated next
}

// result compiles the file.
func result(j job, o rules.Options) message {
	source, image := os.NewFile(sourceFD, "source"), os.NewFile(imageFD, "image")
	if j.Size < collected {
		debug.SetGCPercent(-1)
		debug.SetMemoryLimit(int64(max(least, garbage*j.Size)))
		hugePages(needed * j.Size)
	}
	text := make([]byte, j.Size)
	if _, err := source.ReadAt(text, 0); err != nil {
		return message{hasFailed, "reading the source: " + err.Error()}
	}
	rs, err := rules.Load(j.Name, text, o)
	if err != nil {
		return message{Kind: isWrong}
	}
	if err := rs.WriteImage(image); err != nil {
		return message{hasFailed, "writing what was compiled: " + err.Error()}
	}
	return message{Kind: isDone}
}
