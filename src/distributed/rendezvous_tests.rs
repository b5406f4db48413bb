use super::*;

/// What is read from variables written as `NAME=value NAME=value`.
fn read(variables: &str) -> Result<Option<Rendezvous>> {
    Rendezvous::read(&|name| {
        let pairs = variables.split_whitespace().filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(other, _)| *other == name);
        values.next().map(|(_, value)| value.to_string())
    })
}

fn place(variables: &str) -> Result<Rendezvous> {
    read(variables)?.ok_or_else(|| wrong("RANK", "a place", "none"))
}

/// The variable that an error names, with what was got.
fn refused(variables: &str) -> (String, String) {
    match read(variables) {
        Err(crate::Error::Distributed(DistributedError::Variable { variable, actual, .. })) => {
            (variable.to_string(), actual)
        }
        other => panic!("{variables}: {other:?}"),
    }
}

fn pair(variable: &str, actual: &str) -> (String, String) {
    (variable.into(), actual.into())
}

#[test]
fn variables_of_torchrun_give_place_address_and_restart() -> Result<()> {
    let found = place(
        "RANK=3 WORLD_SIZE=4 LOCAL_RANK=1 MASTER_ADDR=node0 MASTER_PORT=29500 \
         TORCHELASTIC_USE_AGENT_STORE=True TORCHELASTIC_RESTART_COUNT=2",
    )?;
    let expected = Rendezvous {
        rank: 3,
        world_size: 4,
        local_rank: 1,
        host: "node0".into(),
        port: 29500,
        hosted: true,
        restart: 2,
    };
    assert_eq!(found, expected);
    Ok(())
}

#[test]
fn variables_of_kubeflow_without_local_rank_give_local_rank_0_and_hosting_rank_0() -> Result<()> {
    let found = place("RANK=0 WORLD_SIZE=2 MASTER_ADDR=job-master-0 MASTER_PORT=23456")?;
    assert_eq!((found.local_rank, found.hosts_store()), (0, true));
    Ok(())
}

#[test]
fn variables_of_slurm_step_give_first_machine_and_port_of_the_job() -> Result<()> {
    let step = "SLURM_JOB_ID=4711 SLURM_STEP_ID=0 SLURM_NTASKS=8 SLURM_PROCID=5 SLURM_LOCALID=1";
    let found = place(&format!("{step} SLURM_STEP_NODELIST=gpu[03-04],login1"))?;
    assert_eq!((found.rank, found.world_size, found.local_rank), (5, 8, 1));
    assert_eq!(found.host, "gpu03");
    let other = place(&format!("{step} SLURM_STEP_ID=1 MASTER_ADDR=a MASTER_PORT=7000"))?;
    assert_eq!((other.host.as_str(), other.port), ("a", 7000));
    assert!(found.port >= 15_000 && found.port < 30_000, "{}", found.port);
    Ok(())
}

#[test]
fn first_host_of_slurm_lists_is_rank_0_machine() {
    for (list, first) in [
        ("node1", "node1"),
        ("a1,b2", "a1"),
        ("n[007,9-12]", "n007"),
        ("rack[2-3]n[04-05]-ib,x", "rack2n04-ib"),
    ] {
        assert_eq!(first_host(list), first, "{list}");
    }
}

#[test]
fn slurm_batch_script_or_single_task_is_no_group() -> Result<()> {
    let batch = "SLURM_JOB_ID=1 SLURM_NTASKS=8 SLURM_PROCID=0 SLURM_LOCALID=0";
    assert_eq!(read(batch)?, None);
    assert_eq!(read(&format!("{batch} SLURM_STEP_ID=4294967291"))?, None);
    assert_eq!(read("SLURM_STEP_ID=0 SLURM_NTASKS=1 SLURM_PROCID=0")?, None);
    assert_eq!(read("")?, None);
    Ok(())
}

#[test]
fn torch_variables_win_over_those_of_slurm() -> Result<()> {
    let slurm = "SLURM_STEP_ID=0 SLURM_NTASKS=8 SLURM_PROCID=5";
    let found = place(&format!("{slurm} RANK=1 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=1"))?;
    assert_eq!((found.rank, found.world_size), (1, 2));
    Ok(())
}

#[test]
fn world_size_1_needs_no_address() -> Result<()> {
    assert_eq!(place("RANK=0 WORLD_SIZE=1")?.world_size, 1);
    Ok(())
}

#[test]
fn missing_variable_is_named() {
    let all = ["RANK=0", "WORLD_SIZE=2", "MASTER_ADDR=a", "MASTER_PORT=1"];
    for missing in all {
        let rest: Vec<&str> = all.into_iter().filter(|other| *other != missing).collect();
        let (name, _) = missing.split_once('=').unwrap_or_default();
        assert_eq!(refused(&rest.join(" ")), pair(name, "none"));
    }
    assert_eq!(refused("MASTER_PORT=1").1, "none");
}

#[test]
fn wrong_variable_is_named_with_its_value() {
    let rest = "MASTER_ADDR=a MASTER_PORT=1";
    assert_eq!(refused(&format!("RANK=two WORLD_SIZE=2 {rest}")), pair("RANK", "two"));
    assert_eq!(refused(&format!("RANK=2 WORLD_SIZE=2 {rest}")), pair("RANK", "2"));
    assert_eq!(refused(&format!("RANK=0 WORLD_SIZE=0 {rest}")), pair("WORLD_SIZE", "0"));
    assert_eq!(refused(&format!("RANK=0 WORLD_SIZE=-2 {rest}")), pair("WORLD_SIZE", "-2"));
    assert_eq!(refused("RANK=0 WORLD_SIZE=2 LOCAL_RANK=x"), pair("LOCAL_RANK", "x"));
    for port in ["0", "65536", "http"] {
        let variables = format!("RANK=0 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT={port}");
        assert_eq!(refused(&variables), pair("MASTER_PORT", port));
    }
    assert_eq!(refused("SLURM_STEP_ID=0 SLURM_NTASKS=2 SLURM_PROCID=2"), pair("SLURM_PROCID", "2"));
}
