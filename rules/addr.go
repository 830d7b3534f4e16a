// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// addrName is the one name in args that is no argument of the catalogue: it stands for
// addr_high and addr_low together, and is written as addresses are.
const addrName = "addr"

// Families that have addresses.
const (
	familyInet  = 2  // AF_INET
	familyInet6 = 10 // AF_INET6
)

// addrs reads an address, a network, or a list of them.
func (p *parser) addrs(n *yaml.Node) []netip.Prefix {
	return values(p, n, "args."+addrName, "addr", false, func(e *yaml.Node) (net netip.Prefix, ok bool) {
		s, ok := p.text(e, "args."+addrName, netHint)
		if !ok {
			return net, false
		}
		net, wrong, hint := parseNet(s)
		if wrong != "" {
			p.add(e, hint, "args.%s %s %s", addrName, quote(s), wrong)
		}
		return net, wrong == ""
	})
}

const netHint = "write an address such as 192.0.2.1 or 2001:db8::1, or a network such as 10.0.0.0/8"

// parseNet reads an address or a network, as the IPv6 network that the kernel side has for
// it. What is wrong, if anything, ends a sentence that begins with the text.
func parseNet(s string) (net netip.Prefix, wrong, hint string) {
	net, err := netip.ParsePrefix(s)
	if !strings.Contains(s, "/") {
		var a netip.Addr
		if a, err = netip.ParseAddr(s); err == nil && a.Zone() == "" {
			net = netip.PrefixFrom(a, a.BitLen())
		}
	}
	switch {
	case err != nil || !net.IsValid():
		return net, "is no address or network", netHint
	case net != net.Masked():
		return net, "has bits behind its prefix", "write " + net.Masked().String() + " for the network, or " + net.Addr().String() + " for the address"
	}
	return mapped(net), "", ""
}

// mapped returns an IPv4 network as the IPv6 network that the kernel side has for it.
func mapped(n netip.Prefix) netip.Prefix {
	bits := n.Bits()
	if n.Addr().Is4() {
		bits += 96
	}
	return netip.PrefixFrom(netip.AddrFrom16(n.Addr().As16()), bits)
}

// halves returns an address as addr_high and addr_low.
func halves(a netip.Addr) (high, low uint64) {
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

// Addr returns the address that the arguments addr_high and addr_low are.
func Addr(high, low uint64) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], high)
	binary.BigEndian.PutUint64(b[8:], low)
	return netip.AddrFrom16(b).Unmap()
}

// ParseAddr returns the values of addr_high and addr_low for an address.
func ParseAddr(text string) (high, low uint64, err error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return 0, 0, err
	}
	high, low = halves(a)
	return high, low, nil
}

// addrMatch is a compiled list of networks.
type addrMatch struct {
	family, high, low *[abi.EventCount]uint8 // as argMatch.at
	nets              []netMatch             // sorted; none lies in another one
}

type netMatch struct {
	high, low, highMask, lowMask uint64
	bits                         uint16
}

// masks returns the bits of a network's prefix.
func masks(bits int) (high, low uint64) {
	return ^(math.MaxUint64 >> min(bits, 64)), ^(math.MaxUint64 >> max(bits-64, 0))
}

func (c *compiler) addrs(nets []netip.Prefix) addrMatch {
	m := addrMatch{family: c.index("family"), high: c.index("addr_high"), low: c.index("addr_low")}
	for _, n := range slices.SortedFunc(slices.Values(nets), netip.Prefix.Compare) {
		if k := len(m.nets); k > 0 && m.nets[k-1].prefix().Overlaps(n) {
			continue // two networks are apart, or one lies in the other; the wider one stands first
		}
		high, low := halves(n.Addr())
		highMask, lowMask := masks(n.Bits())
		m.nets = append(m.nets, netMatch{high, low, highMask, lowMask, uint16(n.Bits())})
	}
	m.nets = slices.Clip(m.nets)
	return m
}

func (n *netMatch) prefix() netip.Prefix {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], n.high)
	binary.BigEndian.PutUint64(b[8:], n.low)
	return netip.PrefixFrom(netip.AddrFrom16(b), int(n.bits))
}

// holds reports whether the address is in one of the networks. Without a family that
// has addresses it is in none.
func (m *addrMatch) holds(r *abi.Request) bool {
	at := [...]uint8{m.family[r.Event], m.high[r.Event], m.low[r.Event]}
	if max(at[0], at[1], at[2]) >= abi.Args {
		return false
	}
	if f := r.Arg[at[0]]; f != familyInet && f != familyInet6 {
		return false
	}
	high, low := r.Arg[at[1]], r.Arg[at[2]]
	// The last one that begins at or before the address is the only one that it can be in.
	from, to := 0, len(m.nets)
	for from < to {
		mid := int(uint(from+to) / 2)
		if n := &m.nets[mid]; n.high < high || n.high == high && n.low <= low {
			from = mid + 1
		} else {
			to = mid
		}
	}
	if from == 0 {
		return false
	}
	n := &m.nets[from-1]
	return high&n.highMask == n.high && low&n.lowMask == n.low
}

// netText writes a network as rules do.
func netText(n netip.Prefix) string {
	a := n.Addr().Unmap()
	bits := n.Bits()
	if a.Is4() {
		if bits -= 96; bits < 0 { // an IPv6 network around all of IPv4
			return n.String()
		}
	}
	if bits == a.BitLen() {
		return a.String()
	}
	return netip.PrefixFrom(a, bits).String()
}
