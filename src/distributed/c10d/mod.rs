//! torch's c10d in safe types, over the C interface of shim.cpp. All `unsafe` of process groups is here.

mod backward;
mod raw;
mod store;

pub(super) use backward::backward;
use raw::*;
use std::ffi::{c_int, CStr, CString};
use std::path::Path;
use std::ptr::{null, null_mut, NonNull};
use std::time::Duration;
pub(super) use store::{Limits, Store};
use tch::Tensor;

/// A result whose error is the reason of c10d, in one line.
pub(super) type Result<T> = std::result::Result<T, String>;

/// Place of a process in a process group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Number of the process.
    pub rank: usize,
    /// Number of processes.
    pub world_size: usize,
}

/// A process group over one transport. Its operations have to start in the same order on all ranks.
#[derive(Debug)]
pub(super) struct Backend(NonNull<RawBackend>);

// SAFETY: process groups belong to no thread. They are not Sync: operations start one after the other.
unsafe impl Send for Backend {}

impl Backend {
    /// Connects all ranks by gloo. Without an address of this rank's network interface, gloo chooses
    /// it, from GLOO_SOCKET_IFNAME where that is set.
    pub fn gloo(
        store: &Store,
        place: Place,
        limit: Duration,
        address: Option<&str>,
    ) -> Result<Self> {
        let address = address.map(text).transpose()?;
        let address = address.as_ref().map_or(null(), |address| address.as_ptr());
        let (rank, world_size) = (number(place.rank)?, number(place.world_size)?);
        made(|backend| {
            // SAFETY: the store is open, `address` is null or a string that outlives the call, and
            // `backend` is valid for a write. The group keeps a reference to the store of its own.
            unsafe {
                ofb_gloo_open(store.raw(), rank, world_size, milliseconds(limit), address, backend)
            }
        })
        .map(Self)
    }

    /// Opens the library of nccl.cpp and a process group in it. libtorch_cuda has to be loaded.
    pub fn nccl(
        library: &Path,
        store: &Store,
        place: Place,
        card: usize,
        limit: Duration,
    ) -> Result<Self> {
        let (rank, world_size, card) =
            (number(place.rank)?, number(place.world_size)?, number(card)?);
        // SAFETY: the library is that of build.rs. Its initialisers are those of torch's headers, which
        // have no precondition. It is never unloaded.
        let library = unsafe { libloading::Library::new(library) };
        let library = std::mem::ManuallyDrop::new(library.map_err(|error| error.to_string())?);
        // SAFETY: nccl.cpp declares the function with this type.
        let open = unsafe { library.get::<OpenNccl>(b"ofb_nccl_open\0") };
        let open = open.map_err(|error| error.to_string())?;
        made(|backend| {
            // SAFETY: the store is open, and `backend` is valid for a write.
            unsafe { open(store.raw(), rank, world_size, card, milliseconds(limit), backend) }
        })
        .map(Self)
    }

    /// Starts to sum a tensor over the ranks, in place.
    pub fn all_reduce(&mut self, tensor: &Tensor) -> Result<Work> {
        // SAFETY: group and tensor are alive; the operation keeps a reference to the tensor.
        self.work(|backend, work| unsafe { ofb_all_reduce(backend, tensor.as_ptr(), work) })
    }

    /// Starts to replace a tensor by that of a rank.
    pub fn broadcast(&mut self, tensor: &Tensor, root: usize) -> Result<Work> {
        let root = number(root)?;
        // SAFETY: group and tensor are alive; the operation keeps a reference to the tensor.
        self.work(|backend, work| unsafe { ofb_broadcast(backend, tensor.as_ptr(), root, work) })
    }

    /// Starts to fill `all` with the tensors `own` of all ranks, which have the same shape.
    pub fn all_gather(&mut self, all: &Tensor, own: &Tensor) -> Result<Work> {
        // SAFETY: group and tensors are alive; the operation keeps references to the tensors. c10d
        // checks their sizes.
        self.work(|backend, work| unsafe {
            ofb_all_gather(backend, all.as_ptr(), own.as_ptr(), work)
        })
    }

    /// Starts a barrier.
    pub fn barrier(&mut self) -> Result<Work> {
        // SAFETY: the group is alive.
        self.work(|backend, work| unsafe { ofb_barrier(backend, work) })
    }

    fn work(
        &mut self,
        start: impl FnOnce(*mut RawBackend, *mut *mut RawWork) -> Message,
    ) -> Result<Work> {
        made(|work| start(self.0.as_ptr(), work)).map(Work)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // SAFETY: the group was opened by the shim, and is closed once.
        unsafe { ofb_backend_close(self.0.as_ptr()) }
    }
}

/// An operation in progress, which keeps its tensors alive even when this handle is dropped.
#[derive(Debug)]
pub(super) struct Work(NonNull<RawWork>);

// SAFETY: operations lock a mutex in every call, and belong to no thread.
unsafe impl Send for Work {}

impl Work {
    /// Waits for the end, at most for `slice`, and returns whether the operation has ended.
    pub fn wait(&self, slice: Duration) -> Result<bool> {
        let mut done = 0;
        // SAFETY: the operation is alive, and `done` is valid for a write.
        check(unsafe { ofb_work_wait(self.0.as_ptr(), milliseconds(slice), &mut done) })?;
        Ok(done != 0)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // SAFETY: the operation came from the shim, and its handle is freed once.
        unsafe { ofb_work_free(self.0.as_ptr()) }
    }
}

/// Returns the object that a function of the shim writes to the place it is given.
fn made<T>(make: impl FnOnce(*mut *mut T) -> Message) -> Result<NonNull<T>> {
    let mut object = null_mut();
    check(make(&mut object))?;
    NonNull::new(object).ok_or_else(|| "c10d returned nothing".into())
}

fn check(message: Message) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a message that is not null ends with a zero byte, and is ours until it is freed.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // SAFETY: the message came from the shim, and is freed once.
    unsafe { ofb_free_bytes(message) };
    Err(one_line(&text))
}

/// Returns the first line of a C++ message, without the source file that gloo puts in front of it and
/// the advice behind it.
fn one_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let line = line.split(". This is typically caused").next().unwrap_or_default();
    let source = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    match source {
        Some((source, rest)) if source.contains(".cc:") || source.contains(".cpp:") => rest.into(),
        _ => line.into(),
    }
}

fn text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| format!("{text:?} holds a zero byte"))
}

fn number(number: usize) -> Result<c_int> {
    c_int::try_from(number).map_err(|_| format!("{number} is too large"))
}

fn milliseconds(limit: Duration) -> i64 {
    i64::try_from(limit.as_millis()).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn message_of_gloo_is_one_line_without_source_file_and_advice() {
        let message = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by \
                       peer [127.0.0.1]:4000. This is typically caused by a worker crashing.\nframe #0";
        assert_eq!(one_line(message), "Connection closed by peer [127.0.0.1]:4000");
        assert_eq!(one_line("[enforce fail] x"), "[enforce fail] x");
    }
}
