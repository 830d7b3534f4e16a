// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/arbiterd/arbiter/arbiter/audit"
)

func (a *app) packagesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "packages [PACKAGE]...",
		Short: "Print the digests of what Debian packages have installed, for a set",
		Long: `packages prints the SHA-256 of the programs and libraries that the installed packages have
brought, or those that are named, one on each line, behind a line for each package that begins
with #: the values of a set that rules name in object.sha256. It needs no daemon.

A file counts if it can be executed or is an ELF file; with --all every one does. Each is
compared with the checksum that dpkg has of it. One that is not what its package brought
is left out and named on stderr, and the exit code is 4. So are packages without checksums,
and those that dpkg has not done with. Files that are not there, and configuration files,
which have no checksum, are passed over.

The checksums are as good as what guards them: whoever can write to dpkg's database can
have anything listed.`,
		Example: `  arbiterctl rules packages | arbiterctl rules sets replace packages --file -
  arbiterctl rules packages coreutils bash dash`,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	root := cmd.Flags().String("root", "/", "the `directory` below which the packages are installed")
	all := cmd.Flags().Bool("all", false, "files that are no programs and libraries, too")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d, err := openDpkg(*root)
		if err != nil {
			return fail(exitFailure, "this reads dpkg's database, as on Debian and Ubuntu; elsewhere make the list with sha256sum | cut -c-64",
				fmt.Errorf("reading what is installed below %s: %w", quoteArg(*root), err))
		}
		defer d.close()
		wanted, err := d.named(args)
		if err != nil {
			return fail(exitFailure, "dpkg-query --list names those that are", err)
		}
		left := 0
		leave := func(what, why string) {
			left++
			fmt.Fprintf(a.stderr, "%s: left out: %s\n", audit.Quote(what), audit.Quote(why))
		}
		printed := map[[32]byte]bool{}
		for _, p := range wanted {
			if p.state != "installed" && !strings.HasPrefix(p.state, "triggers-") {
				leave(p.name, "it is "+p.state+": dpkg --configure -a")
				continue
			}
			var b strings.Builder
			err := d.files(p, func(f installed) {
				switch {
				case !f.executable && !*all:
				case !f.unchanged:
					leave(p.name+": "+f.path, "it is not what the package brought")
				case !printed[f.sha256]:
					printed[f.sha256] = true
					fmt.Fprintf(&b, "%x\n", f.sha256)
				}
			}, func(path, why string) { leave(p.name+": "+path, why) })
			switch {
			case errors.Is(err, fs.ErrNotExist):
				leave(p.name, "dpkg has no checksums of it")
			case err != nil:
				leave(p.name, err.Error())
			}
			if b.Len() > 0 {
				if err := a.print("# " + audit.Quote(p.name+" "+p.version+" "+p.arch) + "\n" + b.String()); err != nil {
					return err
				}
			}
		}
		fmt.Fprintf(a.stderr, "%s of %s\n", plural(len(printed), "digest"), plural(len(wanted), "package"))
		if left > 0 {
			return fail(exitRules, "install the packages again, or allow what was left out by rules of its own", fmt.Errorf("%s left out", plural(left, "thing")))
		}
		return nil
	}
	return cmd
}

// named returns the packages of those names, with or without :ARCHITECTURE, or all.
func (d *dpkg) named(names []string) ([]dpkgPackage, error) {
	if len(names) == 0 {
		return d.packages, nil
	}
	var out []dpkgPackage
	for _, name := range names {
		found := slices.ContainsFunc(d.packages, func(p dpkgPackage) bool { return name == p.name || name == p.name+":"+p.arch })
		if !found {
			return nil, fmt.Errorf("no package %s is installed", quoteArg(name))
		}
		for _, p := range d.packages {
			if (name == p.name || name == p.name+":"+p.arch) && !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out, nil
}
