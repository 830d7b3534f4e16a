// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The programs on the LSM hooks, one file per room of the kernel. Which of them are
 * attached is decided by the daemon: those whose events a rule is about, as far as the
 * running kernel has their hooks and takes them.
 */
#include "arb_ask.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#include "hooks_file.h"
#include "hooks_name.h"
#include "hooks_mount.h"
#include "hooks_socket.h"
#include "hooks_task.h"
#include "hooks_kernel.h"
