// SPDX-License-Identifier: Apache-2.0

/*
 * The queue between tasks that ask and workers that answer, with its gate, for spin.
 * model_test.go has the configurations and what each must show; the record is
 * docs/decisions/0013-promela-model.md.
 *
 * Every step between two semicolons is one access to shared memory, one system call, or
 * what the kernel does under one lock. Names in the comments are those of the code:
 * arb_* in kernelbridge/bpf/arb_ring.h and arb_wait.h, the rest in kernelbridge/ring and
 * kernelbridge/gate.
 *
 * Time is a choice: a deadline may pass at any step, and a budget may end at any step.
 * Where that would hide a loss the task may also choose to wait for ever, and then a
 * state that nobody leaves is an error. Every run ends (-DNP: the graph has no cycle), so
 * that every request has its outcome in every run, however unfair the scheduler is.
 *
 * Set by -D:
 *	REQUESTERS, ASKS, WORKERS, SLOTS   how many of each; ASKS are each requester's
 *	GENERATIONS                        values of the generation counter
 *	GATE, KICK                         what a task does after the hot rung; both: either
 *	HOT_ONLY                           the hot rung has no budget: its promise alone
 *	GIVE_UP                            deadlines pass
 *	KILLS, SIGNALS                     how many SIGKILLs and other signals arrive
 *	NEVER_PARK                         workers never go idle
 *	HEART                              how often the heart acts: it reads the gate, and
 *	                                   ends a sleep of 1 s
 *	REFUSED                            another LSM may keep tasks out of the gate; with KICK
 *	DEATH                              the daemon may die at any moment
 *	FOREIGN                            a task may call the gate by itself, with its last slot
 *	TELL_AT_ONCE, TID_FIRST            ways that the code does not go, but may: a reader
 *	                                   replies to an interrupted request at once, and looks
 *	                                   at the facts before the word
 *	MUT_*                              a mistake, which spin has to find
 */

#ifndef REQUESTERS
#define REQUESTERS 2
#endif
#ifndef ASKS
#define ASKS 2
#endif
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef SLOTS
#define SLOTS 1
#endif
#ifndef KILLS
#define KILLS 0
#endif
#ifndef SIGNALS
#define SIGNALS 0
#endif
#ifndef HEART
#define HEART 0
#endif

#define REQUESTS (REQUESTERS * ASKS)

/* One value more than there are claims: it wraps, but no answer is a whole round old. */
#ifndef GENERATIONS
#define GENERATIONS (REQUESTS + 1)
#endif

/*
 * The slot word, abi.Word: state, SLEEPING, errno and generation. The errno is the
 * question that the answer is about, so that an answer to another one shows.
 */
#define FREE      0
#define FILLING   1
#define POSTED    2
#define TAKEN     3
#define DONE      4
#define ABANDONED 5

#define SLEEPING 8
#define STATE(w)       ((w) & 7)
#define IS_SLEEPING(w) ((w) & SLEEPING)
#define ERRNO(w)       (((w) >> 4) & 15)
#define GEN(w)         ((w) >> 8)
#define WORD(gen, st)  (((gen) << 8) | (st))
#define DONE_WORD(w, question) (((GEN(w)) << 8) | ((question) << 4) | DONE)

#define NONE 15 /* no question */

/* Shared memory: the header and the slots. */
short word[SLOTS];
byte facts[SLOTS];  /* the question, which tells the tid too */
byte posted;        /* bit per slot */
byte hot;           /* bit per worker that polls */
byte sleeps;        /* header.sleeps less those that were served */

/* The daemon's own: the unique of the FUSE request to reply to, 0 for none. */
byte sleeper[SLOTS];
byte held[WORKERS + 2];     /* by a reader of the gate, in a variable of its own; then Heart, Tick */
byte interrupted[REQUESTERS]; /* by caller: a request that a signal has interrupted, 0 for none */

