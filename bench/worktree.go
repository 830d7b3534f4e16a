// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// work is what a developer's machine does all day, in a tree that is made for it.
type work struct {
	id   string
	what string // for people
	// needs are the programs without which there is no such work.
	needs []string
	// prepare are scripts that sh runs once, run is the one that is timed.
	prepare, run string
	files        func() map[string]string
	// want is what run writes.
	want string
	// least is how many files, folders and programs of the tree run opens and executes at least.
	least int
}

const (
	buildUnits   = 16  // C files, and headers that each includes
	sourceFolder = 100 // folders of the tree that is looked through
	sourceFiles  = 20  // files in each of them
	// MaxWorkPart is into how many parts the work can be cut.
	MaxWorkPart = 16
)

// WorkPartEnv names a number in the environment, N: the work is an Nth, 1 without it. For a
// machine that is emulated, and takes some thirty times as long for everything.
const WorkPartEnv = "ARBITER_BENCH_WORK_PART"

// workPart returns N; what cannot be one is 1.
func workPart() int {
	n, err := strconv.Atoi(os.Getenv(WorkPartEnv))
	if err != nil || n < 1 || n > MaxWorkPart {
		return 1
	}
	return n
}

// works are all kinds, an Nth of each.
func works(part int) []work {
	units, folders := buildUnits/part, sourceFolder/part
	searched := strconv.Itoa(folders * sourceFiles)
	tree := func() map[string]string { return sourceTree(folders) }
	return []work{
		{id: "build", what: fmt.Sprintf("compile, link and run %d C files", units), needs: []string{"cc"}, want: strconv.Itoa(units * (units + 1) / 2),
			files: func() map[string]string { return buildFiles(units) }, least: (units + 1) * units, // each file opens all headers
			run: "set -e; rm -rf obj; mkdir obj; for f in src/*.c; do n=${f##*/}; cc -O1 -Iinclude -c $f -o obj/${n%.c}.o; done; cc -o obj/program obj/*.o; ./obj/program"},
		{id: "find", what: "find " + searched + " files", needs: []string{"find"}, files: tree, want: searched, least: folders,
			run: "find . -name '*.txt' -type f -print | wc -l"},
		{id: "grep", what: "grep through " + searched + " files", needs: []string{"grep"}, files: tree, want: searched, least: folders * sourceFiles,
			run: "grep -rl --include='*.txt' line . | wc -l"},
		// The files are older than the index, so git looks at each and opens none but folders and its own.
		{id: "git", what: "git status of " + searched + " files", needs: []string{"git"}, files: tree, want: "0", least: folders,
			prepare: "set -e; git init -q .; git add .; git -c user.name=bench -c user.email=bench@localhost -c gc.auto=0 commit -q -m all",
			run:     "git -c core.checkStat=default status --porcelain | wc -l"},
	}
}

// buildFiles is a small project: each unit includes all headers.
func buildFiles(units int) map[string]string {
	files := map[string]string{}
	var includes, calls strings.Builder
	for i := range units {
		fmt.Fprintf(&includes, "#include \"unit%02d.h\"\n", i)
		files[fmt.Sprintf("include/unit%02d.h", i)] = fmt.Sprintf("#ifndef UNIT%02d\n#define UNIT%02d\nint unit%02d(void);\n#endif\n", i, i, i)
		fmt.Fprintf(&calls, " + unit%02d()", i)
	}
	for i := range units {
		files[fmt.Sprintf("src/unit%02d.c", i)] = fmt.Sprintf("%s#include <string.h>\nint unit%02d(void) { return (int)strlen(\"%s\"); }\n", includes.String(), i, strings.Repeat("x", i+1))
	}
	files["src/main.c"] = "#include <stdio.h>\n" + includes.String() + "int main(void) { printf(\"%d\\n\", 0" + calls.String() + "); return 0; }\n"
	return files
}

// sourceTree is a tree of small files.
func sourceTree(folders int) map[string]string {
	files := map[string]string{}
	for d := range folders {
		for f := range sourceFiles {
			files[fmt.Sprintf("part%02d/folder%03d/file%02d.txt", d%10, d, f)] = strings.Repeat(fmt.Sprintf("line %d of file %d\n", d, f), 20)
		}
	}
	return files
}

// writeFiles makes the tree.
func writeFiles(root string, files map[string]string) error {
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("making the tree of the work: %w", err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return fmt.Errorf("making the tree of the work: %w", err)
		}
	}
	return nil
}

// check says whether the work did what it has to do.
func (w *work) check(out []byte) error {
	if got := string(bytes.TrimSpace(out)); got != w.want {
		return fmt.Errorf("doing the work %s: it wrote %q, want %q", w.id, got, w.want)
	}
	return nil
}
