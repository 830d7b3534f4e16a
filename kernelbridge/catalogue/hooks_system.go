// SPDX-License-Identifier: Apache-2.0

package catalogue

import "github.com/arbiterd/arbiter/kernelbridge/abi"

const audit = "rules of the audit subsystem about labels of other LSMs"

// systemHooks are about the kernel itself: what is loaded into it and how it is set up.
var systemHooks = []Hook{
	{"kernel_read_file", Free, on(abi.EventModuleLoad, abi.EventReadFile), 0, ""},
	{"kernel_load_data", Atomic, on(abi.EventModuleLoad, abi.EventReadFile), RestartSome, "init_module(2) and kexec_load(2); firmware is asked for by drivers"},
	{"kernel_post_read_file", Atomic, nil, 0, after},
	{"kernel_post_load_data", Atomic, nil, 0, after},
	{"kernel_module_request", Locked, nil, 0, "the caller may hold anything; asked about when the module is loaded"},
	{"bpf", Free, on(abi.EventBPF), 0, ""},
	{"bpf_map", Free, on(abi.EventBPFMap), 0, ""},
	{"bpf_prog", Free, on(abi.EventBPFProg), 0, ""},
	{"bpf_map_create", Free, nil, 0, "asked about before, at bpf"},
	{"bpf_prog_load", Free, nil, 0, "asked about before, at bpf"},
	{"bpf_token_create", Free, nil, 0, "asked about before, at bpf"},
	{"bpf_token_cmd", Free, nil, 0, "asked about before, at bpf"},
	{"bpf_token_capable", Free, nil, 0, "asked about before, at bpf"},
	{"bpf_map_alloc_security", Free, nil, 0, lifetime},
	{"bpf_map_free", Void, nil, 0, lifetime},
	{"bpf_map_free_security", Void, nil, 0, lifetime},
	{"bpf_prog_alloc_security", Atomic, nil, 0, lifetime},
	{"bpf_prog_free", Void, nil, 0, lifetime},
	{"bpf_prog_free_security", Void, nil, 0, lifetime},
	{"bpf_token_free", Void, nil, 0, lifetime},
	{"uring_override_creds", Atomic, on(abi.EventURingOverrideCreds), RestartNever, "the errno goes into a completion"},
	{"uring_sqpoll", Atomic, on(abi.EventURingSQPoll), RestartAll, ""},
	{"uring_cmd", Atomic, on(abi.EventURingCmd), RestartNever, "the errno goes into a completion"},
	{"uring_allowed", Atomic, on(abi.EventURingAllowed), RestartAll, ""},
	{"settime", Free, on(abi.EventSetTime), 0, ""},
	{"syslog", Free, nil, 0, "no event in this version: the kernel's log"},
	{"locked_down", Atomic, nil, 0, "decided by the lockdown LSM; called from anywhere"},
	{"perf_event_open", Atomic, nil, 0, perf},
	{"perf_event_alloc", Atomic, nil, 0, lifetime},
	{"perf_event_free", Void, nil, 0, lifetime},
	{"perf_event_read", Atomic, nil, 0, perf},
	{"perf_event_write", Atomic, nil, 0, perf},
	{"audit_rule_init", Atomic, nil, 0, audit},
	{"audit_rule_known", Atomic, nil, 0, audit},
	{"audit_rule_match", Atomic, nil, 0, refused},
	{"audit_rule_free", Void, nil, 0, audit},
	{"ismaclabel", Atomic, nil, 0, refused},
	{"secid_to_secctx", Atomic, nil, 0, labels},
	{"lsmprop_to_secctx", Atomic, nil, 0, labels},
	{"secctx_to_secid", Atomic, nil, 0, labels},
	{"release_secctx", Void, nil, 0, labels},
}
