// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/arbiterd/arbiter/bench"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

//go:embed walk.rego
var walkPolicy string

// opaAsks is how many different requests there are.
const opaAsks = 1 << 10

type scenario struct{ info bench.Info }

func (s scenario) Describe() bench.Info { return s.info }

// Open prepares the query. The inputs are in OPA's own form before the clock runs,
// which favours it: a caller has to convert what it has.
func (s scenario) Open(at bench.Place) (bench.Session, error) {
	policy, data := walkPolicy, map[string]any{"rules": ruleData(bench.OPARules)}
	if s.info.ID == bench.OPAIndexedID {
		policy, data = indexedPolicy(bench.OPARules), map[string]any{}
	}
	ctx := context.Background()
	query, err := rego.New(rego.Query("data.bench.decision"), rego.Module("bench.rego", policy), rego.Store(inmem.NewFromObject(data))).PrepareForEval(ctx)
	if err != nil {
		return nil, fmt.Errorf("preparing the query: %w", err)
	}
	asks := bench.MixedAsks(bench.OPARules, opaAsks)
	inputs := make([]ast.Value, len(asks))
	for i := range asks {
		if inputs[i], err = ast.InterfaceToValue(input(&asks[i])); err != nil {
			return nil, fmt.Errorf("converting an input: %w", err)
		}
	}
	current := 0
	return &bench.Decisions{Asks: asks, Batch: 1, CPU: at.Requester,
		Prepare: func(_, i int) { current = i },
		Decide: func(int) int32 {
			set, err := query.Eval(ctx, rego.EvalParsedInput(inputs[current]))
			if err != nil || len(set) != 1 {
				return failed
			}
			n, ok := set[0].Expressions[0].Value.(json.Number)
			i, err := n.Int64()
			if !ok || err != nil {
				return failed
			}
			return int32(i)
		}}, nil
}

// failed is a rule that there is not: what is decided so counts as failed.
const failed = -2

// ruleData are the rules as the data of a policy.
func ruleData(n int) []any {
	list := make([]any, n)
	for i := range list {
		r := bench.NewPlainRule(i)
		m := map[string]any{"events": r.Events}
		for name, v := range map[string]string{"path": r.Path, "prefix": r.Prefix, "begins": r.Begins, "exe": r.Exe, "addr": r.Addr} {
			if v != "" {
				m[name] = v
			}
		}
		if r.Users {
			m["users"] = true
		}
		if r.Port != 0 {
			m["port"] = r.Port
		}
		list[i] = m
	}
	return list
}

// input is a request as the policies see it.
func input(a *bench.PlainAsk) map[string]any {
	m := map[string]any{"event": a.Event.String(), "path": a.Path, "name": path.Base(a.Path), "exe": a.Exe, "write": a.Write, "uid": a.UID}
	if a.Event == abi.EventConnect {
		m["addr"], m["port"] = a.Addr, a.Port
	}
	return m
}

// indexedPolicy is the same as a policy of n rules in Rego, which OPA indexes by what
// they compare an input with.
func indexedPolicy(n int) string {
	var b strings.Builder
	b.WriteString("package bench\n\ndefault decision := -1\n\ndecision := min(found)\n\nusers if input.uid == 0\n\nusers if {\n\tinput.uid >= 1000\n\tinput.uid <= 1999\n}\n")
	for i := range n {
		r := bench.NewPlainRule(i)
		for _, event := range r.Events {
			fmt.Fprintf(&b, "\nfound contains %d if {\n\tinput.event == %q\n", i, event)
			switch {
			case r.Path != "":
				fmt.Fprintf(&b, "\tinput.path == %q\n", r.Path)
			case r.Prefix != "":
				fmt.Fprintf(&b, "\tstartswith(input.path, %q)\n", r.Prefix)
			}
			if r.Begins != "" {
				fmt.Fprintf(&b, "\tstartswith(input.name, %q)\n\tendswith(input.name, \".so\")\n", r.Begins)
			}
			if r.Addr != "" {
				fmt.Fprintf(&b, "\tinput.addr == %q\n\tinput.port == %d\n", r.Addr, r.Port)
			}
			if r.Exe != "" {
				fmt.Fprintf(&b, "\tinput.exe == %q\n", r.Exe)
			}
			if r.Write {
				b.WriteString("\tinput.write\n")
			}
			if r.Users {
				b.WriteString("\tusers\n")
			}
			b.WriteString("}\n")
		}
	}
	return b.String()
}
