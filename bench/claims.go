// SPDX-License-Identifier: Apache-2.0

package bench

import _ "embed"

//go:embed claims.yaml
var claims string

// Claims returns the text of bench/claims.yaml: what the documents say of performance, and by which
// figures. Package bench/claims reads it.
func Claims() string { return claims }
