//! Rows measured by several processes that torchrun or Slurm has started, each its own rows.

use crate::bench::Bench;
use crate::failure::with_causes;
use crate::family::Compared;
use crate::plan::Run;
use crate::row::Row;
use crate::AnyError;
use once_for_both::distributed::{from_env_with, Collective, GroupOptions};
use once_for_both::Error;
use std::sync::Arc;
use std::time::Duration;

/// A row may take hours, in which its process says nothing.
const TIME_LIMIT: Duration = Duration::from_secs(7 * 86_400);

/// Joins the other processes, if there are any.
pub fn join() -> Result<Arc<dyn Collective>, AnyError> {
    Ok(from_env_with(&GroupOptions::default().time_limit(TIME_LIMIT))?)
}

/// Refuses ranks with other arguments than rank 0's, whose rows would be of something else.
pub fn expect_alike(group: &dyn Collective) -> Result<(), AnyError> {
    let own: Vec<String> = std::env::args().skip(1).collect();
    let all = group.all_gather(own.join(" ").as_bytes())?;
    match all.iter().position(|arguments| *arguments != all[0]) {
        None => Ok(()),
        Some(rank) => {
            let [actual, expected] = [&all[rank], &all[0]].map(|own| String::from_utf8_lossy(own));
            let differs = format!("got {actual}, expected {expected} as on rank 0");
            Err(format!("arguments of rank {rank}: {differs}; start all ranks alike").into())
        }
    }
}

/// Measures the runs of rank 0, one a process at a time, and hands the results to `finished` there. A
/// row that fails is a result like another.
pub fn measure<A: Compared>(
    group: &dyn Collective,
    bench: &Bench<A>,
    runs: &[Run],
    mut finished: impl FnMut(&Run, Result<Row, AnyError>) -> Result<(), AnyError>,
) -> Result<(), AnyError> {
    let all = group.all_gather(&serde_json::to_vec(runs)?)?;
    let runs: Vec<Run> = serde_json::from_slice(&all[0])?;
    for round in runs.chunks(group.world_size()) {
        let own = round.get(group.rank()).map(|run| bench.measure(run));
        let own: Option<Result<Row, String>> =
            own.map(|row| row.map_err(|error| with_causes(&*error)));
        let rows = group.all_gather(&serde_json::to_vec(&own)?)?;
        let told = group.on_main(|| {
            for (run, row) in round.iter().zip(&rows) {
                let row: Option<Result<Row, String>> =
                    serde_json::from_slice(row).map_err(other)?;
                if let Some(row) = row {
                    finished(run, row.map_err(AnyError::from)).map_err(other)?;
                }
            }
            Ok(())
        });
        told?;
    }
    Ok(())
}

/// An error of this program as one of the library's.
fn other(error: impl ToString) -> Error {
    Error::Invalid {
        name: "row".into(),
        expected: "one that can be stored".into(),
        actual: error.to_string(),
    }
}