/*
 * The kernel's. A unique is 1 + requester + REQUESTERS * number; the number is the least that
 * nobody remembers, which is as good as a new one and makes fewer states.
 */
#define IDLE    0
#define PENDING 1 /* queued, nobody has read it */
#define READ    2 /* a reader has it: uninterruptible until the reply */
#define NAME(r, n)    (1 + (r) + REQUESTERS * (n))
#define UNIQUE(r)     NAME(r, number[r])
#define CALLER(u)     (((u) - 1) % REQUESTERS)
#define TID(question) ((question) / ASKS)
byte call[REQUESTERS];     /* the getxattr of a task */
byte call_slot[REQUESTERS]; /* its size, less 1 */
byte number[REQUESTERS];
byte interrupt[REQUESTERS]; /* FUSE_INTERRUPT: the unique it is about, 0 for none */
bit told[REQUESTERS];      /* the request at hand has had its only FUSE_INTERRUPT */
bit killed[REQUESTERS];    /* SIGKILL is pending */
bit kick;                  /* the kick buffer is readable */
byte waiting;              /* bit per worker that is in epoll_wait and has not been woken */
bit dead;                  /* the daemon */

/* What is proved: no code has these. */
byte owner[SLOTS];        /* requester that uses the slot, NONE for nobody */
bit answered[REQUESTS];   /* a worker was told that its answer counts */
bit failed[REQUESTS];     /* the requester counted a failure */
bit running[REQUESTERS];
byte late_due;            /* questions given up while a worker had them */

#define ANY_PENDING (call[0] == PENDING || (REQUESTERS > 1 && call[REQUESTERS - 1] == PENDING))
#define ANY_INTERRUPT (interrupt[0] != 0 || (REQUESTERS > 1 && interrupt[REQUESTERS - 1] != 0))

/* __sync_val_compare_and_swap, atomic.CompareAndSwapUint64: got == old says that it did. */
inline cas(at, from, to, got)
{
	atomic {
		got = word[at];
		if
		:: got == (from) -> word[at] = (to)
		:: else
		fi
	}
}

#define KNOWN(u) (sleeper[0] == u || sleeper[SLOTS - 1] == u || \
	held[0] == u || held[WORKERS - 1] == u || held[WORKERS] == u || held[WORKERS + 1] == u || \
	interrupted[CALLER(u)] == u)

/* EPOLLEXCLUSIVE: one of those who wait, whichever, and not one more. */
inline wake_one()
{
	if
	:: waiting & 1 -> waiting = waiting & ~1
	:: waiting & 2 -> waiting = waiting & ~2
	:: waiting == 0
	fi
}

/* bpf_get_file_xattr, or getxattr(2): fuse_getxattr queues a request, and blocks. */
inline enter_gate()
{
	number[me] = 0;
	do
	:: KNOWN(UNIQUE(me)) -> number[me]++
	:: else -> break
	od;
	call_slot[me] = slot;
	call[me] = PENDING;
	wake_one()
}

/* The call is over. */
inline leave_gate(r)
{
	call[r] = IDLE;
	call_slot[r] = 0;
	number[r] = 0;
	interrupt[r] = 0;
	told[r] = 0
}

/* A reply to a FUSE request: ENOENT, and nothing, if it was replied to or is gone. */
inline reply(unique)
{
	d_step {
		if
		:: unique != 0 && call[CALLER(unique)] == READ && UNIQUE(CALLER(unique)) == unique ->
			leave_gate(CALLER(unique))
		:: else
		fi;
		unique = 0
	}
}

/* arb_fail: exactly one outcome, and this is it. */
inline fail(which)
{
	assert(!answered[which] && !failed[which]);
	failed[which] = 1
}

/* The exchange that gives up. From here on the answer, if it comes, is late. */
inline abandon()
{
	w = word[slot];
	if
	:: w == mine ->
		word[slot] = WORD(GEN(mine), ABANDONED);
		fail(question);
		if
		:: STATE(w) == TAKEN -> late_due++
		:: else
		fi
	:: else
	fi
}

