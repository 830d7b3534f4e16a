// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/gate"
)

// SleeperWord is the hidden command of the process that sleeps at the gate.
const SleeperWord = "sleeper"

// Sleeper is the process that sleeps at the gate of another one: args are the id of the
// gate's helper and a CPU. It does a round for each order on in, until that ends.
func Sleeper(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("the sleeper is started by a scenario itself")
	}
	if err := settleOn(args[1]); err != nil {
		return err
	}
	fd, err := unix.Open("/proc/"+args[0]+"/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the gate: %w", err)
	}
	defer unix.Close(fd)
	c, err := fgetxattrCall(fd, gate.Attribute, 1)
	if err != nil {
		return err
	}
	return takeOrders(newRequester(c), in, out)
}
