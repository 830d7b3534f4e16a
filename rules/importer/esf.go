// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// esfFile is one channel with its filters. The proof of concept has no file for them: an agent
// fills struct esf_filter and hands it over by ioctl. What is read here is that struct in JSON, and
// beside the filters the two calls around them, opening a channel and subscribing.
type esfFile struct {
	*importer
	listen bool
	events []string // that the channel is subscribed to, of those known here
}

// esfFilter is struct esf_filter. The keys that are given are its match mask, unless match names them.
type esfFilter struct {
	Type      string          `json:"type"`
	MatchMode string          `json:"match_mode"`
	Match     []string        `json:"match"`
	EventType json.RawMessage `json:"event_type"`
	Process   struct {
		Path *string `json:"path"`
		PID  *uint32 `json:"pid"`
		TGID *uint32 `json:"tgid"`
		UID  *uint32 `json:"uid"`
		GID  *uint32 `json:"gid"`
	} `json:"process"`
	Target struct {
		Path *string `json:"path"`
	} `json:"target"`
}

// esfEvent is an event of the proof of concept: its name, its number there, and the events here.
type esfEvent struct {
	name   string
	number int
	here   []string
}

// esfEvents are those with an equal here; enum esf_event_type has 49.
var esfEvents = [...]esfEvent{
	{"PROCESS_TRACE", 1, []string{"ptrace"}},
	{"PROCESS_SIGNAL", 2, []string{"signal"}},
	{"PROCESS_MAP_EXEC", 3, []string{"mmap_exec"}},
	{"PROCESS_EXECUTION", 5, []string{"exec"}},
	{"PROCESS_CHUID", 8, []string{"setuid"}},
	{"PROCESS_CHGID", 9, []string{"setgid"}},
	{"FILE_CREATE", 101, []string{"create"}},
	{"FILE_REMOVE", 102, []string{"unlink"}},
	{"FILE_MOVE", 103, []string{"rename"}},
	{"FILE_OPEN", 104, []string{"open"}},
	{"FILE_EXEC", 106, []string{"exec"}},
	{"FILE_TRUNCATE", 107, []string{"truncate"}},
	{"FS_MOUNT", 201, []string{"mount"}},
	{"FS_UMOUNT", 202, []string{"umount"}},
	{"FS_LINK_CREATE", 203, []string{"link"}},
	{"FS_FILE_CHOWN", 205, []string{"chown"}},
	{"FS_FILE_CHXATTR", 207, []string{"setxattr", "removexattr"}},
	{"NET_SOCKET_CREATED", 303, []string{"socket"}},
	{"KERN_MOD_LOAD", 606, []string{"module_load"}},
}

// esfEventNamed looks an event up by its name, in any case and with or without its prefix, or its number.
func esfEventNamed(s string) (esfEvent, bool) {
	number, err := strconv.Atoi(s)
	name := strings.TrimPrefix(strings.ToUpper(s), "ESF_EVENT_TYPE_")
	for _, e := range esfEvents {
		if err == nil && e.number == number || err != nil && e.name == name {
			return e, true
		}
	}
	return esfEvent{}, false
}

func (im *importer) esf(sources []Source) {
	for n, s := range sources {
		if n > 0 {
			// Every channel answers there and one refusal is enough; here the first rule decides.
			im.problem(s.Name, 1, 1, "import each into a rule file of its own", "there is more than one channel")
			return
		}
		items, others, ok := im.jsonList(s, "filters")
		f := &esfFile{importer: im}
		if ok && f.head(s, others) {
			f.filters(s, items)
		}
	}
}

// head reads channel and subscribe.
func (f *esfFile) head(s Source, keys map[string]json.RawMessage) bool {
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		if name != "channel" && name != "subscribe" {
			f.problem(s.Name, 1, 1, "its keys are channel, subscribe and filters", "unknown key %s", quote(name))
			return false
		}
	}
	var channel string
	if json.Unmarshal(keys["channel"], &channel) != nil || channel != "auth" && channel != "listen" {
		f.problem(s.Name, 1, 1, `write "channel": "auth" for filters that decide, or "listen" for filters that choose what is told`, "the file does not say of which channel it is")
		return false
	}
	f.listen = channel == "listen"
	var subscribed []json.RawMessage
	if json.Unmarshal(keys["subscribe"], &subscribed) != nil || len(subscribed) == 0 {
		f.problem(s.Name, 1, 1, `write "subscribe": ["PROCESS_EXECUTION", "FILE_OPEN"]`, "the file does not say which events its channel is subscribed to")
		return false
	}
	for _, raw := range subscribed {
		e, known := esfEventNamed(jsonWord(raw))
		if !known {
			f.find(Lost, place{s.Name, 1}, "", "subscribe: %s: no event here is its equal", bare(jsonWord(raw)))
			continue
		}
		for _, here := range e.here {
			if !slices.Contains(f.events, here) {
				f.events = append(f.events, here)
			}
		}
	}
	return true
}

