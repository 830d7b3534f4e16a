// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"math"
	"net/netip"
)

// networksFrom is how many addresses of one network are replaced by it, on High.
const networksFrom = 3

// networks puts addresses together that are in one network: of 256 addresses in IPv4, of
// one link (64 bits) in IPv6.
func networks(addrs set) (set, []Price) {
	in := map[netip.Prefix]uint64{}
	netOf := func(text string) (netip.Prefix, bool) {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return netip.Prefix{}, false // a network already
		}
		bits := 64
		if a.Is4() {
			bits = 24
		}
		return netip.PrefixFrom(a, bits).Masked(), true
	}
	for _, a := range addrs {
		if n, ok := netOf(a); ok {
			in[n]++
		}
	}
	var out set
	var prices []Price
	told := map[netip.Prefix]bool{}
	for _, a := range addrs {
		n, ok := netOf(a)
		if !ok || in[n] < networksFrom {
			out = append(out, a)
			continue
		}
		if told[n] {
			continue
		}
		told[n] = true
		all := uint64(256)
		if n.Addr().Is6() {
			all = math.MaxUint64 // one too few, which no list makes good
		}
		out = append(out, n.String())
		prices = append(prices, Price{Pattern: n.String(), Observed: in[n], Unobserved: all - in[n], Of: "addresses"})
	}
	return union(out, nil), prices
}
