/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The words that the BPF programs and the daemon share through mapped memory.
 * ../abi and ../ring are the Go side; a layout test compares every offset with
 * this file's BTF. Fixed-width fields, explicit padding, one writer per cache
 * line. A change here changes ARB_VERSION.
 */
#ifndef ARB_ABI_H
#define ARB_ABI_H

#define ARB_VERSION 9

#define ARB_SLOTS 1024		/* requests open at once */
#define ARB_SLOT_WORDS (ARB_SLOTS / 64)
#define ARB_PATH_BYTES 4096	/* PATH_MAX, with the NUL */
#define ARB_CGROUP_LEVELS 8
#define ARB_ARGS 8
#define ARB_NAME_BYTES 256	/* NAME_MAX, with the NUL */
#define ARB_MAX_WORKERS 64
#define ARB_MAX_CPUS 1024	/* beyond, where a worker is pinned is not known */
#define ARB_FIRST_GEN 0xffffff00u

enum arb_event {
	ARB_EVENT_NONE,
	ARB_EVENT_OPEN,
	ARB_EVENT_EXEC,
	ARB_EVENT_CREATE,
	ARB_EVENT_MKDIR,
	ARB_EVENT_MKNOD,
	ARB_EVENT_SYMLINK,
	ARB_EVENT_LINK,
	ARB_EVENT_UNLINK,
	ARB_EVENT_RMDIR,
	ARB_EVENT_RENAME,
	ARB_EVENT_CHMOD,
	ARB_EVENT_CHOWN,
	ARB_EVENT_TRUNCATE,
	ARB_EVENT_SETATTR,
	ARB_EVENT_SETXATTR,
	ARB_EVENT_REMOVEXATTR,
	ARB_EVENT_MMAP_EXEC,
	ARB_EVENT_MPROTECT_EXEC,
	ARB_EVENT_MOUNT,
	ARB_EVENT_UMOUNT,
	ARB_EVENT_REMOUNT,
	ARB_EVENT_MOVE_MOUNT,
	ARB_EVENT_PIVOT_ROOT,
	ARB_EVENT_CHROOT,
	ARB_EVENT_SOCKET,
	ARB_EVENT_BIND,
	ARB_EVENT_CONNECT,
	ARB_EVENT_LISTEN,
	ARB_EVENT_ACCEPT,
	ARB_EVENT_SENDMSG,
	ARB_EVENT_UNIX_CONNECT,
	ARB_EVENT_SIGNAL,
	ARB_EVENT_PTRACE,
	ARB_EVENT_SETUID,
	ARB_EVENT_SETGID,
	ARB_EVENT_CAPABLE,
	ARB_EVENT_MODULE_LOAD,
	ARB_EVENT_READ_FILE,
	ARB_EVENT_BPF,
	ARB_EVENT_BPF_MAP,
	ARB_EVENT_BPF_PROG,
	ARB_EVENT_USERNS_CREATE,
	ARB_EVENT_SETTIME,
	ARB_EVENT_PRCTL,
	ARB_EVENT_RECEIVE,
	ARB_EVENT_URING_OVERRIDE_CREDS,
	ARB_EVENT_URING_SQPOLL,
	ARB_EVENT_URING_CMD,
	ARB_EVENT_URING_ALLOWED,
	ARB_EVENT_COUNT,
};

enum arb_reason {
	ARB_REASON_NONE,
	ARB_REASON_NO_WORKER,
	ARB_REASON_RING_FULL,
	ARB_REASON_DEADLINE,
	ARB_REASON_INTERRUPTED,
	ARB_REASON_GATE_DEAD,
	ARB_REASON_UNSUPPORTED_CALLER,
	ARB_REASON_FACTS_TRUNCATED,
	ARB_REASON_WORKER_ERROR,
	ARB_REASON_COUNT,
};

/* Slot word: bits 0..7 state, 8..19 errno, 20 ARB_SLEEPING, 21 ARB_KEEP in DONE,
 * 22..31 zero, 32..63 generation.
 */
#define ARB_KEEP 0x200000u /* the kernel may give this allow again by itself */
#define ARB_SLEEPING 0x100000u /* the requester sleeps at the gate, or is about to */

enum arb_state {
	ARB_FREE,
	ARB_FILLING,
	ARB_POSTED,
	ARB_TAKEN,
	ARB_DONE,
	ARB_ABANDONED,
	ARB_UNWOUND,	/* the verdict waits for its system call to run again */
};

