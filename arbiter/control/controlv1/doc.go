// SPDX-License-Identifier: Apache-2.0

// Package controlv1 is the wire form of the control interface: the .proto files
// and what is generated from them. Package control serves it.
package controlv1
