// SPDX-License-Identifier: Apache-2.0

package fanotify

func daemonMain() {}