enum arb_access {
	ARB_ACCESS_READ = 1 << 0,
	ARB_ACCESS_WRITE = 1 << 1,
	ARB_ACCESS_EXEC = 1 << 2,
	ARB_ACCESS_APPEND = 1 << 3,
	ARB_ACCESS_TRUNCATE = 1 << 4,
	ARB_ACCESS_CREATED = 1 << 5,
};

enum arb_field {
	ARB_FIELD_PATH = 1 << 0,
	ARB_FIELD_EXE = 1 << 1,
	ARB_FIELD_UID = 1 << 2,
	ARB_FIELD_GID = 1 << 3,
	ARB_FIELD_CGROUP = 1 << 4,
	ARB_FIELD_ACCESS = 1 << 5,
	ARB_FIELD_DETAIL = 1 << 6,
	ARB_FIELD_ARGS = 1 << 7,
	ARB_FIELD_TREE = 1 << 9,
	ARB_FIELD_CREDENTIALS = 1 << 13,
	ARB_FIELD_SIZE = 1 << 15, /* always filled in */
	ARB_FIELD_KEEP = 1 << 31,
};

/* Kinds of namespaces. That of process ids has no number in the header: it is a level. */
enum arb_namespace {
	ARB_NS_CGROUP,
	ARB_NS_IPC,
	ARB_NS_MNT,
	ARB_NS_NET,
	ARB_NS_USER,
	ARB_NS_UTS,
	ARB_NS_PID,
	ARB_NS_COUNT,
};

/* What a rule that is decided in the kernel can test. */
enum arb_test_field {
	ARB_TEST_UID,
	ARB_TEST_EUID,
	ARB_TEST_GID,
	ARB_TEST_EGID,
	ARB_TEST_ACCESS,
	ARB_TEST_ARG, /* and ARB_ARGS - 1 more */
};

#define ARB_MAX_RULES 32 /* of one event */
#define ARB_MAX_TESTS 4

/* header.decide: how many rules there are, how many of them come before the first that looks
 * at the path, and whether they are those of the second half.
 */
#define ARB_DECIDE_COUNT 0x3fu
#define ARB_DECIDE_BEFORE 6 /* shift; as many bits */
#define ARB_DECIDE_ODD 0x8000u

/* Holds when low <= (field & mask) <= high. */
struct arb_test {
	__u64 mask;
	__u64 low;
	__u64 high;
	__u32 field;
	__u32 pad;
};

/* Matches when all of its tests hold and, if it is about paths, one of its patterns. */
struct arb_rule {
	__u32 tests;
	__s32 rule; /* index in the rule set, -1 for the default */
	__u32 rule_errno; /* 0 allows */
	__u32 about_path;
	struct arb_test test[ARB_MAX_TESTS];
};

#define ARB_MAX_PATTERNS 256 /* of one event */
#define ARB_PATTERN_BYTES 120
#define ARB_PATTERN_LENS 16

/* A text that rules compare paths with. */
struct arb_pattern {
	__u32 list; /* 2 * event, and 1 in the second half */
	__u32 len;
	__u8 text[ARB_PATTERN_BYTES]; /* zeroes behind it */
};

/* Which rules that text is a pattern of: bit i, the event's rule i. */
struct arb_pattern_rules {
	__u32 whole;	/* the path is the text */
	__u32 below;	/* it begins with the text */
	__u32 within;	/* and has no '/' behind it */
	__u32 pad;
};

/* The lengths of a list's patterns that are not whole paths, in rising order. */
struct arb_pattern_lens {
	__u32 count;
	__u32 whole; /* there are whole paths */
	__u8 len[ARB_PATTERN_LENS];
};

enum arb_flag {
	ARB_FLAG_PATH_TRUNCATED = 1 << 0,
	ARB_FLAG_NO_EXE = 1 << 1,
	ARB_FLAG_NO_OBJECT = 1 << 2,
	ARB_FLAG_DETAIL_TRUNCATED = 1 << 3,
};

