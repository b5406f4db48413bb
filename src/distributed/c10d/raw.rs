//! Functions of the shim, as shim.cpp and nccl.cpp declare them.

use std::ffi::{c_char, c_int, c_void};
use torch_sys::C_tensor;

#[repr(C)]
pub struct RawStore([u8; 0]);
#[repr(C)]
pub struct RawBackend([u8; 0]);
#[repr(C)]
pub struct RawWork([u8; 0]);

/// Null, or an error that the receiver frees.
pub type Message = *mut c_char;

extern "C" {
    pub fn ofb_free_bytes(bytes: *mut c_char);
    pub fn ofb_store_open(
        host: *const c_char,
        port: u16,
        hosts: c_int,
        connect_ms: i64,
        limit_ms: i64,
        prefix: *const c_char,
        store: *mut *mut RawStore,
    ) -> Message;
    pub fn ofb_store_within(
        store: *const RawStore,
        prefix: *const c_char,
        within: *mut *mut RawStore,
    ) -> Message;
    pub fn ofb_store_close(store: *mut RawStore);
    pub fn ofb_store_set(
        store: *mut RawStore,
        key: *const c_char,
        value: *const c_char,
        length: usize,
    ) -> Message;
    pub fn ofb_store_set_once(
        store: *mut RawStore,
        key: *const c_char,
        value: *const c_char,
        length: usize,
    ) -> Message;
    pub fn ofb_store_add(
        store: *mut RawStore,
        key: *const c_char,
        amount: i64,
        value: *mut i64,
    ) -> Message;
    pub fn ofb_store_has(store: *mut RawStore, key: *const c_char, has: *mut c_int) -> Message;
    pub fn ofb_store_wait(store: *mut RawStore, key: *const c_char, limit_ms: i64) -> Message;
    pub fn ofb_store_get(
        store: *mut RawStore,
        key: *const c_char,
        value: *mut *mut c_char,
        length: *mut usize,
    ) -> Message;
    pub fn ofb_gloo_open(
        store: *mut RawStore,
        rank: c_int,
        world_size: c_int,
        limit_ms: i64,
        address: *const c_char,
        backend: *mut *mut RawBackend,
    ) -> Message;
    pub fn ofb_backend_close(backend: *mut RawBackend);
    pub fn ofb_all_reduce(
        backend: *mut RawBackend,
        tensor: *const C_tensor,
        work: *mut *mut RawWork,
    ) -> Message;
    pub fn ofb_broadcast(
        backend: *mut RawBackend,
        tensor: *const C_tensor,
        root: c_int,
        work: *mut *mut RawWork,
    ) -> Message;
    pub fn ofb_all_gather(
        backend: *mut RawBackend,
        all: *const C_tensor,
        own: *const C_tensor,
        work: *mut *mut RawWork,
    ) -> Message;
    pub fn ofb_barrier(backend: *mut RawBackend, work: *mut *mut RawWork) -> Message;
    pub fn ofb_backward(
        loss: *const C_tensor,
        leaves: *const *const C_tensor,
        count: c_int,
        context: *mut c_void,
        ready: unsafe extern "C" fn(*mut c_void, c_int, *mut C_tensor),
    ) -> Message;
    pub fn ofb_work_wait(work: *mut RawWork, slice_ms: i64, done: *mut c_int) -> Message;
    pub fn ofb_work_free(work: *mut RawWork);
}

/// `ofb_nccl_open` of nccl.cpp.
pub type OpenNccl =
    unsafe extern "C" fn(*mut RawStore, c_int, c_int, c_int, i64, *mut *mut RawBackend) -> Message;
