// SPDX-License-Identifier: Apache-2.0

package bench

import "errors"

const (
	// OPARules is how many rules the rows of OPA have.
	OPARules = 1000
	// OPAWalkID is the row of a policy that looks through its data.
	OPAWalkID = "opa-data"
	// OPAIndexedID is the row of a policy with a rule of its own for each rule.
	OPAIndexedID = "opa-rules"
)

// opaRow is a row that another program has, which links OPA: bench/opa.
type opaRow struct{ id, responder, program string }

// OPARows are the rows of Open Policy Agent. The program is that of bench/opa; this one
// knows what they are called and how they are compared.
func OPARows(program string) []Scenario {
	return []Scenario{
		opaRow{OPAWalkID, "prepared query over data, " + many(OPARules), program},
		opaRow{OPAIndexedID, "prepared query, a Rego rule each, " + many(OPARules), program},
	}
}

func (s opaRow) Describe() Info {
	return Info{ID: s.id, Mechanism: OPA, Responder: s.responder, NoResponder: true, StartLimit: slowStart, Program: []string{s.program}}
}

// Open is for the other program.
func (opaRow) Open(Place) (Session, error) {
	return nil, errors.New("BUG: a row of OPA is opened by the program of bench/opa")
}