/* The question is over: another outcome of either kind is one too many. */
inline free()
{
	owner[slot] = NONE;
	answered[question] = 1;
	failed[question] = 1;
	word[slot] = WORD(GEN(mine), FREE)
}

proctype Requester(byte me)
{
	byte slot, question;
	short w, mine;

	question = me * ASKS;
ask:
#ifdef DEATH
	/* arb_alive: the heartbeat tells of a death, but some time after it. */
	if
	:: atomic { dead -> fail(question); goto next } /* no_worker */
	:: true
	fi;
#endif
	/* arb_claim, arb_try_slot, and the facts, which are nobody's until they are posted */
	slot = me % SLOTS;
try:
#ifdef MUT_CLAIM_STORE
	w = word[slot];
#endif
	atomic {
#ifndef MUT_CLAIM_STORE
		w = word[slot];
#endif
		if
		:: STATE(w) != FREE && (slot + 1) % SLOTS != me % SLOTS ->
			slot = (slot + 1) % SLOTS;
			goto try
		:: STATE(w) != FREE && (slot + 1) % SLOTS == me % SLOTS ->
			fail(question); /* ring_full */
			goto next
		:: else
		fi;
		mine = WORD((GEN(w) + 1) % GENERATIONS, FILLING);
		word[slot] = mine;
		assert(owner[slot] == NONE);
		owner[slot] = me;
#ifndef MUT_POST_BEFORE_FACTS
		facts[slot] = question;
#endif
		mine = WORD(GEN(mine), POSTED);
		w = 0
	};
	/* arb_post */
#ifdef MUT_BIT_BEFORE_WORD
	posted = posted | (1 << slot);
	word[slot] = mine;
#else
	word[slot] = mine;
	posted = posted | (1 << slot);
#endif
#ifdef MUT_POST_BEFORE_FACTS
	facts[slot] = question;
#endif
	/* arb_wait_free, arb_wait_polling: arb_hot_elsewhere says who polls */
	if
	:: hot != 0 -> goto poll_hot
	:: else -> goto cold
	fi;

poll_hot: /* rung "hot", arb_wait_hot and arb_poll */
#ifdef HOT_ONLY
	if
	:: true -> goto poll
	:: true -> goto give_up_soon
	fi;
#else
	if
	:: atomic { STATE(word[slot]) == DONE -> w = word[slot]; goto verdict }
#if KILLS > 0
	:: killed[me] -> goto give_up
#endif
	:: true /* the budget is spent */
	fi;
#endif

cold:
#if defined(GATE) && defined(KICK)
	if
	:: goto sleep
	:: goto wake
	fi;
#elif defined(GATE)
	goto sleep;
#endif

#ifdef KICK
wake: /* arb_kick_parked */
	atomic { kick = 1; wake_one() };
	if
	:: true -> goto poll
	:: true -> goto give_up_soon
	fi;
#endif

poll: /* arb_poll, with all the patience there is: only an answer ends it, or an end */
	if
	:: atomic { STATE(word[slot]) == DONE -> w = word[slot]; goto verdict }
#if KILLS > 0
	:: killed[me] -> goto give_up
#endif
#ifdef DEATH
	:: dead -> goto give_up
#endif
	fi;

give_up_soon: /* the deadline passes, at whatever moment */
#ifdef GIVE_UP
	if
	:: atomic { STATE(word[slot]) == DONE -> w = word[slot]; goto verdict }
	:: true -> goto give_up
	fi;
#else
	goto poll;
#endif

#ifdef GATE
sleep: /* rung "sleep", arb_wait_asleep; first arb_mark_sleeping */
#ifdef MUT_SLEEP_STORE
	atomic { mine = mine | SLEEPING; word[slot] = mine };
#else
	atomic {
		cas(slot, mine, mine | SLEEPING, w);
		if
		:: w == mine -> goto asleep
		:: STATE(w) == DONE -> goto verdict
		:: else -> mine = w
		fi
	};
#ifndef MUT_SLEEP_NO_RETRY /* else it sleeps without its flag */
	atomic {
		cas(slot, mine, mine | SLEEPING, w);
		if
		:: w == mine -> goto asleep
		:: else -> goto verdict
		fi
	};
#endif
#endif
#ifndef MUT_SLEEP_NO_RETRY
asleep:
	mine = mine | SLEEPING;
#else
asleep:
#endif
again: /* arb_sleep */
#ifdef REFUSED /* another LSM lets nobody in, from whatever moment on: arb_wait_polling */
	if
	:: true -> goto wake
	:: true -> skip
	fi;
#endif
#ifdef NEVER_PARK
	sleeps++;
#endif
	atomic { w = 0; enter_gate() };
	if
	:: call[me] == IDLE
#if KILLS > 0
	:: d_step { killed[me] && call[me] == PENDING -> leave_gate(me) }
#endif
#ifdef DEATH
	:: d_step { dead -> leave_gate(me) } /* fuse_abort_conn */
#endif
	fi;
	/* arb_sleep_step */
	atomic {
		w = word[slot];
		if
		:: STATE(w) == DONE -> goto verdict
		:: else -> w = 0
		fi
	};
	if
#if KILLS > 0
	:: killed[me] -> goto give_up /* interrupted */
#endif
#ifdef DEATH
	:: dead -> goto give_up /* gate_dead */
#endif
#ifdef GIVE_UP
	:: true -> goto give_up /* deadline */
#endif
	:: else -> goto again
#ifdef GIVE_UP
	:: true -> goto again
#endif
	fi;
#endif

give_up: /* arb_settle */
#ifdef MUT_ABANDON_STORE
	w = word[slot];
	if
	:: STATE(w) == DONE -> goto verdict
	:: else ->
		atomic {
			mine = w;
			word[slot] = WORD(GEN(w), ABANDONED);
			fail(question);
			if
			:: STATE(w) == TAKEN -> late_due++
			:: else
			fi
		}
	fi;
#else
	atomic {
		abandon();
		if
		:: w == mine -> goto given_up
		:: STATE(w) == DONE -> goto verdict
		:: else -> mine = w
		fi
	};
	atomic {
		abandon();
		if
		:: w != mine -> goto verdict
		:: else
		fi
	};
#endif
given_up:
	atomic {
		free();
		goto next
	};

verdict:
	/* The answer is for this generation, to this question, and the worker knows. */
	atomic {
		assert(STATE(w) == DONE && GEN(w) == GEN(mine));
		assert(ERRNO(w) == question);
		assert(answered[question] && !failed[question]);
		assert(owner[slot] == me);
		free();
		goto next
	};

next:
	atomic {
		w = 0; mine = 0; question++;
		if
		:: question < (me + 1) * ASKS && !killed[me] -> goto ask
		:: else
		fi
	};
#ifdef FOREIGN
	/* The task calls getxattr(2) on the gate, with the slot that it had. */
	if
	:: true
	:: atomic { enter_gate() };
end_foreign:	call[me] == IDLE /* it may have to wait for the heart, or a signal */
	fi;
#endif
	running[me] = 0
}

