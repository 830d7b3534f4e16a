// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const schemaFile = "schema/report.schema.json"

// definition is what the tests look at of a definition in the schema.
type definition struct {
	Ref        string                 `json:"$ref"`
	Type       any                    `json:"type"`
	Enum       []any                  `json:"enum"`
	Const      any                    `json:"const"`
	Required   []string               `json:"required"`
	Properties map[string]*definition `json:"properties"`
	Items      *definition            `json:"items"`
	Additional *definition            `json:"additionalProperties"`
}

func readSchema(t *testing.T) map[string]*definition {
	t.Helper()
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Defs map[string]*definition `json:"$defs"`
	}
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s.Defs
}

// jsonField is a field as encoding/json sees it.
type jsonField struct {
	typ      reflect.Type
	optional bool // omitempty
}

// jsonFields returns the fields of a struct by their names; an outer one hides an embedded one.
func jsonFields(typ reflect.Type) map[string]jsonField {
	out := map[string]jsonField{}
	var embedded []reflect.Type
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			embedded = append(embedded, f.Type)
		case f.IsExported() && name != "-":
			out[name] = jsonField{f.Type, strings.Contains(options, "omitempty")}
		}
	}
	for _, e := range embedded {
		if e.Kind() == reflect.Pointer {
			e = e.Elem()
		}
		for name, f := range jsonFields(e) {
			if _, hidden := out[name]; !hidden {
				out[name] = f
			}
		}
	}
	return out
}

// fieldTexts returns the fields for a comparison.
func fieldTexts(typ reflect.Type) map[string]string {
	out := map[string]string{}
	for name, f := range jsonFields(typ) {
		out[name] = fmt.Sprint(f)
	}
	return out
}

// kinds returns the type of a JSON value, "null" with it where that is written for nil.
func kinds(f jsonField) []string {
	typ, null := f.typ, false
	if typ.Kind() == reflect.Pointer {
		typ, null = typ.Elem(), !f.optional
	}
	kind := ""
	switch {
	case typ == reflect.TypeFor[time.Time](), typ.Kind() == reflect.String:
		kind = "string"
	case typ.Kind() == reflect.Bool:
		kind = "boolean"
	case typ.Kind() == reflect.Float64:
		kind = "number"
	case typ.Kind() == reflect.Slice:
		kind = "array"
	case typ.Kind() == reflect.Struct, typ.Kind() == reflect.Map:
		kind = "object"
	default:
		kind = "integer"
	}
	if null {
		return []string{kind, "null"}
	}
	return []string{kind}
}

// TestSchemaNamesEveryField compares the structs of the reports with the schema, field by field, both ways.
func TestSchemaNamesEveryField(t *testing.T) {
	defs := readSchema(t)
	structs := map[string]reflect.Type{
		"bridge_report": reflect.TypeFor[Report](), "rules_report": reflect.TypeFor[RulesReport](), "runtime_report": reflect.TypeFor[RuntimeReport](), "daemon_report": reflect.TypeFor[DaemonReport](),
		"boot_report": reflect.TypeFor[BootReport](), "load_report": reflect.TypeFor[LoadReport](), "work_report": reflect.TypeFor[WorkReport](), "systems_report": reflect.TypeFor[SystemsReport](),
		"rungs_report": reflect.TypeFor[RungsReport](),
	}
	for _, name := range reportTypes(t) {
		if !slices.ContainsFunc(slices.Collect(maps.Values(structs)), func(typ reflect.Type) bool { return typ.Name() == name }) {
			t.Errorf("%s is written as JSON: describe it in %s, and name it here", name, schemaFile)
		}
	}
	seen := map[string]reflect.Type{}
	var look func(name string, typ reflect.Type)
	look = func(name string, typ reflect.Type) {
		if before, ok := seen[name]; ok {
			// One definition may do for two types that are written alike.
			if !reflect.DeepEqual(fieldTexts(before), fieldTexts(typ)) {
				t.Errorf("%s: describes %v and %v, which differ", name, before, typ)
			}
			return
		}
		seen[name] = typ
		d := defs[name]
		if d == nil {
			t.Errorf("%s: no such definition, for %v", name, typ)
			return
		}
		fields := jsonFields(typ)
		for _, missing := range without(maps.Keys(fields), d.Properties) {
			t.Errorf("%s: lacks %q, which %v has", name, missing, typ)
		}
		for _, gone := range without(maps.Keys(d.Properties), fields) {
			t.Errorf("%s: has %q, which %v lacks", name, gone, typ)
		}
		for field, f := range fields {
			p := d.Properties[field]
			if p == nil {
				continue
			}
			if required := slices.Contains(d.Required, field); required == f.optional {
				t.Errorf("%s.%s: required is %v, omitempty is %v", name, field, required, f.optional)
			}
			of := f.typ
			item := p
			if kinds(f)[0] == "array" {
				of, item = of.Elem(), p.Items
			}
			if of.Kind() == reflect.Pointer {
				of = of.Elem()
			}
			switch ref := strings.TrimPrefix(item.Ref, "#/$defs/"); {
			case ref != "":
				if of.Kind() != reflect.Struct {
					t.Errorf("%s.%s: refers to %s, %v is no struct", name, field, ref, of)
					continue
				}
				look(ref, of)
			case of.Kind() == reflect.Struct && of != reflect.TypeFor[time.Time]():
				t.Errorf("%s.%s: %v needs a definition of its own", name, field, of)
			case p.Enum == nil && p.Const == nil && !reflect.DeepEqual(typeNames(p.Type), kinds(f)):
				t.Errorf("%s.%s: has the type %v, want %v", name, field, typeNames(p.Type), kinds(f))
			}
		}
	}
	for name, typ := range structs {
		look(name, typ)
	}
	for _, unused := range without(maps.Keys(defs), seen) {
		t.Errorf("%s: no report has it", unused)
	}
	if v := defs["bridge_report"].Properties["schema_version"].Const; v != float64(SchemaVersion) {
		t.Errorf("got schema_version %v, want %d", v, SchemaVersion)
	}
}

