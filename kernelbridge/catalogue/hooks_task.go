// SPDX-License-Identifier: Apache-2.0

package catalogue

import "github.com/arbiterd/arbiter/kernelbridge/abi"

const aboutTask = "reads what describes a task and changes nothing"

// taskHooks are about tasks and what they may.
var taskHooks = []Hook{
	{"task_kill", Atomic, on(abi.EventSignal), RestartSome, "to one process; for a group or for all, those before it have their signal already"},
	{"ptrace_access_check", Atomic, on(abi.EventPtrace), RestartSome, "PTRACE_ATTACH and PTRACE_SEIZE; most others turn the errno into yes or no"},
	{"ptrace_traceme", Atomic, on(abi.EventPtrace), RestartNever, "called with interrupts off, so that the wait cannot be seen to be queued"},
	{"task_fix_setuid", Atomic, on(abi.EventSetUID), RestartSome, "not setfsuid(2), which tells no errors"},
	{"task_fix_setgid", Atomic, on(abi.EventSetGID), RestartSome, "not setfsgid(2), which tells no errors"},
	{"task_fix_setgroups", Atomic, nil, 0, "no event in this version: supplementary groups; they need CAP_SETGID, whose use is capable"},
	{"capable", Atomic, on(abi.EventCapable), RestartNever, "the callers turn the errno into yes or no"},
	{"capget", Free, nil, 0, aboutTask},
	{"capset", Free, nil, 0, "no event in this version: a task can only give up capabilities, or raise what it has"},
	{"task_prctl", Free, on(abi.EventPrctl), 0, ""},
	{"userns_create", Free, on(abi.EventUserNSCreate), 0, ""},
	{"task_alloc", Free, nil, 0, "no event in this version: called for each thread, and what a new process executes is asked about"},
	{"task_free", Void, nil, 0, "a task has ended, which cannot be refused"},
	{"task_setpgid", Atomic, nil, 0, "no event in this version: process groups of one session"},
	{"task_getpgid", Atomic, nil, 0, aboutTask},
	{"task_getsid", Atomic, nil, 0, aboutTask},
	{"task_getsecid_obj", Void, nil, 0, labels},
	{"task_getlsmprop_obj", Void, nil, 0, labels},
	{"current_getsecid_subj", Void, nil, 0, labels},
	{"current_getlsmprop_subj", Void, nil, 0, labels},
	{"task_setnice", Atomic, nil, 0, limits},
	{"task_setioprio", Atomic, nil, 0, limits},
	{"task_getioprio", Atomic, nil, 0, aboutTask},
	{"task_prlimit", Atomic, nil, 0, limits},
	{"task_setrlimit", Atomic, nil, 0, limits},
	{"task_setscheduler", Locked, nil, 0, limits},
	{"task_getscheduler", Atomic, nil, 0, aboutTask},
	{"task_movememory", Atomic, nil, 0, limits},
	{"task_to_inode", Void, nil, 0, labels},
	{"cred_alloc_blank", Atomic, nil, 0, lifetime},
	{"cred_free", Void, nil, 0, lifetime},
	{"cred_prepare", Locked, nil, 0, "credentials are copied, what becomes of them is asked about"},
	{"cred_transfer", Void, nil, 0, lifetime},
	{"cred_getsecid", Void, nil, 0, labels},
	{"cred_getlsmprop", Void, nil, 0, labels},
	{"kernel_act_as", Atomic, nil, 0, "kernel services, not tasks"},
	{"kernel_create_files_as", Atomic, nil, 0, "kernel services, not tasks"},
	{"vm_enough_memory", Atomic, nil, 0, refused},
	{"getselfattr", Atomic, nil, 0, refused},
	{"setselfattr", Atomic, nil, 0, labels},
	{"getprocattr", Atomic, nil, 0, refused},
	{"setprocattr", Atomic, nil, 0, refused},
}
