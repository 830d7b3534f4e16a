/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Names that are made, changed or removed, and the attributes of files. Their callers
 * hold locks on a directory or an inode: all of these are locked hooks.
 *
 * The path_* hooks, where there is one, and not inode_*: they are told where the name
 * is, and only system calls reach them.
 */

/* Of struct iattr: times that are set, as opposed to those that follow from a write. */
#define ARB_ATTR_ATIME_SET (1 << 7)
#define ARB_ATTR_MTIME_SET (1 << 8)
#define ARB_ATTR_TOUCH (1 << 17)

/* The hook has the number as user space gave it: new_decode_dev(). */
static __always_inline __u64 arb_device(__u32 dev)
{
	return (__u64)(dev >> 8 & 0xfff) << 20 | (dev & 0xff) | (dev >> 12 & 0xfff00);
}

SEC("lsm/path_mknod")
int BPF_PROG(arb_path_mknod, const struct path *dir, struct dentry *dentry, __u16 mode, __u32 dev)
{
	__u32 kind = mode & ARB_S_IFMT;
	struct arb_question q = {
		.event = !kind || kind == ARB_S_IFREG ? ARB_EVENT_CREATE : ARB_EVENT_MKNOD,
		.mnt = dir->mnt,
		.dentry = dentry,
		.arg = { mode, arb_device(dev) },
	};

	return arb_locked_hook(&q);
}

SEC("lsm/path_mkdir")
int BPF_PROG(arb_path_mkdir, const struct path *dir, struct dentry *dentry, __u16 mode)
{
	struct arb_question q = {
		.event = ARB_EVENT_MKDIR, .mnt = dir->mnt, .dentry = dentry, .arg = { mode },
	};

	return arb_locked_hook(&q);
}

SEC("lsm/path_symlink")
int BPF_PROG(arb_path_symlink, const struct path *dir, struct dentry *dentry, const char *old_name)
{
	struct arb_question q = {
		.event = ARB_EVENT_SYMLINK, .mnt = dir->mnt, .dentry = dentry, .detail = old_name,
	};

	return arb_locked_hook(&q);
}

SEC("lsm/path_link")
int BPF_PROG(arb_path_link, struct dentry *old_dentry, const struct path *new_dir,
	     struct dentry *new_dentry)
{
	/* Both names are on one mount: link(2) refuses others. */
	struct arb_question q = {
		.event = ARB_EVENT_LINK,
		.mnt = new_dir->mnt,
		.dentry = old_dentry,
		.detail_mnt = new_dir->mnt,
		.detail_dentry = new_dentry,
	};

	return arb_locked_hook(&q);
}

SEC("lsm/path_unlink")
int BPF_PROG(arb_path_unlink, const struct path *dir, struct dentry *dentry)
{
	struct arb_question q = { .event = ARB_EVENT_UNLINK, .mnt = dir->mnt, .dentry = dentry };

	return arb_locked_hook(&q);
}

SEC("lsm/path_rmdir")
int BPF_PROG(arb_path_rmdir, const struct path *dir, struct dentry *dentry)
{
	struct arb_question q = { .event = ARB_EVENT_RMDIR, .mnt = dir->mnt, .dentry = dentry };

	return arb_locked_hook(&q);
}

SEC("lsm/path_rename")
int BPF_PROG(arb_path_rename, const struct path *old_dir, struct dentry *old_dentry,
	     const struct path *new_dir, struct dentry *new_dentry, __u32 flags)
{
	struct arb_question q = {
		.event = ARB_EVENT_RENAME,
		.mnt = old_dir->mnt,
		.dentry = old_dentry,
		.detail_mnt = new_dir->mnt,
		.detail_dentry = new_dentry,
		.arg = { flags },
	};

	return arb_locked_hook(&q);
}

SEC("lsm/path_chmod")
int BPF_PROG(arb_path_chmod, const struct path *path, __u16 mode)
{
	struct arb_question q = {
		.event = ARB_EVENT_CHMOD, .mnt = path->mnt, .dentry = path->dentry, .arg = { mode },
	};

	return arb_locked_hook(&q);
}

