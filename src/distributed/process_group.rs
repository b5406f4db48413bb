//! A group of processes over libtorch's c10d.

use super::alarm::Alarm;
use super::bounded::{unless, within};
use super::c10d::{self, Backend, Place, Store, Work};
use super::join::{join, Joined};
use super::{nccl, Collective, GroupOptions, Pending, Rendezvous};
use crate::error::DistributedError;
use crate::{Error, Result};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tch::{Device, Kind, Tensor};

/// A group of processes: CPU tensors go over gloo, CUDA tensors over NCCL, both of libtorch. Bytes and
/// barriers use gloo.
///
/// Operations have to start in the same order on all ranks, and so from one thread.
#[derive(Debug)]
pub struct ProcessGroup {
    shared: Arc<Shared>,
    gloo: Option<Mutex<Backend>>,
    /// Opened with the first CUDA tensor; what is wrong where that failed.
    nccl: OnceLock<c10d::Result<Mutex<Backend>>>,
    store: Arc<Store>,
}

#[derive(Debug)]
struct Shared {
    place: Place,
    limit: Duration,
    alarm: Alarm,
}

/// An operation in progress. c10d keeps its tensors, so that it can be dropped without waiting.
#[derive(Debug)]
struct Operation {
    name: &'static str,
    work: Work,
    group: Arc<Shared>,
}

impl ProcessGroup {
    /// Joins a group, and returns once all its ranks have joined; see [`from_env`](super::from_env).
    ///
    /// # Errors
    /// As there, except for variables that are missing or wrong.
    pub fn join(rendezvous: &Rendezvous, options: &GroupOptions) -> Result<Self> {
        options.check()?;
        let limit = options.time_limit;
        let Joined { store, alarm, gloo } = join(rendezvous, limit)?;
        let place = Place { rank: rendezvous.rank, world_size: rendezvous.world_size };
        let shared = Arc::new(Shared { place, limit, alarm });
        Ok(Self { shared, gloo: Some(Mutex::new(gloo)), nccl: OnceLock::new(), store })
    }

    /// Starts an operation on the transport of a device.
    fn start(
        &self,
        name: &'static str,
        device: Device,
        start: impl FnOnce(&mut Backend) -> c10d::Result<Work>,
    ) -> Result<Operation> {
        let backend = match device {
            Device::Cuda(index) => Some(self.nccl(index)?),
            _ => self.gloo.as_ref(),
        };
        let Some(backend) = backend else { return Err(self.shared.failed(name, "it has ended")) };
        let mut backend = backend.lock().unwrap_or_else(PoisonError::into_inner);
        let work = start(&mut backend).map_err(|reason| self.shared.failed(name, &reason))?;
        Ok(Operation { name, work, group: self.shared.clone() })
    }

    fn nccl(&self, index: usize) -> Result<&Mutex<Backend>> {
        if self.nccl.get().is_none() {
            let Shared { place, limit, .. } = *self.shared;
            let store = Arc::clone(&self.store);
            let opened = self.heeding(move || nccl::open(&store, place, index, limit))?;
            // Only one thread starts operations: it was not opened meanwhile.
            let _ = self.nccl.set(opened.and_then(|opened| opened).map(Mutex::new));
        }
        let opened = self.nccl.get_or_init(|| Err("it was not opened".into()));
        opened.as_ref().map_err(|reason| {
            let device = format!("cuda:{index}");
            DistributedError::Nccl { device, reason: reason.clone() }.into()
        })
    }
}

impl ProcessGroup {
    /// Runs work in which c10d waits for the other ranks without a look at their messages. Ends with the message of a
    /// rank that failed.
    fn heeding<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<c10d::Result<T>> {
        let done = unless(|| self.shared.alarm.raised(), work)?;
        Ok(done.ok_or_else(|| "no thread could be started".into()))
    }
}

impl Collective for ProcessGroup {
    fn rank(&self) -> usize {
        self.shared.place.rank
    }

    fn world_size(&self) -> usize {
        self.shared.place.world_size
    }

    fn start_all_reduce(&self, tensor: &Tensor) -> Result<Box<dyn Pending>> {
        check(tensor)?;
        let work = self.start("all-reduce", tensor.device(), |group| group.all_reduce(tensor))?;
        Ok(Box::new(work))
    }

    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<()> {
        check(tensor)?;
        if root >= self.world_size() {
            let expected = format!("less than {} ranks", self.world_size());
            return Err(Error::invalid("root of broadcast", expected, root));
        }
        self.start("broadcast", tensor.device(), |group| group.broadcast(tensor, root))?.finish()
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        const NAME: &str = "all-gather";
        let ranks = self.world_size();
        let gather = |own: &Tensor| -> Result<Tensor> {
            let all = own.f_zeros_like()?.f_repeat([ranks as i64])?;
            self.start(NAME, Device::Cpu, |group| group.all_gather(&all, own))?.finish()?;
            Ok(all)
        };
        let lengths = gather(&Tensor::f_from_slice(&[own.len() as i64])?)?;
        let lengths = Vec::<i64>::try_from(&lengths)?;
        let longest = lengths.iter().copied().max().unwrap_or(0).max(0) as usize;
        if longest == 0 {
            return Ok(vec![Vec::new(); ranks]);
        }
        // Of one length, as gloo wants it.
        let mut padded = own.to_vec();
        padded.resize(longest, 0);
        let all = Vec::<u8>::try_from(&gather(&Tensor::f_from_slice(&padded)?)?)?;
        let parts = all.chunks(longest).zip(lengths);
        Ok(parts.map(|(part, length)| part[..length as usize].to_vec()).collect())
    }

