/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Protected files, directories and names.
 */

#define ARB_IOC_WRITE (1u << 30)

static __always_inline struct arb_place *arb_get_place(struct inode *inode)
{
	return bpf_inode_storage_get(&arb_places, inode, 0, 0);
}

static __always_inline struct arb_place *arb_get_tree(struct dentry *dentry)
{
	struct arb_tree key = {
		.dev = BPF_CORE_READ(dentry, d_sb, s_dev),
		.ino = BPF_CORE_READ(dentry, d_inode, i_ino),
	};

	return bpf_map_lookup_elem(&arb_kept_trees, &key);
}

/* Whether a name is protected: its own inode, which there may be none of, by the flags in
 * self; or a tree up to two directories above.
 */
static __always_inline bool arb_is_kept(struct dentry *dentry, struct inode *inode, __u32 self,
					struct arb_attempt *a)
{
	struct arb_place *place = arb_get_place(inode);
	struct dentry *parent;

	a->depth = 0;
	if (place && !(place->flags & self))
		place = NULL;
	if (!place) {
		a->depth = 1;
		parent = BPF_CORE_READ(dentry, d_parent);
		place = arb_get_tree(parent);
		if (!place) {
			a->depth = 2;
			place = arb_get_tree(BPF_CORE_READ(parent, d_parent));
		}
	}
	if (!place)
		return false;
	a->index = place->index;
	a->dentry = dentry;
	return true;
}

static __always_inline int arb_change_file(struct file *file, __u32 hook)
{
	struct arb_attempt a = { .hook = hook };
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);

	if (!arb_get_protection() ||
	    !arb_is_kept(dentry, file->f_inode, ARB_PLACE_KEPT, &a))
		return 0;
	return arb_refuse(&a);
}

static __always_inline int arb_change(struct dentry *dentry, __u32 self, __u32 hook)
{
	struct arb_attempt a = { .hook = hook };

	if (!arb_get_protection() || !arb_is_kept(dentry, dentry->d_inode, self, &a))
		return 0;
	return arb_refuse(&a);
}

#define ARB_ANY_PLACE (ARB_PLACE_KEPT | ARB_PLACE_WAY)

SEC("lsm/file_open")
int BPF_PROG(arb_guard_open, struct file *file)
{
	if (!(file->f_mode & ARB_FMODE_WRITE) && !(file->f_flags & ARB_O_TRUNC))
		return 0;
	return arb_change_file(file, ARB_HOOK_FILE_OPEN);
}

/* FS_IOC_SETFLAGS (chattr +i), FS_IOC_FSSETXATTR and what else is of their kind needs no
 * descriptor for writing.
 */
SEC("lsm/file_ioctl")
int BPF_PROG(arb_guard_ioctl, struct file *file, unsigned int cmd, unsigned long arg)
{
	__u32 group = cmd >> 8 & 0xff;

	if (!(cmd & ARB_IOC_WRITE) || (group != 'f' && group != 'X'))
		return 0;
	return arb_change_file(file, ARB_HOOK_FILE_IOCTL);
}

SEC("lsm/inode_setattr")
int BPF_PROG(arb_guard_setattr, void *idmap, struct dentry *dentry, struct iattr *attr)
{
	return arb_change(dentry, ARB_PLACE_KEPT, ARB_HOOK_INODE_SETATTR);
}

/* Before 6.2 */
SEC("lsm/inode_setattr")
int BPF_PROG(arb_guard_setattr_old, struct dentry *dentry, struct iattr *attr)
{
	return arb_change(dentry, ARB_PLACE_KEPT, ARB_HOOK_INODE_SETATTR);
}

SEC("lsm/inode_setxattr")
int BPF_PROG(arb_guard_setxattr, void *idmap, struct dentry *dentry, const char *name,
	     const void *value, size_t size, int flags)
{
	return arb_change(dentry, ARB_PLACE_KEPT, ARB_HOOK_INODE_SETXATTR);
}

SEC("lsm/inode_removexattr")
int BPF_PROG(arb_guard_removexattr, void *idmap, struct dentry *dentry, const char *name)
{
	return arb_change(dentry, ARB_PLACE_KEPT, ARB_HOOK_INODE_REMOVEXATTR);
}

SEC("lsm/inode_set_acl")
int BPF_PROG(arb_guard_set_acl, void *idmap, struct dentry *dentry, const char *name, void *acl)
{
	return arb_change(dentry, ARB_PLACE_KEPT, ARB_HOOK_INODE_SET_ACL);
}

SEC("lsm/inode_remove_acl")
int BPF_PROG(arb_guard_remove_acl, void *idmap, struct dentry *dentry, const char *name)
{
	return arb_change(dentry, ARB_PLACE_KEPT, ARB_HOOK_INODE_REMOVE_ACL);
}

SEC("lsm/inode_create")
int BPF_PROG(arb_guard_create, struct inode *dir, struct dentry *dentry, __u16 mode)
{
	return arb_change(dentry, 0, ARB_HOOK_INODE_CREATE);
}

SEC("lsm/inode_mkdir")
int BPF_PROG(arb_guard_mkdir, struct inode *dir, struct dentry *dentry, __u16 mode)
{
	return arb_change(dentry, 0, ARB_HOOK_INODE_MKDIR);
}

SEC("lsm/inode_mknod")
int BPF_PROG(arb_guard_mknod, struct inode *dir, struct dentry *dentry, __u16 mode, __u32 dev)
{
	return arb_change(dentry, 0, ARB_HOOK_INODE_MKNOD);
}

SEC("lsm/inode_symlink")
int BPF_PROG(arb_guard_symlink, struct inode *dir, struct dentry *dentry, const char *target)
{
	return arb_change(dentry, 0, ARB_HOOK_INODE_SYMLINK);
}

/* Another name for what is in a tree would lead around it. */
SEC("lsm/inode_link")
int BPF_PROG(arb_guard_link, struct dentry *old, struct inode *dir, struct dentry *dentry)
{
	int refused = arb_change(old, ARB_PLACE_KEPT, ARB_HOOK_INODE_LINK);

	return refused ?: arb_change(dentry, 0, ARB_HOOK_INODE_LINK);
}

SEC("lsm/inode_unlink")
int BPF_PROG(arb_guard_unlink, struct inode *dir, struct dentry *dentry)
{
	return arb_change(dentry, ARB_PLACE_KEPT, ARB_HOOK_INODE_UNLINK);
}

SEC("lsm/inode_rmdir")
int BPF_PROG(arb_guard_rmdir, struct inode *dir, struct dentry *dentry)
{
	return arb_change(dentry, ARB_ANY_PLACE, ARB_HOOK_INODE_RMDIR);
}

SEC("lsm/inode_rename")
int BPF_PROG(arb_guard_rename, struct inode *old_dir, struct dentry *old, struct inode *new_dir,
	     struct dentry *dentry)
{
	int refused = arb_change(old, ARB_ANY_PLACE, ARB_HOOK_INODE_RENAME);

	return refused ?: arb_change(dentry, ARB_ANY_PLACE, ARB_HOOK_INODE_RENAME);
}
