// SPDX-License-Identifier: Apache-2.0

//go:build !amd64

package gate

import "runtime"

const helperName = "arbiter-gate"

// helperImage would return the helper's program: some 150 bytes of machine code,
// which exist for amd64 alone. See helper_amd64.go for what they do.
func helperImage() ([]byte, error) {
	return nil, &UnsupportedError{Why: "its helper is not written for " + runtime.GOARCH, Hint: "use it on amd64"}
}
