// SPDX-License-Identifier: Apache-2.0

package clamd

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// errUnscanned: clamd is there, and has not read the file to its end.
var errUnscanned = errors.New("clamd has not scanned the file")

// exceeded begins the names that clamd gives to what is beyond its limits, with AlertExceedsMax:
// that is no finding, it is the lack of one.
const exceeded = "Heuristics.Limits.Exceeded"

// shown is how much of a reply that is not understood goes into an error, bytes.
const shown = 120

// verdict reads a reply to FILDES: the name of what was found, "" for nothing. Whatever is not
// exactly one of the two is an error.
func verdict(reply []byte) (signature string, err error) {
	// fd[11]: OK, fd[11]: Name FOUND, fd[11]: Reason ERROR, or the reason alone: session.c and
	// scanner.c of clamd.
	rest, ok := bytes.CutPrefix(reply, []byte("fd["))
	number, rest, cut := bytes.Cut(rest, []byte("]: "))
	if !ok || !cut || len(number) == 0 || len(bytes.Trim(number, "0123456789")) > 0 {
		return "", unscanned(reply)
	}
	text := string(rest)
	if text == "OK" {
		return "", nil
	}
	name, found := strings.CutSuffix(text, " FOUND")
	switch {
	case !found || name == "":
		return "", unscanned(reply)
	case strings.HasPrefix(name, exceeded):
		return "", fmt.Errorf("%w: it is beyond a limit of clamd.conf, %q", errUnscanned, name[:min(len(name), shown)])
	}
	return name, nil
}

// unscanned is the error of a reply that is no verdict, in clamd's words.
func unscanned(reply []byte) error {
	return fmt.Errorf("%w: %q", errUnscanned, reply[:min(len(reply), shown)])
}