/* The facts of one request: five cache lines. The texts are behind them. */
struct arb_facts {
	__u64 posted_ns;	/* CLOCK_MONOTONIC */
	__u32 event;
	__u32 access;
	__u32 flags;
	__u32 tgid;
	__u32 tid;
	__u32 uid;
	__u32 gid;
	__u32 euid;
	__u32 egid;
	__u32 mode;
	__u64 start_boottime;	/* ns */
	__u64 dev;

	__u64 ino;
	__s64 size;
	__u32 owner_uid;
	__u32 owner_gid;
	__u32 generation;
	__u32 path_len;		/* bytes, without the NUL */
	__u32 exe_len;
	__u32 detail_len;
	__u8 comm[16];
	__u64 epoch;		/* of the rules when it was asked */

	__u64 cgroup[ARB_CGROUP_LEVELS];

	__u64 arg[ARB_ARGS];	/* what they are depends on the event */

	__u64 trees;		/* marks of the subject's process trees */
	__u32 marks;		/* header.marks before they were read, 0: they are not known */
	__u32 login_uid;	/* of the audit session, ~0: it is not set */
	__u64 capabilities;	/* the effective ones */
	__u32 host_namespaces;	/* a bit for each arb_namespace that is the host's */
	__u32 credentials;	/* 1: the last three and the next one are known */
	__u32 session;		/* of audit, ~0: there is none */
	__u32 pad_session;
	__u64 pad_trees[3];
};

/* One slot. The word is changed by compare-and-swap from both sides; the rest is
 * the requester's alone, and what a worker reads of it counts only if the slot is then
 * still POSTED, under the same generation.
 */
struct arb_slot {
	__u64 word;
	__u64 pad[7];
	struct arb_facts facts;
	__u8 path[ARB_PATH_BYTES];
	__u8 detail[ARB_PATH_BYTES]; /* a second text, by event */
	__u8 exe[ARB_PATH_BYTES];
	__u8 pad_walk[ARB_NAME_BYTES];
};

struct arb_header {
	/* Written by the daemon when it creates or reconfigures the ring. */
	__u32 version;
	__u32 slots;
	__u32 workers;		/* in use */
	__u32 daemon_tgid;	/* never asked about */
	__u64 armed;		/* 0: every hook allows at once */
	__u64 wait_ns;		/* bound of the wait for a verdict */
	__u64 heartbeat_limit_ns;
	__u64 asked;		/* bit e: event e is asked about */
	__s64 realtime_offset;	/* CLOCK_REALTIME - CLOCK_MONOTONIC, ns; heart */
	__u64 epoch;		/* of the rules; answers to an older one are not used */
	__u64 spin_ns;		/* how long one polls who can wait otherwise afterwards */
	__u64 sleep_ns;		/* bound of the wait of who does */
	__u64 gate_start;	/* start of the gate's helper, as in /proc/PID/stat */
	__u64 gate_ino;
	__u32 gate_dev;
	__u32 gate_pid;		/* of the gate's helper, 0: there is no gate */
	__u32 want[ARB_EVENT_COUNT];	/* arb_field bits to fetch */
	__u32 keep[ARB_EVENT_COUNT];	/* those that an allow which is kept depends on */
	__u16 decide[ARB_EVENT_COUNT];	/* the rules to decide by, see ARB_DECIDE_COUNT */
	__u16 pad_decide[2];
	__u32 scope;		/* arb_scope bits in force */
	__u32 watched;		/* somebody wants to be told of plain allows */
	__u32 guard_tgid;	/* of the daemon's guard, 0: there is none; never asked about */
	__u32 peer_tgid;	/* of the other daemon while one takes over from the other: it and
				 * its children are never asked about; 0: there is none
				 */
	__u16 fail_errno[ARB_EVENT_COUNT];	/* failure verdict, 0 allows */
	__u16 dead_errno;	/* the failure verdict once the daemon is dead */
	__u16 pad16;
	__u32 dead;		/* the daemon is; set by death.bpf.c */
	__u32 marks;		/* counts what marks were given to, 0: nothing was */
	/* The numbers of the host's namespaces; 0: there is but one; ~0: they are not known. */
	__u32 host_ns[ARB_NS_PID];
	__u32 pad32[2];

	/* Written by the daemon's heart, CLOCK_MONOTONIC. */
	__u64 heartbeat_ns;
	__u64 pad_heart[7];

	/* Bit w: worker w polls. Changed by atomic or/and, by that worker. */
	__u64 hot;
	__u64 pad_hot[7];