    fn barrier(&self) -> Result<()> {
        self.start("barrier", Device::Cpu, Backend::barrier)?.finish()
    }

    fn abort(&self, message: &str) {
        self.shared.alarm.raise(message);
    }
}

impl Pending for Operation {
    fn wait(self: Box<Self>) -> Result<()> {
        self.finish()
    }
}

impl Operation {
    fn finish(&self) -> Result<()> {
        // After each slice a message of a rank that failed is looked for.
        const SLICE: Duration = Duration::from_millis(100);
        loop {
            match self.work.wait(SLICE) {
                Ok(true) => return Ok(()),
                Ok(false) => match self.group.alarm.raised() {
                    Some(error) => return Err(error.into()),
                    None => continue,
                },
                Err(reason) => {
                    const HINT: &str = "a rank ended or does not answer: see its own messages";
                    return Err(self.group.failed(self.name, &format!("{reason}; {HINT}")));
                }
            }
        }
    }
}

impl Shared {
    /// Returns the error of an operation: that of the rank which failed first, if it left a message.
    fn failed(&self, operation: &str, reason: &str) -> Error {
        if let Some(error) = self.alarm.raised_within(Alarm::ON_ITS_WAY) {
            return error.into();
        }
        let Place { rank, world_size } = self.place;
        let (operation, reason) = (operation.into(), reason.into());
        DistributedError::Failed { rank, world_size, operation, reason }.into()
    }
}

impl Drop for ProcessGroup {
    /// Closes the connections. c10d waits for operations in progress, which after a failure would take
    /// until their time limit: then they are left to the end of the process.
    fn drop(&mut self) {
        let failed = self.shared.alarm.raised().is_some();
        let longest = if failed { Duration::ZERO } else { Duration::from_secs(1) };
        let backends = (self.gloo.take(), self.nccl.take());
        within(longest, move || drop(backends));
    }
}

/// Checks that c10d can read and write the tensor's memory in place.
fn check(tensor: &Tensor) -> Result<()> {
    if !tensor.defined() {
        return Err(Error::invalid("tensor of the group", "a tensor", "none"));
    }
    if !tensor.is_contiguous() {
        let strides = format!("shape {:?} with strides {:?}", tensor.size(), tensor.stride());
        return Err(Error::invalid("tensor of the group", "a contiguous tensor", strides));
    }
    match (tensor.device(), tensor.kind()) {
        (Device::Cpu | Device::Cuda(_), Kind::Float | Kind::BFloat16 | Kind::Half) => Ok(()),
        (Device::Cpu | Device::Cuda(_), Kind::Double | Kind::Int64 | Kind::Int) => Ok(()),
        (Device::Cpu | Device::Cuda(_), Kind::Uint8 | Kind::Int8) => Ok(()),
        (device, kind) => {
            let expected = "f32, bf16, f16, f64, i64, i32, i8 or u8 on the CPU or a CUDA device";
            Err(Error::invalid("tensor of the group", expected, format!("{kind:?} on {device:?}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Instant;

    /// Longer than the test takes.
    const LONG: Duration = Duration::from_secs(30);

    /// A group of two, whose ranks are threads.
    fn pair() -> Result<[ProcessGroup; 2]> {
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|own| own.local_addr());
        let port = free.map_err(|source| Error::io("bind", "a port", source))?.port();
        let join = move |rank| {
            let host = "127.0.0.1".into();
            let (world_size, hosted) = (2, false);
            let place =
                Rendezvous { rank, world_size, local_rank: rank, host, port, hosted, restart: 0 };
            ProcessGroup::join(&place, &GroupOptions::default().time_limit(LONG))
        };
        let other = std::thread::spawn(move || join(1));
        let first = join(0)?;
        let other =
            other.join().map_err(|_| Error::invalid("thread of rank 1", "an end", "a panic"))?;
        Ok([first, other?])
    }

    #[test]
    fn work_that_waits_for_other_ranks_ends_with_the_message_of_one_that_failed() -> Result<()> {
        let [first, other] = pair()?;
        assert!(matches!(first.heeding(|| 7), Ok(Ok(7))));
        let begin = Instant::now();
        other.abort("disk full");
        let ended = first.heeding(|| std::thread::sleep(LONG));
        assert!(
            matches!(&ended, Err(Error::Distributed(DistributedError::Peer { rank: 1, message }))
                if message == "disk full"),
            "{ended:?}"
        );
        assert!(begin.elapsed() < LONG / 3, "{:?}", begin.elapsed());
        Ok(())
    }
}
