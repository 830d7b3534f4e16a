// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// CallerWord is the hidden command of the process that makes system calls of which hooks ask.
const CallerWord = "caller"

// What a caller does, on the file callerFile of its folder.
const (
	callRename = "rename" // it gets another name, and its own again
	callOpen   = "open"   // it is opened for reading; the close is not timed
	callerFile = "file"
)

// Caller is the process that makes system calls for a scenario: args are what it does, the
// folder and a CPU. It does a round for each order on in, until that ends.
func Caller(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 3 {
		return errors.New("the caller is started by a scenario itself")
	}
	if err := settleOn(args[2]); err != nil {
		return err
	}
	dir, err := unix.Open(args[1], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the caller's folder: %w", err)
	}
	defer unix.Close(dir)
	var c call
	switch args[0] {
	case callRename:
		c, err = renameatCall(dir, callerFile, callerFile+".other")
	case callOpen:
		c, err = openatCall(dir, callerFile)
	default:
		err = fmt.Errorf("calling %q: it is %s or %s", args[0], callRename, callOpen)
	}
	if err != nil {
		return err
	}
	return takeOrders(newRequester(c), in, out)
}
