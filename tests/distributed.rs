//! Groups of real processes: their operations, and what happens when one of them fails.

mod distributed_cases;

use distributed_cases::ranks::{free_port, say, start_all, variables, Rank, CASE, LIMIT};
use distributed_cases::torchrun::torchrun;
use distributed_cases::{work, TestResult};
use once_for_both::distributed::{from_env_with, GroupOptions};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// A time limit that is never reached, in milliseconds.
const LONG: u64 = 60_000;

/// Not a test of its own: what the tests start as a rank. Without a case in the environment there is
/// nothing to do.
#[test]
fn rank_of_a_group() -> TestResult {
    let Ok(case) = std::env::var(CASE) else { return Ok(()) };
    let limit = match std::env::var(LIMIT) {
        Ok(limit) => Duration::from_millis(limit.parse()?),
        Err(_) => Duration::from_millis(LONG),
    };
    let group = from_env_with(&GroupOptions::default().time_limit(limit));
    let done = group.map_err(Into::into).and_then(|group| work::run(&case, &group));
    if let Err(error) = &done {
        say(&format!("error: {error}"));
    }
    done
}

#[test]
fn operations_of_two_and_three_ranks_are_exact() -> TestResult {
    for world_size in [2, 3] {
        for (rank, process) in start_all("exact", world_size, LONG)?.into_iter().enumerate() {
            assert_eq!(process.end()?.success(), [format!("{rank} of {world_size}")]);
        }
    }
    Ok(())
}

/// Starts ranks in the midst of operations, kills or stops one of them, and returns the errors of the
/// others with the time until each had ended.
fn errors_after(
    signal: &str,
    victim: usize,
    world_size: usize,
    limit: u64,
) -> TestResult<Vec<(String, Duration)>> {
    let mut ranks = start_all("ready", world_size, limit)?;
    for rank in &ranks {
        assert_eq!(rank.next()?, "ready");
    }
    let victim = ranks.remove(victim);
    let begin = Instant::now();
    victim.signal(signal)?;
    let mut errors = Vec::new();
    for rank in ranks {
        let remains = rank.end()?;
        errors.push((remains.error()?.to_string(), begin.elapsed()));
    }
    Ok(errors)
}

#[test]
fn killed_rank_is_an_error_of_every_other_rank_at_once() -> TestResult {
    for (victim, world_size) in [(1, 2), (0, 3)] {
        for (error, time) in errors_after("-KILL", victim, world_size, LONG)? {
            assert!(error.contains("all-reduce failed: "), "{error}");
            assert!(time < Duration::from_secs(2), "rank {victim}: {time:?}: {error}");
        }
    }
    Ok(())
}

#[test]
fn stopped_rank_is_an_error_of_every_other_rank_at_the_time_limit() -> TestResult {
    for (victim, world_size) in [(1, 2), (0, 3)] {
        for (error, time) in errors_after("-STOP", victim, world_size, 1000)? {
            assert!(error.contains("all-reduce failed: "), "{error}");
            let expected = Duration::from_millis(800)..Duration::from_millis(5000);
            assert!(expected.contains(&time), "rank {victim}: {time:?}: {error}");
        }
    }
    Ok(())
}

#[test]
fn message_of_abort_is_the_error_of_every_other_rank() -> TestResult {
    for (aborting, world_size) in [(1, 3), (0, 2)] {
        let ranks = start_all(&format!("abort {aborting}"), world_size, LONG)?;
        for (rank, process) in ranks.into_iter().enumerate() {
            let expected = match rank == aborting {
                true => "error: disk full".into(),
                false => format!("error: rank {aborting} failed: disk full"),
            };
            assert_eq!(process.end()?.error()?, expected);
        }
    }
    Ok(())
}

#[test]
fn message_of_abort_ends_an_operation_while_its_rank_goes_on() -> TestResult {
    for aborting in [0, 1] {
        let mut ranks = start_all(&format!("abort_and_stay {aborting}"), 2, LONG)?;
        let other = ranks.remove(1 - aborting).end()?;
        assert_eq!(other.error()?, format!("error: rank {aborting} failed: disk full"));
        assert!(ranks[0].runs()?);
    }
    Ok(())
}

/// Starts ranks with variables and a time limit in milliseconds, and returns the error of each.
fn errors_of(limit: u64, variables: &[Vec<(&str, String)>]) -> TestResult<Vec<String>> {
    let start = |variables: &Vec<(&str, String)>| {
        let mut variables = variables.clone();
        variables.push((LIMIT, limit.to_string()));
        Rank::start("exact", &variables)
    };
    let ranks: Vec<Rank> = variables.iter().map(start).collect::<TestResult<_>>()?;
    ranks.into_iter().map(|rank| Ok(rank.end()?.error()?.to_string())).collect()
}

#[test]
fn missing_rank_is_named_at_the_time_limit() -> TestResult {
    let port = free_port()?;
    let errors = errors_of(1500, &[variables(0, 3, port), variables(2, 3, port)])?;
    for error in errors {
        assert!(error.contains("missing after 1.5s: rank 1"), "{error}");
    }
    let errors = errors_of(300, &[variables(1, 2, port)])?;
    assert!(errors[0].contains(&format!("joining the group at 127.0.0.1:{port}")), "{}", errors[0]);
    Ok(())
}

