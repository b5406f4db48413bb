//! The store of a group.

use super::raw::*;
use super::{check, made, milliseconds, text, Result};
use std::ptr::{null_mut, NonNull};
use std::time::Duration;

/// Time limits of a connection to a store.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For connecting.
    pub connect: Duration,
    /// For a value that another rank has still to write.
    pub wait: Duration,
}

/// A connection to the key-value store of a group, which this process may host.
#[derive(Debug)]
pub struct Store(NonNull<RawStore>);

// SAFETY: c10d's stores lock a mutex in every operation, and belong to no thread.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Store {
    /// Connects to the store at an address, which a connection that `hosts` opens there first.
    /// Keys get the prefix.
    pub fn open(
        (host, port): (&str, u16),
        hosts: bool,
        limits: Limits,
        prefix: &str,
    ) -> Result<Self> {
        let (host, prefix) = (text(host)?, text(prefix)?);
        made(|store| {
            // SAFETY: the strings outlive the call, and `store` is valid for a write.
            unsafe {
                ofb_store_open(
                    host.as_ptr(),
                    port,
                    hosts.into(),
                    milliseconds(limits.connect),
                    milliseconds(limits.wait),
                    prefix.as_ptr(),
                    store,
                )
            }
        })
        .map(Self)
    }

    /// Returns the same connection, whose keys get a further prefix.
    pub fn within(&self, prefix: &str) -> Result<Self> {
        let prefix = text(prefix)?;
        made(|store| {
            // SAFETY: the store is open, the prefix outlives the call, and `store` is valid for a write.
            unsafe { ofb_store_within(self.raw(), prefix.as_ptr(), store) }
        })
        .map(Self)
    }

    /// The store of the shim, open as long as `self` lives.
    pub(super) fn raw(&self) -> *mut RawStore {
        self.0.as_ptr()
    }

    /// Sets the value of a key.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let key = text(key)?;
        // SAFETY: the store is open; key and value outlive the call, which copies them.
        check(unsafe {
            ofb_store_set(self.raw(), key.as_ptr(), value.as_ptr().cast(), value.len())
        })
    }

    /// Sets the value of a key unless it has one.
    pub fn set_once(&self, key: &str, value: &[u8]) -> Result<()> {
        let key = text(key)?;
        // SAFETY: the store is open; key and value outlive the call, which copies them.
        check(unsafe {
            ofb_store_set_once(self.raw(), key.as_ptr(), value.as_ptr().cast(), value.len())
        })
    }

    /// Adds to a counter and returns the sum.
    pub fn add(&self, key: &str, amount: i64) -> Result<i64> {
        let key = text(key)?;
        let mut value = 0;
        // SAFETY: the store is open, the key outlives the call, and `value` is valid for a write.
        check(unsafe { ofb_store_add(self.raw(), key.as_ptr(), amount, &mut value) })?;
        Ok(value)
    }

    /// Whether a key has a value.
    pub fn has(&self, key: &str) -> Result<bool> {
        let key = text(key)?;
        let mut has = 0;
        // SAFETY: the store is open, the key outlives the call, and `has` is valid for a write.
        check(unsafe { ofb_store_has(self.raw(), key.as_ptr(), &mut has) })?;
        Ok(has != 0)
    }

    /// Waits until a key has a value; an error at the limit. Other calls of this connection wait, too.
    pub fn wait(&self, key: &str, limit: Duration) -> Result<()> {
        let key = text(key)?;
        // SAFETY: the store is open, and the key outlives the call.
        check(unsafe { ofb_store_wait(self.raw(), key.as_ptr(), milliseconds(limit)) })
    }

    /// Returns the value of a key that has one.
    pub fn get(&self, key: &str) -> Result<Vec<u8>> {
        let key = text(key)?;
        let (mut value, mut length) = (null_mut(), 0);
        // SAFETY: the store is open, the key outlives the call; both results are valid for a write.
        check(unsafe { ofb_store_get(self.raw(), key.as_ptr(), &mut value, &mut length) })?;
        // SAFETY: without an error, `value` holds `length` bytes, which are ours until they are freed.
        let bytes = unsafe { std::slice::from_raw_parts(value.cast::<u8>(), length) }.to_vec();
        // SAFETY: the bytes came from the shim, and are freed once.
        unsafe { ofb_free_bytes(value) };
        Ok(bytes)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: the store was opened by the shim, and is closed once.
        unsafe { ofb_store_close(self.raw()) }
    }
}