#define GATE_MESSAGE (ANY_PENDING || ANY_INTERRUPT)

/* read(/dev/fuse): u is the unique, slot the slot, tid the caller; or u is interrupted. */
inline read_gate(r)
{
	if
	:: interrupt[r] != 0 ->
		held[me] = interrupt[r];
		interrupt[r] = 0;
		tid = NONE
	:: interrupt[r] == 0 && call[r] == PENDING ->
		call[r] = READ;
		held[me] = UNIQUE(r);
		slot = call_slot[r];
		tid = r;
		if
		:: killed[r] -> interrupt[r] = held[me]; told[r] = 1; wake_one()
		:: else
		fi
	:: else
	fi
}

/* Gate.Release: whoever swaps the unique out replies to it. */
inline swap_out()
{
	held[me] = sleeper[slot];
	sleeper[slot] = 0
}

inline look_at_word()
{
	atomic {
		w = word[slot];
		if
		:: STATE(w) != POSTED && STATE(w) != TAKEN && STATE(w) != DONE -> goto reply_and_go
		:: else
		fi
	}
}

inline look_at_tid()
{
	atomic {
		if
		:: TID(facts[slot]) != tid -> goto reply_and_go
		:: else
		fi
	}
}

/* What a reader of the gate does with one message: device.handle, Gate.sleep. */
inline serve_gate()
{
	atomic {
		held[me] = 0;
		if
		:: interrupt[0] != 0 || call[0] == PENDING -> read_gate(0)
#if REQUESTERS > 1
		:: interrupt[1] != 0 || call[1] == PENDING -> read_gate(1)
#endif
		:: else -> goto served /* EAGAIN */
		fi;
		if
#ifdef TELL_AT_ONCE
		:: tid == NONE -> goto reply_and_go
#else
		:: tid == NONE -> /* sleepers.interrupt: Tick is to end it */
			interrupted[CALLER(held[me])] = held[me];
			held[me] = 0;
			goto served
#endif
		:: else
		fi
	};
	/* Slots.State: the word, then the facts. What is foreign has its ENODATA at once. */
#ifdef TID_FIRST
	look_at_tid();
	look_at_word();
#else
	look_at_word();
	look_at_tid();
#endif
#ifdef NEVER_PARK
	sleeps--; /* Gate.Served */
#endif
	/* sleepers.note. Write, then look; and whoever was there is not forgotten. */
	atomic {
#ifdef MUT_SLEEPER_STORE
		other = 0;
#else
		other = sleeper[slot];
#if !defined(TELL_AT_ONCE) && !defined(TID_FIRST)
		assert(other == 0); /* there is never a second one: the reply needs its channel */
#endif
#endif
		sleeper[slot] = held[me];
		held[me] = other;
		other = 0;
		if
		:: held[me] == 0 -> goto look
		:: else
		fi
	};
	reply(held[me]);
look:
#ifndef MUT_REGISTER_WITHOUT_LOOK
	atomic {
		if
		:: (STATE(word[slot]) == POSTED || STATE(word[slot]) == TAKEN) && GEN(word[slot]) == GEN(w) -> goto served
		:: else -> w = 0
		fi
	};
	atomic {
		swap_out();
		if
		:: held[me] == 0 -> goto served
		:: else
		fi
	};
#else
	goto served;
#endif
reply_and_go:
	reply(held[me]);
served:
	atomic { w = 0; slot = 0; tid = 0 }
}