// reportTypes returns the types of this package that have a method WriteJSON.
func reportTypes(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	method := regexp.MustCompile(`(?m)^func \(\w+ \*(\w+)\) WriteJSON\(`)
	var out []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range method.FindAllStringSubmatch(string(text), -1) {
			out = append(out, m[1])
		}
	}
	if len(out) < 3 {
		t.Fatalf("got %v, want every kind of report", out)
	}
	return out
}

func typeNames(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, s := range v {
			out = append(out, s.(string))
		}
		return out
	}
	return nil
}

func without[V any](names func(func(string) bool), in map[string]V) []string {
	var out []string
	for n := range names {
		if _, ok := in[n]; !ok {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// TestSchema validates reports of every kind, and texts that are none.
func TestSchema(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	f := func(name string, report any, change func(map[string]any), want string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			var b bytes.Buffer
			if err := writeJSON(&b, report); err != nil {
				t.Fatal(err)
			}
			v, err := jsonschema.UnmarshalJSON(&b)
			if err != nil {
				t.Fatal(err)
			}
			change(v.(map[string]any))
			err = schema.Validate(v)
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
	as := func(map[string]any) {}
	first := func(v map[string]any) map[string]any { return v["scenarios"].([]any)[0].(map[string]any) }
	run, err := Run(t.Context(), testOptions(t, "steady", "unanswered", "forbidden"))
	if err != nil {
		t.Fatal(err)
	}
	f("a run", run, as, "")
	f("of rules", &RulesReport{run, judgeRules(run)}, as, "")
	f("every bar", &RulesReport{rulesReport(), judgeRules(rulesReport())}, as, "")
	f("quiet", quietReport(), as, "")
	f("of a daemon", judgeDaemon(), as, "")
	f("a field of a later version", run, func(v map[string]any) { first(v)["colour"] = "blue" }, "")
	f("another version", run, func(v map[string]any) { v["schema_version"] = 2 }, "schema_version")
	f("no machine", run, func(v map[string]any) { delete(v, "machine") }, "machine")
	f("measured without figures", run, func(v map[string]any) { delete(first(v), "median") }, "median")
	f("a status", run, func(v map[string]any) { first(v)["status"] = "fine" }, "status")
	f("a figure in words", run, func(v map[string]any) { first(v)["samples"] = "many" }, "samples")
	f("unknown load in words", run, func(v map[string]any) { v["machine"].(map[string]any)["load_before"] = "unknown" }, "load_before")
}

// judgeDaemon is a report of a daemon that keeps its bars.
func judgeDaemon() *DaemonReport {
	return &DaemonReport{SchemaVersion: SchemaVersion, Machine: quietReport().Machine, Usage: ProcessUsage{30 << 20, 31 << 20, 5e6, 1e10, true},
		Idle: 0.05, RSSBar: Met, IdleBar: Met}
}
