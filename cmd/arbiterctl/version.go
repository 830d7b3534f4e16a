// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/arbiterd/arbiter/arbiter/audit"
)

// build is what version says; the json tags are what -o json prints.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // the commit, -dirty behind it when the tree was changed
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of arbiterctl; status prints the daemon's",
		Args:  noArgs,
	}
	out := outputFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		b := thisBuild()
		if out.json() {
			return a.printJSON(b)
		}
		return a.print(audit.Quote(b.text()) + "\n")
	}
	return cmd
}

// text names the commit once: the version of a build between releases holds it.
func (b build) text() string {
	text := fmt.Sprintf("arbiterctl %s, %s, %s", b.Version, b.Go, b.Platform)
	if b.Revision != "" && !strings.Contains(b.Version, b.Revision[:min(12, len(b.Revision))]) {
		text += ", commit " + b.Revision
	}
	return text
}

func thisBuild() build {
	b := build{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	dirty := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.Revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if b.Revision != "" {
		b.Revision += dirty
	}
	return b
}