#ifdef DEATH
#define UNLESS_DEAD unless { dead }
#else
#define UNLESS_DEAD
#endif

#define ANSWERED 7 /* no state: the exchange was made */

/* The exchange that answers. */
inline answer()
{
	seen = word[slot];
	if
#ifdef MUT_NO_GENERATION
	:: STATE(seen) == TAKEN && IS_SLEEPING(seen) == IS_SLEEPING(w) ->
#else
	:: seen == w ->
#endif
		word[slot] = DONE_WORD(seen, question);
		assert(!answered[question] && !failed[question]);
		answered[question] = 1;
		seen = ANSWERED
	:: else
	fi
}

inline forget()
{
	w = 0; seen = 0; slot = 0; question = 0
}

/* Reply says no: counted, not cached. Only a question that was given up has a late answer. */
inline late()
{
	assert(failed[question] && late_due > 0);
	late_due--
}

proctype Worker(byte me)
{
	byte slot, question, tid, other;
	short w, seen;
{
	skip;
next: /* Source.Next */
	hot = hot | (1 << me);
end_hot:
	if
	:: posted & 1 -> slot = 0
#if SLOTS > 1
	:: posted & 2 -> slot = 1
#endif
#ifdef GATE
#ifdef NEVER_PARK
	:: sleeps != 0 && GATE_MESSAGE -> goto gate
#endif
#endif
#ifndef NEVER_PARK
	:: posted == 0 -> goto park
#endif
	fi;
	/* Source.Next clears the bit, Source.take reads the word after that. */
#ifdef MUT_BIT_AFTER_TAKE
	w = word[slot];
	posted = posted & ~(1 << slot);
#else
	posted = posted & ~(1 << slot);
#endif
	atomic {
#ifndef MUT_BIT_AFTER_TAKE
		w = word[slot];
#endif
		if
		:: STATE(w) != POSTED -> forget(); goto end_hot
		:: else
		fi
	};
	question = facts[slot]; /* fill */
	atomic {
		cas(slot, w, (w & ~7) | TAKEN, seen);
		if
		:: seen == w -> goto taken
		/* exchange: once more if it is the same question, whose task goes to sleep. */
#ifdef MUT_TAKE_ANY_GENERATION
		:: seen != w && STATE(seen) == POSTED -> w = seen
#elif !defined(MUT_TAKE_NO_RETRY)
		:: seen != w && seen == (w | SLEEPING) -> w = seen
#endif
		:: else -> forget(); goto end_hot
		fi
	};
	atomic {
		cas(slot, w, (w & ~7) | TAKEN, seen);
		if
		:: seen == w
		:: else -> forget(); goto end_hot
		fi
	};
taken:
	/* Source.Reply, exchange again; then the worker's accounting */
	atomic {
		w = (w & ~7) | TAKEN;
		answer();
		if
		:: seen == ANSWERED -> goto told_so
#ifndef MUT_REPLY_NO_RETRY
		:: seen != w && seen == (w | SLEEPING) -> w = seen
#endif
#ifdef MUT_LATE_AS_ANSWER
		:: else -> goto told_so
#else
		:: else -> late(); forget(); goto end_hot
#endif
		fi
	};
	atomic {
		answer();
		if
		:: seen == ANSWERED
		:: else -> late(); forget(); goto end_hot
		fi
	};
told_so:
#ifdef GATE
	atomic {
		if
		:: IS_SLEEPING(w) -> swap_out()
		:: else
		fi;
		forget();
		if
		:: held[me] == 0 -> goto end_hot
		:: else
		fi
	};
	atomic { reply(held[me]); goto end_hot };
#else
	atomic { forget(); goto end_hot };
#endif

#ifndef NEVER_PARK
park: /* Source.Park */
	hot = hot & ~(1 << me);
#ifndef MUT_PARK_WITHOUT_LOOK
	if
	:: posted != 0 -> goto next
	:: else
	fi;
#endif
wait: /* Parker.Wait: what is there already needs no wake-up, */
	atomic {
		if
		:: !(GATE_MESSAGE || kick) -> waiting = waiting | (1 << me)
		:: else
		fi
	};
end_parked: /* and who is woken looks whether it still is */
	atomic {
		!(waiting & (1 << me)) ->
		if
#ifdef GATE
		:: GATE_MESSAGE -> goto gate
#endif
		:: kick -> kick = 0; goto next
		:: !(GATE_MESSAGE || kick) -> goto wait
		fi
	};
#endif
#ifdef GATE
gate:
	serve_gate();
#ifdef MUT_WAKE_WITHOUT_SCAN
	goto wait;
#else
	goto next;
#endif
#endif
} UNLESS_DEAD
}

