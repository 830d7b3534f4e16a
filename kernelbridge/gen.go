// SPDX-License-Identifier: Apache-2.0

package kernelbridge

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64 -output-stem hooks_bpf -type arb_notice -type arb_tree -type arb_rule -type arb_cgroup_key -type arb_uid_range -type arb_scope_config hooks bpf/hooks.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -Ibpf
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64 -output-stem native_bpf -type arb_native_args nativeQueue bpf/native.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -Ibpf
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64 -output-stem protect_bpf -type arb_refusal protect bpf/protect.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -Ibpf
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64 -output-stem lineage_bpf -type arb_marking lineage bpf/lineage.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -Ibpf
//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64 -output-stem death_bpf -type arb_glass_file death bpf/death.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -Ibpf
