//! Writes of other processes: killed, without room on the disk, at the same time.

use super::*;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

const CHILD: &str = "OFB_TEST_FILES_CHILD";

/// Starts [`child_of_the_tests`] as another process, with a limit of the size of its files in blocks
/// of 512 or 1,024 bytes.
fn child(work: &str, folder: &Path, file_size: &str) -> Child {
    let exe = std::env::current_exe().unwrap_or_else(|error| panic!("{error}"));
    let script = "trap '' XFSZ; ulimit -f $0; exec \"$@\"";
    Command::new("sh")
        .args(["-c", script, file_size])
        .arg(exe)
        .args(["--exact", "files::tests::processes::child_of_the_tests", "--nocapture"])
        .env(CHILD, format!("{work}:{}", folder.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Waits for the child's lines "ready", so many times.
fn wait_for(child: &mut Child, lines: usize) {
    let out = child.stdout.as_mut().map(BufReader::new);
    let ready = out.into_iter().flat_map(BufRead::lines).map_while(io::Result::ok);
    assert_eq!(ready.filter(|line| line.ends_with("ready")).take(lines).count(), lines);
}

/// Not a test of its own: the other process of the tests below. Without its work in the environment
/// there is nothing to do.
#[test]
fn child_of_the_tests() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let (work, folder) = task.split_once(':').unwrap_or_else(|| panic!("{task}"));
    let folder = Path::new(folder);
    match work {
        "own" => {
            let owner = Owner::claim(folder, Part::Run);
            assert!(owner.is_ok(), "{owner:?}");
            println!("ready");
            let _ = io::stdin().read(&mut [0]);
        }
        "fill the disk" => fill_the_disk(folder),
        _ => {
            let exchange = if work == "exchange" { None } else { Some(unsupported as Exchange) };
            loop {
                let text = "x".repeat(100_000);
                let written = match exchange {
                    None => write_folder(&folder.join("net"), &KIND, fill(&text)),
                    Some(exchange) => {
                        write_folder_by(exchange, &folder.join("net"), &KIND, fill(&text))
                    }
                };
                assert!(written.is_ok(), "{written:?}");
                println!("ready");
            }
        }
    }
}

#[cfg(unix)]
#[test]
fn killed_write_folder_leaves_a_whole_folder() {
    for work in ["exchange", "renames"] {
        let root = temporary();
        make(&root.path().join("net"), "old");
        for lines in [1, 2, 5] {
            let mut child = child(work, root.path(), "unlimited");
            wait_for(&mut child, lines);
            assert!(child.kill().is_ok() && child.wait().is_ok());
            let length = text(&root.path().join("net")).map(|text| text.len());
            assert_eq!(length, Some(100_000), "{work}");
        }
        assert!(write_folder(&root.path().join("net"), &KIND, fill("next")).is_ok());
        assert_eq!(names_in(root.path()), ["net"]);
    }
}

/// Every writer, in a process whose files cannot be longer than 4 kB.
fn fill_the_disk(root: &Path) {
    let long = vec![b'x'; 100_000];
    let (file, net, log) = (root.join("file"), root.join("net"), root.join("log"));
    put(&file, "old");
    make(&net, "old");
    put(&log, "old\n");
    let fails = |result: Result<()>, path: &Path| match result {
        Err(Error::Io { action: "write", path: at, source }) => {
            assert_eq!(at, path);
            assert_eq!(source.kind(), ErrorKind::FileTooLarge);
        }
        other => panic!("{other:?}"),
    };
    fails(write_atomically(&file, &long), &file);
    let beside = root.join(".net.partial");
    fails(write_folder(&net, &KIND, |net| write(&net.join("text"), &long)), &beside.join("text"));
    let tensor = tch::Tensor::zeros([10_000], (tch::Kind::Float, tch::Device::Cpu));
    let tensors = crate::tensors::Weights::from([("a".to_string(), tensor)]);
    let place = beside.join("weights");
    fails(
        write_folder(&net, &KIND, |net| crate::tensors::write(&net.join("weights"), &tensors)),
        &place,
    );
    let open = OpenOptions::new().append(true).open(&log).map_err(|e| Error::io("open", &log, e));
    let mut appended = open.and_then(|open| Appended::new(log.clone(), open));
    let record = appended.as_mut().map(|log| log.append(&long));
    fails(record.unwrap_or_else(|error| panic!("{error}")), &log);
    for path in [&file, &net.join("text")] {
        assert_eq!(fs::read_to_string(path).ok().as_deref(), Some("old"), "{path:?}");
    }
    assert_eq!(fs::read_to_string(&log).ok().as_deref(), Some("old\n"));
    assert_eq!(names_in(root), ["file", "log", "net"]);
}

#[cfg(unix)]
#[test]
fn writers_on_a_full_disk_name_the_file_and_leave_nothing_half_written() {
    let root = temporary();
    let done = child("fill the disk", root.path(), "4").wait_with_output();
    let done = done.unwrap_or_else(|error| panic!("{error}"));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    assert_eq!(names_in(root.path()), ["file", "log", "net"]);
}

#[cfg(unix)]
#[test]
fn claim_of_a_folder_that_another_process_owns_is_refused_until_it_ends() {
    let root = temporary();
    let mut other = child("own", root.path(), "unlimited");
    wait_for(&mut other, 1);
    let own = std::process::id().to_string();
    for part in [Part::Run, Part::Checkpoints] {
        let refused = Owner::claim(root.path(), part);
        let Err(Error::Folder(FolderError::InUse { path, holder })) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(path, root.path());
        assert!(holder.starts_with(&format!("process {} on ", other.id())), "{holder}");
        assert!(holder.contains(" since 20") && !holder.contains(&own), "{holder}");
    }
    // Killed, it leaves the file, which means nothing.
    assert!(other.kill().is_ok() && other.wait().is_ok());
    assert_eq!(names_in(root.path()), [".lock"]);
    assert!(Owner::claim(root.path(), Part::Run).is_ok());
}
