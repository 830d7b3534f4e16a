// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// TestCommandReference compares docs/cli.md with the commands.
func TestCommandReference(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "cli.md")
	got := reference()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("docs/cli.md differs from the commands (-file +commands), rewrite it with go test ./cmd/arbiterctl -update:\n%s", diff)
	}
}

// TestExitCodesAgree wants every exit code in the help topic and in docs/cli.md,
// with the same words.
func TestExitCodesAgree(t *testing.T) {
	var help bytes.Buffer
	a := testApp(nil, &help, io.Discard)
	if code := a.run([]string{"help", "exit-codes"}); code != 0 {
		t.Fatalf("help exit-codes exits with %d", code)
	}
	doc := reference()
	for code, meaning := range exitCodes {
		if meaning == "" {
			t.Errorf("exit code %d has no meaning", code)
		}
		if want := fmt.Sprintf("  %d  %s\n", code, meaning); !strings.Contains(help.String(), want) {
			t.Errorf("help exit-codes does not say %q:\n%s", want, &help)
		}
		if want := fmt.Sprintf("| %d | %s |\n", code, meaning); !strings.Contains(doc, want) {
			t.Errorf("docs/cli.md does not say %q", want)
		}
	}
	if len(exitCodes) != exitIncomplete+1 {
		t.Errorf("%d exit codes have a meaning, want %d", len(exitCodes), exitIncomplete+1)
	}
}

// TestEveryCommandIsDescribed keeps commands and flags from being silent.
func TestEveryCommandIsDescribed(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short description %q, want one without a full stop", cmd.CommandPath(), cmd.Short)
		}
		for line := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
			if len(line) > 100 && !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: line of %d bytes: %s", cmd.CommandPath(), len(line), line)
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(testApp(nil, io.Discard, io.Discard).root())
}

// testApp is an app that does not see the environment of the test.
func testApp(stdin io.Reader, stdout, stderr io.Writer) *app {
	a := newApp(stdin, stdout, stderr)
	a.getenv = func(string) string { return "" }
	return a
}

// reference returns docs/cli.md.
func reference() string {
	root := testApp(nil, io.Discard, io.Discard).root()
	var b strings.Builder
	b.WriteString("# The command line of arbiterctl\n\n<!-- Written by go test ./cmd/arbiterctl -update; change the commands instead. -->\n\n")
	b.WriteString(root.Long + "\n\n```sh\n" + unindent(root.Example) + "\n```\n\n")
	b.WriteString("Flags of every command:\n\n" + flagList(root))
	b.WriteString("\n`arbiterctl completion bash|zsh|fish|powershell` prints a completion script for that shell; `arbiterctl completion bash --help` says how to load it.\n")
	b.WriteString("\n## Exit codes\n\n| code | meaning |\n|---|---|\n")
	for code, meaning := range exitCodes {
		fmt.Fprintf(&b, "| %d | %s |\n", code, meaning)
	}
	b.WriteString("\nA message on stderr says what happened; a line that begins with `next:` says what to do. `arbiterctl help exit-codes` prints this table.\n")
	section(&b, root)
	return b.String()
}

func section(b *strings.Builder, cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		if !sub.Runnable() {
			continue
		}
		if sub.HasSubCommands() {
			section(b, sub)
			continue
		}
		long := sub.Long
		if long == "" {
			long = sub.Short + "."
		}
		fmt.Fprintf(b, "\n## %s\n\n```\n%s\n```\n\n%s\n", sub.CommandPath(), sub.UseLine(), long)
		if sub.Example != "" {
			b.WriteString("\n```sh\n" + unindent(sub.Example) + "\n```\n")
		}
		if flags := flagList(sub); flags != "" {
			b.WriteString("\n" + flags)
		}
	}
}

// flagList returns the flags that a command has of its own.
func flagList(cmd *cobra.Command) string {
	text := cmd.NonInheritedFlags().FlagUsages()
	if text == "" {
		return ""
	}
	return "```\n" + unindent(text) + "\n```\n"
}

// unindent takes the blanks that all lines begin with away.
func unindent(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	common := len(s)
	for _, l := range lines {
		common = min(common, len(l)-len(strings.TrimLeft(l, " ")))
	}
	for i, l := range lines {
		lines[i] = l[common:]
	}
	return strings.Join(lines, "\n")
}