SEC("lsm/path_chown")
int BPF_PROG(arb_path_chown, const struct path *path, __u64 uid, __u64 gid)
{
	struct arb_question q = {
		.event = ARB_EVENT_CHOWN,
		.mnt = path->mnt,
		.dentry = path->dentry,
		.arg = { (__u32)uid, (__u32)gid },
	};

	return arb_locked_hook(&q);
}

SEC("lsm/path_truncate")
int BPF_PROG(arb_path_truncate, const struct path *path)
{
	struct arb_question q = {
		.event = ARB_EVENT_TRUNCATE, .mnt = path->mnt, .dentry = path->dentry,
	};

	return arb_locked_hook(&q);
}

/* ftruncate(2), since 6.2; before, that is path_truncate. */
SEC("lsm/file_truncate")
int BPF_PROG(arb_file_truncate, struct file *file)
{
	struct arb_question q = {
		.event = ARB_EVENT_TRUNCATE, .mnt = file->f_path.mnt, .dentry = file->f_path.dentry,
	};

	return arb_locked_hook(&q);
}

static __always_inline int arb_setattr(struct dentry *dentry, struct iattr *attr)
{
	__u32 valid = BPF_CORE_READ(attr, ia_valid);
	struct arb_question q = { .event = ARB_EVENT_SETATTR, .dentry = dentry, .arg = { valid } };

	/* Modes, owners and sizes have hooks that know the path. */
	if (!(valid & (ARB_ATTR_ATIME_SET | ARB_ATTR_MTIME_SET | ARB_ATTR_TOUCH)))
		return 0;
	return arb_locked_hook(&q);
}

SEC("lsm/inode_setattr")
int BPF_PROG(arb_inode_setattr, void *idmap, struct dentry *dentry, struct iattr *attr)
{
	return arb_setattr(dentry, attr);
}

/* Before 6.2 */
SEC("lsm/inode_setattr")
int BPF_PROG(arb_inode_setattr_old, struct dentry *dentry, struct iattr *attr)
{
	return arb_setattr(dentry, attr);
}

SEC("lsm/inode_setxattr")
int BPF_PROG(arb_inode_setxattr, void *idmap, struct dentry *dentry, const char *name,
	     const void *value, size_t size, int flags)
{
	struct arb_question q = {
		.event = ARB_EVENT_SETXATTR,
		.dentry = dentry,
		.detail = name,
		.arg = {size, (__u32)flags},
	};

	return arb_locked_hook(&q);
}

SEC("lsm/inode_removexattr")
int BPF_PROG(arb_inode_removexattr, void *idmap, struct dentry *dentry, const char *name)
{
	struct arb_question q = {.event = ARB_EVENT_REMOVEXATTR, .dentry = dentry, .detail = name};

	return arb_locked_hook(&q);
}

/* Since 6.2 ACLs, which are extended attributes, come by here and not by the two above. */
SEC("lsm/inode_set_acl")
int BPF_PROG(arb_inode_set_acl, void *idmap, struct dentry *dentry, const char *name,
	     struct posix_acl *acl)
{
	struct arb_question q = {.event = ARB_EVENT_SETXATTR, .dentry = dentry, .detail = name};

	unsigned int entries = BPF_CORE_READ(acl, a_count); /* NULL, which empties it: 0 */

	if (entries)
		q.arg[0] = ARB_ACL_HEAD_BYTES + ARB_ACL_ENTRY_BYTES * entries;
	return arb_locked_hook(&q);
}

SEC("lsm/inode_remove_acl")
int BPF_PROG(arb_inode_remove_acl, void *idmap, struct dentry *dentry, const char *name)
{
	struct arb_question q = {.event = ARB_EVENT_REMOVEXATTR, .dentry = dentry, .detail = name};

	return arb_locked_hook(&q);
}
