# SPDX-License-Identifier: Apache-2.0

# The first of data.rules that matches, -1 for none. A field that a rule lacks is
# undefined, so that one clause alone fits each kind.
package bench

default decision := -1

decision := min({i |
	some i, r in data.rules
	input.event in r.events
	matches(r)
})

matches(r) if {
	r.path == input.path
	users(r)
}

matches(r) if {
	startswith(input.path, r.prefix)
	not r.begins
}

matches(r) if {
	startswith(input.name, r.begins)
	startswith(input.path, r.prefix)
	endswith(input.name, ".so")
}

matches(r) if {
	r.exe == input.exe
	input.write
}

matches(r) if {
	r.addr == input.addr
	r.port == input.port
}

users(r) if not r.users

users(r) if input.uid == 0

users(r) if {
	input.uid >= 1000
	input.uid <= 1999
}
