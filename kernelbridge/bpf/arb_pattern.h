/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which of the rules that the kernel decides by have a pattern that matches a path: the same
 * text as a worker would compare, and the same bytes.
 *
 * A pattern is a key of a hash table, so the time does not depend on how many there are:
 * the path's beginning is looked up once for each length that patterns have, 16 at most,
 * and the whole of it once.
 */
#ifndef ARB_PATTERN_H
#define ARB_PATTERN_H

#include "arb_ring.h"

/* Two halves, as of arb_rules. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * ARB_EVENT_COUNT * ARB_MAX_PATTERNS);
	__type(key, struct arb_pattern);
	__type(value, struct arb_pattern_rules);
} arb_patterns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * ARB_EVENT_COUNT);
	__type(key, __u32);
	__type(value, struct arb_pattern_lens);
} arb_lens SEC(".maps");

/* What the matching of a path writes, of whoever has the slot: the stack is too short. */
struct arb_match {
	struct arb_pattern key;
	__u32 rules;
	__u32 deeper; /* there is a '/' behind the key */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ARB_SLOTS);
	__type(key, __u32);
	__type(value, struct arb_match);
} arb_matches SEC(".maps");

struct arb_matching {
	struct arb_match *m;
	struct arb_pattern_lens *lens;
	struct arb_slot *slot;
};

static long arb_key_step(__u32 i, struct arb_matching *of)
{
	struct arb_pattern *key = &of->m->key;
	__u32 left = key->len - i * 8;
	__u64 word;

	if (i >= ARB_PATTERN_BYTES / 8 || i * 8 >= key->len)
		return 1;
	word = *(__u64 *)(of->slot->path + i * 8);
	if (left < 8)
		word &= (1ull << (8 * left)) - 1;
	*(__u64 *)(key->text + i * 8) = word;
	return 0;
}

/* What is known of the first len bytes of the path; never fewer than the last time, for what
 * is behind them in the key is zero.
 */
static __always_inline struct arb_pattern_rules *arb_look_up(struct arb_matching *of, __u32 len)
{
	of->m->key.len = len;
	bpf_loop(ARB_PATTERN_BYTES / 8, arb_key_step, of, 0);
	return bpf_map_lookup_elem(&arb_patterns, &of->m->key);
}

static long arb_deeper_step(__u32 i, struct arb_matching *of)
{
	__u32 at = of->m->key.len + i;

	if (at >= of->slot->facts.path_len)
		return 1;
	of->m->deeper = of->slot->path[at & (ARB_PATH_BYTES - 1)] == '/';
	return of->m->deeper;
}

static long arb_beginning_step(__u32 i, struct arb_matching *of)
{
	struct arb_pattern_rules *found;
	__u32 len;

	if (i >= of->lens->count || i >= ARB_PATTERN_LENS)
		return 1;
	len = of->lens->len[i];
	if (len > of->slot->facts.path_len)
		return 1;
	found = arb_look_up(of, len);
	if (!found)
		return 0;
	of->m->rules |= found->below;
	if (!found->within)
		return 0;
	of->m->deeper = 0;
	bpf_loop(ARB_PATH_BYTES, arb_deeper_step, of, 0);
	if (!of->m->deeper)
		of->m->rules |= found->within;
	return 0;
}

/* The rules of a list with a pattern that matches the path of slot s, number index: a bit each. */
ARB_GLOBAL int arb_match_path(struct arb_slot *s, __u32 index, __u32 list)
{
	struct arb_matching of = { .slot = s };
	struct arb_pattern_rules *found;

	index &= ARB_SLOTS - 1;
	of.m = bpf_map_lookup_elem(&arb_matches, &index);
	of.lens = bpf_map_lookup_elem(&arb_lens, &list);
	if (!s || !of.m || !of.lens)
		return 0;
	__builtin_memset(of.m, 0, sizeof(*of.m));
	of.m->key.list = list;
	bpf_loop(ARB_PATTERN_LENS, arb_beginning_step, &of, 0);
	if (of.lens->whole && s->facts.path_len <= ARB_PATTERN_BYTES) {
		found = arb_look_up(&of, s->facts.path_len);
		if (found)
			of.m->rules |= found->whole;
	}
	return of.m->rules;
}

#endif