	/* How often somebody went to sleep at the gate, and how often somebody was not let in
	 * by another LSM. Counted by requesters.
	 */
	__u64 sleeps;
	__u64 gate_refused;
	__u64 pad_sleeps[6];

	/* Bit s: slot s was posted. Set by requesters, cleared by workers. */
	__u64 posted[ARB_SLOT_WORDS];

	/* Bit w of pinned[c]: worker w runs on CPU c and nowhere else. Written once, before
	 * anybody asks: requesters read it, so it shares no line with what a verdict
	 * writes.
	 */
	__u64 pinned[ARB_MAX_CPUS];
};

/* Bits of header.scope: which dimensions the scope names, which the mute, which of those
 * are inverted, and which default mutes hold. The parity says which bits of a value and
 * which configuration count: the daemon writes those of the next scope beside those of
 * the current one and then stores this word, so that a change of scope and mute is one
 * store and an entry of both is never missed.
 */
enum arb_scope {
	ARB_SCOPE_TREES = 1 << 0,
	ARB_SCOPE_CGROUPS = 1 << 1,
	ARB_SCOPE_PARITY = 1 << 2,
	ARB_SCOPE_UIDS = 1 << 3,
	ARB_SCOPE_MOUNTED = 1 << 4,
	ARB_SCOPE_EXES = 1 << 5,
	ARB_SCOPE_LINEAGE = 1 << 6,
	ARB_SCOPE_DIMS = 0x7b,		/* all of these but the parity */
	ARB_SCOPE_INIT = 1 << 24,	/* pid 1 is left alone */
	ARB_SCOPE_SERVICES = 1 << 25,	/* so are cgroups of the default mutes */
	ARB_SCOPE_CGROUP1 = 1 << 26,	/* cgroups may be of v1 */
	ARB_SCOPE_COUNT = 1 << 27,	/* from here on: counts changes, so that each is seen */
};
#define ARB_MUTED(dim) ((dim) << 8)
#define ARB_INVERTED(dim) ((dim) << 16)

/* Key of the trees, of scopes and of what is protected: a directory, whose whole tree is
 * meant, or a single file.
 */
struct arb_tree {
	__u64 dev;
	__u64 ino;
};

/* Key of the cgroups; v2 is hierarchy 0. */
struct arb_cgroup_key {
	__u64 id;
	__u64 hierarchy;
};

struct arb_uid_range {
	__u32 lo;
	__u32 hi; /* included */
};

/* What the dimensions need besides their maps; [0] of the scope, [1] of the mute. */
struct arb_scope_config {
	__u64 lineage[2];	/* bits of the process trees */
	__u64 mute_events;	/* bit e: the mute is about event e; 0: about all */
	__u32 uids[2];		/* ranges */
};

/* One run over all tasks: clear bits, or set those that follow from programs and parents. */
struct arb_marking {
	__u64 clear;
	__u64 set;
	__u64 changed;	/* tasks */
	__u64 failed;	/* tasks that could not be marked */
};

/* Per event, one per CPU; asked = cached + decided + answered + the sum of failed. */
struct arb_counts {
	__u64 asked;
	__u64 cached; /* allowed from arb_cache */
	__u64 decided; /* by arb_rules */
	__u64 answered;
	__u64 failed[ARB_REASON_COUNT];
	__u64 killed;		/* tasks that were killed while they waited */
};

/* What the daemon is told of a failure verdict (ring buffer). */
#define ARB_NOTICE_PATH_BYTES 256
struct arb_notice {
	struct arb_facts facts;
	__u32 reason;	/* ARB_REASON_NONE: not a failure, a rule was decided in the kernel */
	__u32 fail_errno;
	__s32 rule;
	__u32 pad;
	__u8 path[ARB_NOTICE_PATH_BYTES];
};

/* Argument of the program that asks without a hook (BPF_PROG_TYPE_SYSCALL). */
struct arb_native_args {
	__u32 count;		/* questions to ask, one after another */
	__s32 last_verdict;	/* out: 0 or -errno */
};

#define ARB_SAMPLES 1024	/* durations kept by one native run */

