// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The daemon protects itself. What is in the maps below may be changed by the daemon and
 * its own processes, and by the holder of a maintenance token; others get -EPERM. Nobody
 * is asked and nothing is waited for: each program looks up to three inodes, or one
 * process, up in maps, and only on its way to a refusal it walks up to ARB_ANCESTORS
 * parents. None may sleep. All pass an earlier refusal on.
 *
 *   lsm/task_*, ptrace_access_check    what is done to a process
 *   lsm/file_send_sigiotask            SIGIO, which can be SIGKILL (F_SETSIG)
 *   lsm/bpf_map, bpf_prog              who gets a descriptor of a map or program
 *   lsm/file_*, inode_*                what is done to files and names
 *   lsm/sb_*, move_mount               mounts over them, and the end of mounts
 *   lsm/task_free                      the daemon has ended, and so does all of this
 *
 * Where links to these programs are kept by somebody else than the daemon, they go on to
 * run after its end and refuse nothing.
 */
#include "arb_protect.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#include "protect_task.h"
#include "protect_file.h"
#include "protect_mount.h"