// jsonWord returns a text or a number as it is written, without quotes.
func jsonWord(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// filters adds the rules: those that drop first, as they are asked first, then those that allow, each in
// its order.
func (f *esfFile) filters(s Source, items []jsonItem) {
	start := place{s.Name, 1}
	var drops, allows []rule
	for _, i := range items {
		rs, drop := f.filter(i)
		if drop {
			drops = append(drops, rs...)
		} else {
			allows = append(allows, rs...)
		}
	}
	for _, r := range append(drops, allows...) {
		f.emit(r)
	}
	switch {
	case len(f.events) == 0:
	case !f.listen:
		f.find(Note, start, "", "an event that no filter matches is a question to the agent there; here the default allows it")
	case len(allows) == 0:
		// A channel without such filters is told everything that is not dropped.
		f.emit(rule{place: start, source: "subscribe", events: f.events, verdict: audit})
	}
}

// filter reads one filter. With match_mode or it becomes a rule for each of its keys.
func (f *esfFile) filter(i jsonItem) (rs []rule, drop bool) {
	var in esfFilter
	d := json.NewDecoder(strings.NewReader(string(i.raw)))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		f.problem(i.file, i.line, 1, "its keys are type, match_mode, match, event_type, process {path, pid, tgid, uid, gid} and target {path}",
			"the filter is not as it should be: %s", bare(strings.TrimPrefix(err.Error(), "json: ")))
		return nil, false
	}
	kind, mode := strings.ToLower(in.Type), strings.ToLower(in.MatchMode)
	if kind != "drop" && kind != "allow" || mode != "and" && mode != "or" && mode != "" {
		f.problem(i.file, i.line, 1, `write "type": "drop" or "allow", and "match_mode": "and" or "or"`, "unknown type %s, or unknown match_mode %s", quote(in.Type), quote(in.MatchMode))
		return nil, false
	}
	drop = kind == "drop"
	base := rule{place: i.place, source: i.text(), events: f.events, verdict: f.verdict(drop)}
	keys, ok := f.mask(i, &in)
	if !ok || !f.spend(len(base.source)) {
		return nil, drop
	}
	rs = []rule{base}
	for n, key := range keys {
		if mode == "or" && n > 0 {
			rs = append(rs, base)
		}
		f.key(&rs[len(rs)-1], key, &in)
	}
	if mode == "or" {
		// What one alternative lacks, the filter lacks.
		for _, r := range slices.Clone(rs) {
			for _, why := range r.missing {
				for n := range rs {
					if !slices.Contains(rs[n].missing, why) {
						rs[n].miss(why)
					}
				}
			}
		}
	}
	for n := range rs {
		f.settle(&rs[n])
	}
	return rs, drop
}

// verdict is what a filter of the channel does.
func (f *esfFile) verdict(drop bool) verdict {
	switch {
	case f.listen && drop:
		return allow // and told to nobody
	case f.listen:
		return audit
	case drop:
		return deny
	}
	return allow
}

// mask returns the keys that the filter compares: those of match, or all that it gives.
func (f *esfFile) mask(i jsonItem, in *esfFilter) (keys []string, ok bool) {
	given := map[string]bool{
		"event_type": in.EventType != nil, "process_path": in.Process.Path != nil, "process_pid": in.Process.PID != nil, "process_tgid": in.Process.TGID != nil,
		"process_uid": in.Process.UID != nil, "process_gid": in.Process.GID != nil, "target_path": in.Target.Path != nil,
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if given[name] {
			keys = append(keys, name)
		}
	}
	if in.Match != nil {
		keys = nil
		for _, m := range in.Match {
			name := strings.ToLower(strings.TrimPrefix(strings.ToUpper(m), "ESF_FILTER_"))
			if !given[name] || slices.Contains(keys, name) {
				f.problem(i.file, i.line, 1, "match names, each once, keys that the filter gives: "+strings.Join(slices.Sorted(maps.Keys(given)), ", "), "match cannot have %s", quote(m))
				return nil, false
			}
			keys = append(keys, name)
		}
	}
	if len(keys) == 0 {
		f.problem(i.file, i.line, 1, "give an event_type, or something of process or target", "the filter compares nothing, and so matches nothing")
		return nil, false
	}
	return keys, true
}

// key adds one key of a filter to the rule.
func (f *esfFile) key(r *rule, key string, in *esfFilter) {
	path := func(to *[]pattern, text string) {
		p, why := kernelGlob(text)
		if why != "" {
			r.miss(key + ": " + quote(text) + " " + why)
			return
		}
		*to = []pattern{p}
	}
	id := func(to *[]span, id uint32) {
		f.findOnce(Note, r.place, "uid, gid: the proof of concept takes these keys and compares nothing; here they are compared with the real ids")
		if id > largestID {
			r.miss(key + ": there is no such id")
		}
		*to = []span{{id, id}}
	}
	switch key {
	case "event_type":
		e, known := esfEventNamed(jsonWord(in.EventType))
		if !known {
			r.miss("event_type: no event here is the equal of " + bare(jsonWord(in.EventType)))
			return
		}
		r.events = slices.DeleteFunc(slices.Clone(r.events), func(here string) bool { return !slices.Contains(e.here, here) })
		if len(r.events) == 0 {
			r.miss("event_type: the channel is not subscribed to " + e.name)
			r.events = e.here
		}
	case "process_path":
		path(&r.match.exe, *in.Process.Path)
	case "target_path":
		path(&r.match.path, *in.Target.Path)
	case "process_uid":
		id(&r.match.uid, *in.Process.UID)
	case "process_gid":
		id(&r.match.gid, *in.Process.GID)
	default:
		r.miss(key + ": process ids are not compared here")
	}
}

// settle makes the rule one that a rule file can hold: about events, and when it names an object about
// those that have one.
func (f *esfFile) settle(r *rule) {
	if len(r.match.path) > 0 {
		r.events = slices.DeleteFunc(slices.Clone(r.events), func(name string) bool {
			e, _ := abi.ParseEvent(name)
			return catalogue.Of(e).Object == ""
		})
	}
	if len(r.events) == 0 {
		r.events = []string{"exec"} // of a comment
		r.miss("no event that the channel is subscribed to has it here")
	}
}