/* Where the daemon protects itself: the LSM hook that refused, see protect.bpf.c. */
enum arb_hook {
	ARB_HOOK_TASK_KILL,
	ARB_HOOK_FILE_SEND_SIGIOTASK,
	ARB_HOOK_PTRACE_ACCESS_CHECK,
	ARB_HOOK_TASK_SETSCHEDULER,
	ARB_HOOK_TASK_SETNICE,
	ARB_HOOK_TASK_SETIOPRIO,
	ARB_HOOK_TASK_SETRLIMIT,
	ARB_HOOK_BPF_MAP,
	ARB_HOOK_BPF_PROG,
	ARB_HOOK_FILE_OPEN,
	ARB_HOOK_FILE_IOCTL,
	ARB_HOOK_INODE_SETATTR,
	ARB_HOOK_INODE_SETXATTR,
	ARB_HOOK_INODE_REMOVEXATTR,
	ARB_HOOK_INODE_SET_ACL,
	ARB_HOOK_INODE_REMOVE_ACL,
	ARB_HOOK_INODE_CREATE,
	ARB_HOOK_INODE_MKDIR,
	ARB_HOOK_INODE_MKNOD,
	ARB_HOOK_INODE_SYMLINK,
	ARB_HOOK_INODE_LINK,
	ARB_HOOK_INODE_UNLINK,
	ARB_HOOK_INODE_RMDIR,
	ARB_HOOK_INODE_RENAME,
	ARB_HOOK_SB_MOUNT,
	ARB_HOOK_SB_UMOUNT,
	ARB_HOOK_MOVE_MOUNT,
	ARB_HOOK_COUNT,
};

/* What the protection knows of the daemon. */
struct arb_protection {
	__u32 armed;		/* 0: protect nothing. Cleared by the end of the daemon */
	__u32 mount_ns;		/* inode number of its mount namespace */
};

/* A process that is protected, by its tgid. */
struct arb_guarded {
	__u64 start_ticks;	/* as /proc/PID/stat has it: tells it from a later one */
	__u64 signals;		/* bit s-1: anybody may send signal s who else may */
	__u32 is_daemon;	/* the protection ends with it */
	__u32 pad;
};

/* A process that may do maintenance, with its descendants, by its tgid. */
struct arb_token {
	__u64 start_ticks;
	__u64 until_ns;		/* CLOCK_MONOTONIC */
};

/* Bits of arb_place.flags. */
enum arb_place_flag {
	ARB_PLACE_KEPT = 1 << 0,	/* not to be changed, replaced, removed or mounted over */
	ARB_PLACE_TREE = 1 << 1,	/* nor what is in it: in arb_kept_trees, too */
	ARB_PLACE_WAY = 1 << 2,		/* a directory on the way there: not to be moved */
};

/* A file or directory that is protected (inode storage). */
struct arb_place {
	__u32 flags;
	__u32 index;		/* of the path, for the notice */
};

/* Per hook, one per CPU. */
struct arb_refusals {
	__u64 refused;
	__u64 maintained;	/* let through for a token */
	__u64 by_manager;	/* signals of process 1 or the parent, let through */
	__u64 unnoticed;	/* refused, and no room for the notice */
};

/* What the daemon is told of a refusal (ring buffer). */
#define ARB_LEAF_BYTES 64
struct arb_refusal {
	__u64 start_boottime;
	__u64 dev;
	__u64 ino;
	__u64 arg[3];
	__u32 hook;
	__u32 tgid;
	__u32 tid;
	__u32 uid;
	__u32 gid;
	__u32 index;		/* of the place */
	__u32 depth;		/* how far below it */
	__u32 pad;
	__u8 comm[16];
	__u8 leaf[ARB_LEAF_BYTES];	/* last component of the path */
};

_Static_assert(sizeof(struct arb_facts) == 320, "five cache lines");
_Static_assert(ARB_EVENT_COUNT <= 64, "one bit of header.asked each");
_Static_assert(sizeof(struct arb_slot) % 64 == 0, "slots are cache-line aligned");
_Static_assert(__builtin_offsetof(struct arb_header, heartbeat_ns) % 64 == 0, "own line");
_Static_assert(__builtin_offsetof(struct arb_header, hot) % 64 == 0, "own line");
_Static_assert(__builtin_offsetof(struct arb_header, sleeps) % 64 == 0, "own line");
_Static_assert(__builtin_offsetof(struct arb_header, posted) % 64 == 0, "own line");
_Static_assert(__builtin_offsetof(struct arb_header, pinned) % 64 == 0, "own line");

#endif
