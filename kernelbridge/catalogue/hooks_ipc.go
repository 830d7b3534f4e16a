// SPDX-License-Identifier: Apache-2.0

package catalogue

// ipcHooks are about System V IPC, keys and binder. None of them asks.
var ipcHooks = []Hook{
	{"ipc_permission", Atomic, nil, 0, ipc},
	{"ipc_getsecid", Void, nil, 0, labels},
	{"ipc_getlsmprop", Void, nil, 0, labels},
	{"msg_msg_alloc_security", Atomic, nil, 0, lifetime},
	{"msg_msg_free_security", Void, nil, 0, lifetime},
	{"msg_queue_alloc_security", Atomic, nil, 0, lifetime},
	{"msg_queue_free_security", Void, nil, 0, lifetime},
	{"msg_queue_associate", Atomic, nil, 0, ipc},
	{"msg_queue_msgctl", Atomic, nil, 0, ipc},
	{"msg_queue_msgsnd", Atomic, nil, 0, ipc},
	{"msg_queue_msgrcv", Atomic, nil, 0, ipc},
	{"shm_alloc_security", Atomic, nil, 0, lifetime},
	{"shm_free_security", Void, nil, 0, lifetime},
	{"shm_associate", Atomic, nil, 0, ipc},
	{"shm_shmctl", Atomic, nil, 0, ipc},
	{"shm_shmat", Atomic, nil, 0, ipc},
	{"sem_alloc_security", Atomic, nil, 0, lifetime},
	{"sem_free_security", Void, nil, 0, lifetime},
	{"sem_associate", Atomic, nil, 0, ipc},
	{"sem_semctl", Atomic, nil, 0, ipc},
	{"sem_semop", Atomic, nil, 0, ipc},
	{"key_alloc", Atomic, nil, 0, keys},
	{"key_free", Void, nil, 0, lifetime},
	{"key_permission", Atomic, nil, 0, keys},
	{"key_getsecurity", Atomic, nil, 0, refused},
	{"key_post_create_or_update", Void, nil, 0, after},
	{"binder_set_context_mgr", Atomic, nil, 0, binder},
	{"binder_transaction", Atomic, nil, 0, binder},
	{"binder_transfer_binder", Atomic, nil, 0, binder},
	{"binder_transfer_file", Atomic, nil, 0, binder},
}