#if HEART > 0
/* The heart looks every 20 ms: a third reader, and the end of sleeps that last 1 s. */
proctype Heart()
{
	byte slot, tid, other, times, me = WORKERS;
	short w;
{
	skip;
end_heart:
	if
	:: times < HEART && GATE_MESSAGE -> goto gate
	:: times < HEART && sleeper[0] != 0 -> slot = 0
#if SLOTS > 1
	:: times < HEART && sleeper[1] != 0 -> slot = 1
#endif
	fi;
	atomic { times++; swap_out() };
	atomic { slot = 0; reply(held[me]); goto end_heart };
gate:
	times++;
	serve_gate();
	/* The message would have woken a worker: Gate.wakeParkers. */
#ifndef MUT_HEART_WAKES_NOBODY
	atomic { kick = 1; wake_one() };
#endif
	goto end_heart
} UNLESS_DEAD
}
#endif

#if defined(GATE) && !defined(TELL_AT_ONCE) && (KILLS > 0 || SIGNALS > 0)
#define NOTED(r) (interrupted[r] != 0 && (interrupted[r] == sleeper[0] || interrupted[r] == sleeper[SLOTS - 1]))
#define GONE(r)  (interrupted[r] != 0 && !(call[r] == READ && UNIQUE(r) == interrupted[r]))

