//! The counters of the simulated device, by name.

use crate::support::{test_device, TestResult};
use libloading::os::unix::{Library, Symbol};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The counters are the process's: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

/// The simulated device's own functions.
pub struct Counters {
    program: Library,
    _alone: MutexGuard<'static, ()>,
}

/// What one piece of work did with the device.
#[derive(Debug, Clone)]
pub struct Count {
    /// Operators that launch a kernel.
    pub operators: u64,
    /// Times that the host waited.
    pub waits: u64,
    /// Bytes copied from the host to the device.
    pub bytes_to_device: u64,
    /// Largest growth of the device's memory, in bytes.
    pub peak_growth: u64,
    /// Operators and waits, with the functions that called them, from the inside out.
    pub rows: Vec<Row>,
}

/// A line of the device's report.
#[derive(Debug, Clone)]
pub struct Row {
    pub kind: String,
    pub count: u64,
    pub name: String,
    pub callers: Vec<String>,
}

impl Counters {
    /// # Errors
    /// If the device of `OFB_TEST_DEVICE` is not the simulated one.
    pub fn new() -> TestResult<Self> {
        let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        test_device();
        let counters = Self { program: Library::this(), _alone: alone };
        counters.function::<unsafe extern "C" fn()>("simulated_cuda_reset").map_err(|_| {
            "no simulated device: got a libtorch without, expected make test-simulated-cuda"
        })?;
        Ok(counters)
    }

    fn function<T>(&self, name: &str) -> TestResult<Symbol<T>> {
        // SAFETY: the types are those of tests/simulated_cuda/api.cpp.
        Ok(unsafe { self.program.get(name.as_bytes()) }?)
    }

    /// A count of tests/simulated_cuda/counters.cpp.
    pub fn get(&self, name: &str) -> TestResult<u64> {
        type Get = unsafe extern "C" fn(*const c_char) -> i64;
        let text = CString::new(name)?;
        let get = self.function::<Get>("simulated_cuda_counter")?;
        // SAFETY: the function reads the text before it returns.
        let count = unsafe { get(text.as_ptr()) };
        u64::try_from(count)
            .map_err(|_| format!("counter: got {name}, expected a known one").into())
    }

    fn reset(&self) -> TestResult {
        let reset = self.function::<unsafe extern "C" fn()>("simulated_cuda_reset")?;
        // SAFETY: no arguments.
        unsafe { reset() };
        Ok(())
    }

    fn trace(&self, on: bool) -> TestResult {
        let trace = self.function::<unsafe extern "C" fn(c_int)>("simulated_cuda_trace")?;
        // SAFETY: any number is allowed.
        unsafe { trace(c_int::from(on)) };
        Ok(())
    }

    fn report(&self, path: &Path) -> TestResult<Vec<Row>> {
        type Report = unsafe extern "C" fn(*const c_char) -> c_int;
        let text = CString::new(path.as_os_str().as_bytes())?;
        let report = self.function::<Report>("simulated_cuda_report")?;
        // SAFETY: the function reads the text before it returns.
        if unsafe { report(text.as_ptr()) } != 0 {
            return Err(format!("{}: the report cannot be written", path.display()).into());
        }
        std::fs::read_to_string(path)?.lines().map(row).collect()
    }

    /// Runs `work` and counts.
    pub fn count<T, E>(&self, work: impl FnOnce() -> Result<T, E>) -> TestResult<(T, Count)>
    where
        Box<dyn std::error::Error>: From<E>,
    {
        self.trace(true)?;
        self.reset()?;
        let before = self.get("live_bytes")?;
        let result = work();
        let folder = tempfile::tempdir()?;
        let count = Count {
            operators: self.get("operators")?,
            waits: self.get("waits")?,
            bytes_to_device: self.get("bytes_to_device")?,
            peak_growth: self.get("peak_bytes")? - before,
            rows: self.report(&folder.path().join("report"))?,
        };
        self.trace(false)?;
        Ok((result?, count))
    }
}

fn row(line: &str) -> TestResult<Row> {
    let mut parts = line.split('\t').map(String::from);
    let mut next = || parts.next().ok_or_else(|| format!("report: got {line}, expected a row"));
    let (kind, count, name) = (next()?, next()?.parse()?, next()?);
    Ok(Row { kind, count, name, callers: parts.collect() })
}

impl Row {
    /// Part of the crate that asked for it: `search::log`, or `autograd` for what libtorch's own threads
    /// ran backward.
    pub fn part(&self) -> String {
        let own = self.callers.iter().filter_map(|caller| {
            let path = caller.split("once_for_both::").nth(1)?;
            let mut parts = path.split("::").filter(|part| !part.starts_with(['<', '{']));
            let part = [parts.next()?, parts.next()?].join("::");
            (!["tensors::", "error::", "autograd::"].iter().any(|low| part.starts_with(low)))
                .then_some(part)
        });
        own.into_iter().next().unwrap_or_else(|| "autograd".into())
    }

    /// The function of the crate that asked for it.
    pub fn caller(&self) -> &str {
        let own = self.callers.iter().find(|caller| caller.contains("once_for_both::"));
        own.map_or("(outside of the crate)", String::as_str)
    }
}

impl Count {
    /// Operators that `part` of the crate asked for, whoever ran them for it.
    pub fn operators_of(&self, part: &str) -> u64 {
        let path = format!("once_for_both::{part}");
        let rows = self.rows.iter().filter(|row| row.kind == "operator");
        rows.filter(|row| row.callers.iter().any(|caller| caller.contains(&path)))
            .map(|row| row.count)
            .sum()
    }

    /// Operators by part, most first.
    pub fn parts(&self) -> Vec<(String, u64)> {
        let mut parts = BTreeMap::new();
        for row in self.rows.iter().filter(|row| row.kind == "operator") {
            *parts.entry(row.part()).or_insert(0) += row.count;
        }
        let mut parts: Vec<_> = parts.into_iter().collect();
        parts.sort_by_key(|(_, count)| Reverse(*count));
        parts
    }

    /// Waits, with operator and caller, most first.
    pub fn waits_by_caller(&self) -> Vec<(String, u64)> {
        let mut waits = BTreeMap::new();
        for row in self.rows.iter().filter(|row| row.kind == "wait") {
            *waits.entry(format!("{} in {}", row.name, row.caller())).or_insert(0) += row.count;
        }
        let mut waits: Vec<_> = waits.into_iter().collect();
        waits.sort_by_key(|(_, count)| Reverse(*count));
        waits
    }
}
