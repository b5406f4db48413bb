//! Where the processes of a group meet, from the environment variables of their launcher.

use crate::error::DistributedError;
use crate::Result;

const RANK: &str = "RANK";
const WORLD_SIZE: &str = "WORLD_SIZE";
const LOCAL_RANK: &str = "LOCAL_RANK";
const LOCAL_WORLD_SIZE: &str = "LOCAL_WORLD_SIZE";
const MASTER_ADDR: &str = "MASTER_ADDR";
const MASTER_PORT: &str = "MASTER_PORT";
const SLURM_NTASKS: &str = "SLURM_NTASKS";
const SLURM_PROCID: &str = "SLURM_PROCID";
const SLURM_LOCALID: &str = "SLURM_LOCALID";
const SLURM_STEP_ID: &str = "SLURM_STEP_ID";
const SLURM_JOB_ID: &str = "SLURM_JOB_ID";
const SLURM_STEP_NODELIST: &str = "SLURM_STEP_NODELIST";

/// Number of a process in its group, and the address where the group meets.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rendezvous {
    /// Number of this process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub world_size: usize,
    /// Number of this process among those of its machine, from 0: the index of its CUDA device.
    pub local_rank: usize,
    /// Name or address of the machine of rank 0; empty in a group of one process.
    pub host: String,
    /// TCP port of the group's store on that machine.
    pub port: u16,
    /// Whether another program hosts the store, as torchrun does; otherwise rank 0 hosts it.
    pub hosted: bool,
    /// How often the group was restarted with the same store.
    pub restart: u64,
}