/* Gate.notYet: whoever swaps the request out replies to it. One not noted yet is kept. */
inline end_sleep(r)
{
	held[me] = interrupted[r];
	interrupted[r] = 0;
	if
	:: held[me] == sleeper[0] -> sleeper[0] = 0
	:: held[me] != sleeper[0] && held[me] == sleeper[SLOTS - 1] -> sleeper[SLOTS - 1] = 0
	:: else -> held[me] = 0
	fi
}

/* Gate.Tick and endOrphans: what an interrupt does comes to pass within 20 ms. */
proctype Tick()
{
	byte me = WORKERS + 1;
{
	skip;
end_tick:
	if
	:: atomic { NOTED(0) -> end_sleep(0) }
	:: d_step { GONE(0) -> interrupted[0] = 0 } /* kept for 1 s */
#if REQUESTERS > 1
	:: atomic { NOTED(1) -> end_sleep(1) }
	:: d_step { GONE(1) -> interrupted[1] = 0 }
#endif
	fi;
	atomic { reply(held[me]); goto end_tick }
} UNLESS_DEAD
}
#define TICK
#endif

#if KILLS > 0 || SIGNALS > 0
#define IN_GATE(r) (call[r] == READ && !told[r]) /* a signal is told to the reader, once */

inline signal(r)
{
	if
	:: IN_GATE(r) -> interrupt[r] = UNIQUE(r); told[r] = 1; wake_one()
	:: else
	fi
}

/* Signals arrive at any moment, or not. One that is not fatal matters in the gate alone. */
proctype Signals()
{
	byte kills, others;
end_signals:
	do
#if KILLS > 0
	:: atomic { kills < KILLS && running[0] && !killed[0] -> kills++; killed[0] = 1; signal(0) }
#if REQUESTERS > 1
	:: atomic { kills < KILLS && running[1] && !killed[1] -> kills++; killed[1] = 1; signal(1) }
#endif
#endif
#if SIGNALS > 0
	:: atomic { others < SIGNALS && IN_GATE(0) -> others++; signal(0) }
#if REQUESTERS > 1
	:: atomic { others < SIGNALS && IN_GATE(1) -> others++; signal(1) }
#endif
#endif
	:: break
	od
}
#endif

init {
	byte i;
	atomic {
		for (i : 0 .. SLOTS - 1) {
			word[i] = WORD(GENERATIONS - 1, FREE); /* abi.FirstGen: it wraps */
			facts[i] = REQUESTS;
			owner[i] = NONE
		};
		for (i : 0 .. WORKERS - 1) { run Worker(i) };
		for (i : 0 .. REQUESTERS - 1) { running[i] = 1; run Requester(i) };
#if HEART > 0
		run Heart();
#endif
#if KILLS > 0 || SIGNALS > 0
		run Signals();
#endif
#ifdef TICK
		run Tick();
#endif
		i = 0
	};
#ifdef DEATH
end_alive: dead = 1;
#else
	/* When nothing moves any more, every late answer has been counted. */
	timeout -> assert(late_due == 0)
#endif
}