#[test]
fn port_in_use_is_named() -> TestResult {
    let listener = TcpListener::bind(("0.0.0.0", 0))?;
    let port = listener.local_addr()?.port();
    let errors = errors_of(LONG, &[variables(0, 2, port)])?;
    assert!(errors[0].contains(&format!("MASTER_PORT: got {port}, in use")), "{}", errors[0]);
    Ok(())
}

#[test]
fn address_that_does_not_resolve_is_named() -> TestResult {
    let mut variables = variables(1, 2, free_port()?);
    variables[2].1 = "no-such-host.invalid".into();
    let errors = errors_of(300, &[variables])?;
    assert!(errors[0].contains("MASTER_ADDR: got no-such-host.invalid"), "{}", errors[0]);
    Ok(())
}

#[test]
fn rank_that_another_process_has_is_an_error_of_all() -> TestResult {
    let port = free_port()?;
    let errors = errors_of(LONG, &[0, 1, 1].map(|rank| variables(rank, 3, port)))?;
    for error in errors {
        assert!(error.contains("RANK: got 1, as another process"), "{error}");
    }
    Ok(())
}

#[test]
fn stray_process_with_a_rank_of_a_complete_group_ends_alone() -> TestResult {
    let port = free_port()?;
    let start = |rank| Rank::start("ready", &variables(rank, 2, port));
    let mut ranks = vec![start(0)?, start(1)?];
    for rank in &ranks {
        assert_eq!(rank.next()?, "ready");
    }
    let errors = errors_of(LONG, &[variables(1, 2, port)])?;
    assert!(errors[0].contains("RANK: got 1, as another process"), "{}", errors[0]);
    for rank in &mut ranks {
        assert!(rank.runs()?);
    }
    Ok(())
}

#[test]
fn other_world_size_is_an_error_of_all() -> TestResult {
    let port = free_port()?;
    let errors = errors_of(LONG, &[variables(0, 2, port), variables(1, 3, port)])?;
    for error in errors {
        assert!(error.contains("WORLD_SIZE of rank 1: got 3, expected 2 as on rank 0"), "{error}");
    }
    Ok(())
}

#[test]
fn ranks_of_torchrun_are_exact_after_a_restart() -> TestResult {
    let Some(command) = torchrun("restarted", 1)? else { return Ok(()) };
    let remains = Rank::of(command)?.end()?;
    for rank in ["0 of 2", "1 of 2"] {
        let times = remains.success().iter().filter(|line| *line == rank).count();
        assert_eq!(times, 2, "{rank}: {remains}");
    }
    Ok(())
}

/// Starts a rank whose store another program hosts, with the count of restarts of its machine.
fn hosted(case: &str, rank: usize, size: usize, port: u16, restarts: u64) -> TestResult<Rank> {
    let mut variables = variables(rank, size, port);
    variables.push(("TORCHELASTIC_USE_AGENT_STORE", "True".into()));
    variables.push(("TORCHELASTIC_RESTART_COUNT", restarts.to_string()));
    Rank::start(case, &variables)
}

/// The torchrun of a machine whose ranks were well does not count the restart of the group.
#[test]
fn ranks_restarted_with_other_counts_meet_beside_what_an_earlier_group_left() -> TestResult {
    let port = free_port()?;
    let earlier = [0, 1].map(|rank| Rank::start("ready", &variables(rank, 2, port)));
    for rank in &earlier {
        assert_eq!(rank.as_ref().map_err(|error| error.to_string())?.next()?, "ready");
    }
    for counts in [[0, 1], [1, 0], [1, 1]] {
        let ranks = [1, 0].map(|rank| hosted("exact", rank, 2, port, counts[rank]));
        for (rank, process) in [1, 0].into_iter().zip(ranks) {
            assert_eq!(process?.end()?.success(), [format!("{rank} of 2")]);
        }
    }
    Ok(())
}

#[test]
fn rank_that_waits_for_a_group_whose_rank_0_was_restarted_meets_the_new_one() -> TestResult {
    // The earlier rank 0 lives on here, for its store: a rank 2 that comes before the new rank 0 completes its group.
    const TRIES: usize = 5;
    for _ in 0..TRIES {
        let port = free_port()?;
        let mut earlier = Rank::start("exact", &variables(0, 3, port))?;
        let mut ranks = Vec::new();
        for rank in [1, 0, 2] {
            ranks.push((rank, hosted("exact", rank, 3, port, 0)?));
        }
        let mut one_runs = true;
        while one_runs && earlier.runs()? {
            std::thread::sleep(Duration::from_millis(10));
            one_runs = ranks.iter_mut().any(|(_, process)| process.runs().unwrap_or(false));
        }
        // Its store ends a moment before its process.
        std::thread::sleep(Duration::from_millis(100));
        if earlier.runs()? {
            for (rank, process) in ranks {
                assert_eq!(process.end()?.success(), [format!("{rank} of 3")]);
            }
            return Ok(());
        }
    }
    Err(format!("rank 2 came before the new rank 0 in {TRIES} tries").into())
}

#[test]
fn work_of_rank_0_that_goes_on_may_take_longer_than_the_time_limit() -> TestResult {
    for process in start_all("long", 2, 1000)? {
        process.end()?.success();
    }
    Ok(())
}

#[test]
fn single_process_needs_no_network() -> TestResult {
    let variables = [("RANK", "0".to_string()), ("WORLD_SIZE", "1".to_string())];
    for variables in [&variables[..], &[]] {
        assert_eq!(Rank::start("exact", variables)?.end()?.success(), ["0 of 1"]);
    }
    Ok(())
}
