// SPDX-License-Identifier: Apache-2.0

package gate

import "strconv"

func itoa(n int) string { return strconv.Itoa(n) }

func sleeperMain() {}
func daemonMain()  {}