/// Value of an environment variable; none if it is not set.
type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Rendezvous {
    /// Reads the environment variables of torchrun, of Kubeflow, or of Slurm's `srun`; see
    /// [`from_env`](super::from_env). Returns none if none is set.
    ///
    /// # Errors
    /// [`DistributedError::Variable`] for a variable that is missing or wrong.
    pub fn from_env() -> Result<Option<Self>> {
        Self::read(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn read(get: Variables) -> Result<Option<Self>> {
        if get(RANK).is_none() && get(WORLD_SIZE).is_none() && in_slurm_step(get) {
            return Self::of_slurm(get).map(Some);
        }
        if [RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT]
            .iter()
            .all(|name| get(name).is_none())
        {
            return Ok(None);
        }
        let world_size = needed(get, WORLD_SIZE, "the number of processes")?;
        let rank = needed(get, RANK, "the number of this process")?;
        let mut place = Self::placed(rank, world_size, (RANK, WORLD_SIZE))?;
        place.local_rank = local_rank_of(get)?;
        if place.world_size > 1 {
            place.host = needed(get, MASTER_ADDR, "the name or address of rank 0's machine")?;
            place.port = port(&needed::<String>(get, MASTER_PORT, PORT)?)?;
        }
        place.hosted = get("TORCHELASTIC_USE_AGENT_STORE").as_deref() == Some("True");
        place.restart = optional(get, "TORCHELASTIC_RESTART_COUNT", "a number")?.unwrap_or(0);
        Ok(Some(place))
    }

    /// Slurm names no port and no address: the first machine of the job step has rank 0, and the job's
    /// number gives a port of its own to each job.
    fn of_slurm(get: Variables) -> Result<Self> {
        let world_size = needed(get, SLURM_NTASKS, "the number of tasks")?;
        let rank = needed(get, SLURM_PROCID, "the number of this task")?;
        let mut place = Self::placed(rank, world_size, (SLURM_PROCID, SLURM_NTASKS))?;
        place.local_rank = local_rank_of(get)?;
        place.host = match get(MASTER_ADDR) {
            Some(host) => host,
            None => first_host(&needed::<String>(get, SLURM_STEP_NODELIST, "the machines")?),
        };
        place.port = match get(MASTER_PORT) {
            Some(value) => port(&value)?,
            None => {
                let job: u64 = optional(get, SLURM_JOB_ID, "the job's number")?.unwrap_or(0);
                let step: u64 = optional(get, SLURM_STEP_ID, "the step's number")?.unwrap_or(0);
                15_000 + ((job * 7 + step) % 15_000) as u16
            }
        };
        place.restart = optional(get, "SLURM_RESTART_COUNT", "a number")?.unwrap_or(0);
        Ok(place)
    }

    fn placed(rank: usize, world_size: usize, names: (&'static str, &'static str)) -> Result<Self> {
        if world_size == 0 {
            return Err(wrong(names.1, "1 or more processes", "0"));
        }
        if rank >= world_size {
            let expected = format!("less than {}, which is {world_size}", names.1);
            return Err(wrong(names.0, expected, rank));
        }
        Ok(Self {
            rank,
            world_size,
            local_rank: 0,
            host: String::new(),
            port: 0,
            hosted: false,
            restart: 0,
        })
    }

    /// Returns whether this process hosts the store of the group: rank 0, unless another program does.
    pub fn hosts_store(&self) -> bool {
        self.rank == 0 && !self.hosted
    }
}

/// Returns the number of this process among those of its machine, from 0: `LOCAL_RANK`, or
/// `SLURM_LOCALID` in a job step of Slurm, or 0. [`device::parse`](crate::device::parse) takes it as
/// the index of `cuda`.
///
/// # Errors
/// [`DistributedError::Variable`] for a variable that is not a number.
pub fn local_rank() -> Result<usize> {
    local_rank_of(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// Returns the number of processes on this machine: `LOCAL_WORLD_SIZE`, which torchrun sets, or 1. Slurm
/// gives each task cores of its own.
///
/// # Errors
/// [`DistributedError::Variable`] for a variable that is not a number above 0.
pub fn local_world_size() -> Result<usize> {
    let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let expected = "the number of processes on this machine";
    match optional(&get, LOCAL_WORLD_SIZE, expected)? {
        Some(0) => Err(wrong(LOCAL_WORLD_SIZE, expected, "0")),
        size => Ok(size.unwrap_or(1)),
    }
}

fn local_rank_of(get: Variables) -> Result<usize> {
    let expected = "the number of this process on its machine";
    let local_rank = optional(get, LOCAL_RANK, expected)?;
    match local_rank {
        None if in_slurm_step(get) => Ok(optional(get, SLURM_LOCALID, expected)?.unwrap_or(0)),
        local_rank => Ok(local_rank.unwrap_or(0)),
    }
}

/// Whether `srun` started this process beside others. A batch script has the variables of its job, too,
/// but is one process; its step has one of the numbers that Slurm keeps for itself.
fn in_slurm_step(get: Variables) -> bool {
    const FIRST_RESERVED: u32 = 0xffff_fff0;
    let number = |name| get(name).and_then(|value| value.parse::<u32>().ok());
    number(SLURM_STEP_ID).is_some_and(|step| step < FIRST_RESERVED)
        && number(SLURM_NTASKS).is_some_and(|tasks| tasks > 1)
}

/// Returns the first machine of a list such as `gpu[03-05,9],login1`.
fn first_host(list: &str) -> String {
    let (mut host, mut rest) = (String::new(), list);
    while let Some(character) = rest.chars().next() {
        match character {
            ',' => break,
            '[' => {
                let (numbers, after) = rest[1..].split_once(']').unwrap_or((&rest[1..], ""));
                host += numbers.split([',', '-']).next().unwrap_or_default();
                rest = after;
            }
            _ => {
                host.push(character);
                rest = &rest[character.len_utf8()..];
            }
        }
    }
    host
}

const PORT: &str = "a port, 1 to 65535";

fn port(value: &str) -> Result<u16> {
    let port = value.trim().parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| wrong(MASTER_PORT, PORT, value))
}

fn needed<T: std::str::FromStr>(
    get: Variables,
    variable: &'static str,
    expected: &str,
) -> Result<T> {
    optional(get, variable, expected)?.ok_or_else(|| wrong(variable, expected, "none"))
}

fn optional<T: std::str::FromStr>(
    get: Variables,
    variable: &'static str,
    expected: &str,
) -> Result<Option<T>> {
    let Some(value) = get(variable) else { return Ok(None) };
    value.trim().parse().map(Some).map_err(|_| wrong(variable, expected, value))
}

/// The error of an environment variable.
pub(super) fn wrong(
    variable: &'static str,
    expected: impl Into<String>,
    actual: impl ToString,
) -> crate::Error {
    let (expected, actual) = (expected.into(), actual.to_string());
    DistributedError::Variable { variable, expected, actual }.into()
}

#[cfg(test)]
#[path = "rendezvous_tests.rs"]
mod tests;
