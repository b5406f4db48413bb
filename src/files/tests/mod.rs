//! Tests of atomic writes: what refuses, what stays, what an interruption leaves.

mod former;
mod processes;

use super::folder::write_folder_by;
use super::leftovers::discard_folder_by;
use super::*;
use crate::error::FolderError;

const MARK: &str = "mark.json";
const KIND: FolderKind = FolderKind {
    what: "artifact",
    mark: (MARK, "test/format"),
    files: &[MARK, "text", "rest"],
    damaged_is_own: false,
};

/// Operation that exchanges two folders.
type Exchange = fn(&Path, &Path) -> io::Result<()>;

fn unsupported(_: &Path, _: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

fn fill(text: &str) -> impl FnOnce(&Path) -> Result<()> + '_ {
    move |folder| {
        write(&folder.join("text"), text.as_bytes())?;
        write(&folder.join(MARK), br#"{"format": "test/format"}"#)
    }
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"))
}

fn put(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn make(path: &Path, text: &str) {
    assert!(fs::create_dir_all(path).is_ok());
    assert!(fill(text)(path).is_ok());
}

/// The text of a folder, as a reader finds it.
fn text(folder: &Path) -> Option<String> {
    assert!(restore_folder(folder, &KIND).is_ok());
    KIND.is_own(folder).then(|| fs::read_to_string(folder.join("text")).ok()).flatten()
}

fn names_in(folder: &Path) -> Vec<String> {
    let names = names(folder).unwrap_or_else(|error| panic!("{error}"));
    names.into_iter().map(|name| name.to_string_lossy().into_owned()).collect()
}

/// The file system of /proc cannot sync folders, as that of the shared folders of VirtualBox.
#[cfg(target_os = "linux")]
#[test]
fn sync_of_a_folder_whose_file_system_cannot_sync_folders_succeeds() {
    let proc = Path::new("/proc");
    let by_system = File::open(proc).and_then(|folder| folder.sync_all());
    assert!(by_system.is_err_and(|error| error.kind() == ErrorKind::InvalidInput));
    assert!(sync(proc).is_ok());
    let missing = sync(Path::new("/nowhere"));
    assert!(matches!(missing, Err(Error::Io { action: "sync", .. })), "{missing:?}");
}

#[test]
fn write_folder_over_an_own_folder_replaces_it_and_keeps_the_users_files() {
    for exchange in [None, Some(unsupported as Exchange)] {
        let root = temporary();
        let own = root.path().join("net.0.5");
        let write = |text: &str| match exchange {
            None => write_folder(&own, &KIND, fill(text)),
            Some(exchange) => write_folder_by(exchange, &own, &KIND, fill(text)),
        };
        assert!(write("first").is_ok());
        put(&own.join("rest"), "of an earlier export");
        put(&own.join("README.md"), "mine");
        assert!(fs::create_dir(own.join("notes")).is_ok());
        put(&own.join("notes/a"), "mine, too");
        assert!(write("second").is_ok());
        assert_eq!(text(&own).as_deref(), Some("second"));
        assert_eq!(names_in(&own), ["README.md", MARK, "notes", "text"]);
        assert_eq!(fs::read_to_string(own.join("notes/a")).ok().as_deref(), Some("mine, too"));
        assert_eq!(names_in(root.path()), ["net.0.5"]);
    }
}

#[test]
fn write_folder_over_a_foreign_folder_is_refused_and_leaves_it() {
    let foreign = [
        (MARK, r#"{"model_type": "vit"}"#, "mark.json has no format"),
        (MARK, r#"{"format": "pt"}"#, "the format \"pt\""),
        (MARK, "{", "not valid JSON"),
        ("model.bin", "weights", "one with model.bin and without mark.json"),
    ];
    for (name, contents, reason) in foreign {
        let root = temporary();
        let folder = root.path().join("model");
        assert!(fs::create_dir(&folder).is_ok());
        put(&folder.join(name), contents);
        put(&folder.join("other"), "kept");
        let refused = write_folder(&folder, &KIND, fill("ours"));
        let Err(Error::Folder(FolderError::Foreign { path, found, .. })) = refused else {
            panic!("{name}: {refused:?}");
        };
        assert!(path == folder && found.contains(reason) || name == "model.bin", "{found}");
        assert_eq!(fs::read_to_string(folder.join(name)).ok().as_deref(), Some(contents));
        assert_eq!(names_in(&folder).len(), 2);
        assert_eq!(names_in(root.path()), ["model"]);
    }
}

#[test]
fn write_folder_over_a_file_is_refused_and_leaves_it() {
    let root = temporary();
    let file = root.path().join("model");
    put(&file, "weights");
    let refused = write_folder(&file, &KIND, fill("ours"));
    assert!(matches!(refused, Err(Error::Folder(FolderError::Foreign { .. }))), "{refused:?}");
    assert_eq!(fs::read_to_string(&file).ok().as_deref(), Some("weights"));
}

#[test]
fn write_folder_with_failing_fill_keeps_what_was_there() {
    let root = temporary();
    let own = root.path().join("net");
    make(&own, "kept");
    assert!(write_folder(&own, &KIND, |_| Err(Error::invalid("a", "b", "c"))).is_err());
    assert_eq!((text(&own).as_deref(), names_in(root.path()).len()), (Some("kept"), 1));
}

#[test]
fn write_folder_to_path_without_file_name_is_rejected() {
    for path in ["", ".", "..", "/", "somewhere/.."] {
        let refused = write_folder(Path::new(path), &KIND, fill("text"));
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{path}: {refused:?}");
    }
}

#[cfg(unix)]
#[test]
fn write_through_a_symbolic_link_replaces_its_target_and_keeps_the_link() {
    use std::os::unix::fs::symlink;
    let root = temporary();
    let path = |name: &str| root.path().join(name);
    assert!(fs::create_dir(path("deep")).is_ok());
    make(&path("deep/net"), "old");
    put(&path("deep/file"), "old");
    let links =
        [("latest", "deep/net"), ("again", "latest"), ("report", "deep/file"), ("new", "deep/new")];
    for (link, target) in links {
        assert!(symlink(target, path(link)).is_ok());
    }
    // With a slash at the end, too, and through two links.
    for (link, new) in [("latest", "one"), ("latest/", "two"), ("again", "three")] {
        assert!(write_folder(&path(link), &KIND, fill(new)).is_ok());
        assert_eq!(text(&path("deep/net")).as_deref(), Some(new));
    }
    assert!(write_folder(&path("new"), &KIND, fill("created")).is_ok());
    assert_eq!(text(&path("deep/new")).as_deref(), Some("created"));
    assert!(write_atomically(&path("report"), b"new").is_ok());
    assert_eq!(fs::read_to_string(path("deep/file")).ok().as_deref(), Some("new"));
    assert!(links.iter().all(|(link, _)| path(link).is_symlink()));
    assert_eq!(names_in(&path("deep")), ["file", "net", "new"]);
}

#[test]
fn write_atomically_over_a_folder_or_a_device_is_refused() {
    let root = temporary();
    let folder = root.path().join("reports");
    assert!(fs::create_dir(&folder).is_ok());
    let places = if cfg!(unix) { vec![folder, "/dev/null".into()] } else { vec![folder] };
    for place in places {
        let refused = write_atomically(&place, b"text");
        assert!(matches!(refused, Err(Error::Folder(FolderError::Foreign { .. }))), "{refused:?}");
    }
    assert_eq!(names_in(root.path()), ["reports"]);
}

/// Every state that a kill can leave, in the order of the operations: with an exchange, and with two
/// renames. The former or the new folder is found, and the next write removes what is left.
#[test]
fn interrupted_write_folder_leaves_the_former_or_the_new_one_and_is_mended() {
    type Leave = fn(&Path);
    let states: [(Leave, &str); 6] = [
        // The temporary folder is incomplete, then complete.
        (|root| assert!(fs::create_dir(root.join(".net.partial")).is_ok()), "old"),
        (|root| make(&root.join(".net.partial"), "new"), "old"),
        // Exchanged; the former one is not removed yet.
        (
            |root| {
                make(&root.join(".net.partial"), "new");
                let (net, beside) = (root.join("net"), root.join(".net.partial"));
                assert!(fs::rename(&net, root.join("x")).is_ok());
                assert!(fs::rename(&beside, &net).is_ok());
                assert!(fs::rename(root.join("x"), &beside).is_ok());
            },
            "new",
        ),
        // Between the two renames.
        (
            |root| {
                make(&root.join(".net.partial"), "new");
                assert!(fs::rename(root.join("net"), root.join(".net.replaced")).is_ok());
            },
            "old",
        ),
        // After both.
        (
            |root| {
                assert!(fs::rename(root.join("net"), root.join(".net.replaced")).is_ok());
                make(&root.join("net"), "new");
            },
            "new",
        ),
        // The former one is removed in part.
        (
            |root| {
                assert!(fs::rename(root.join("net"), root.join(".net.partial")).is_ok());
                assert!(fs::remove_file(root.join(".net.partial").join(MARK)).is_ok());
                make(&root.join("net"), "new");
            },
            "new",
        ),
    ];
    for (at, (leave, expected)) in states.into_iter().enumerate() {
        for read_first in [true, false] {
            let root = temporary();
            let net = root.path().join("net");
            make(&net, "old");
            leave(root.path());
            if read_first {
                assert_eq!(text(&net).as_deref(), Some(expected), "state {at}");
            }
            assert!(write_folder(&net, &KIND, fill("next")).is_ok(), "state {at}");
            assert_eq!(text(&net).as_deref(), Some("next"), "state {at}");
            assert_eq!(names_in(root.path()), ["net"], "state {at}");
        }
    }
}

#[cfg(unix)]
#[test]
fn read_folder_that_is_replaced_meanwhile_reads_all_of_the_new_one() {
    let root = temporary();
    let net = root.path().join("net");
    make(&net, "old");
    let both = read_folder(&net, &KIND, |folder| {
        let first = fs::read_to_string(folder.join("text")).unwrap_or_default();
        if first == "old" {
            write_folder(folder, &KIND, fill("new"))?;
        }
        Ok((first, fs::read_to_string(folder.join("text")).unwrap_or_default()))
    });
    assert_eq!(both.ok(), Some(("new".into(), "new".into())));
}

#[test]
fn two_threads_that_write_the_same_folder_leave_one_whole() {
    let root = temporary();
    let net = root.path().join("net");
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let net = &net;
            scope.spawn(move || {
                for _ in 0..20 {
                    let written = write_folder(net, &KIND, fill(name));
                    assert!(written.is_ok(), "{written:?}");
                    let written = write_atomically(&net.with_file_name("file"), name.as_bytes());
                    assert!(written.is_ok(), "{written:?}");
                }
            });
        }
    });
    assert!(matches!(text(&net).as_deref(), Some("a" | "b")));
    assert_eq!(names_in(root.path()), ["file", "net"]);
}

#[test]
fn claim_in_one_process_is_shared_between_parts_but_not_between_two_runs() {
    let root = temporary();
    let run = Owner::claim(root.path(), Part::Run);
    assert!(run.is_ok());
    let refused = Owner::claim(&root.path().join("."), Part::Run);
    assert!(matches!(refused, Err(Error::Folder(FolderError::InUse { .. }))), "{refused:?}");
    let checkpoints = [Part::Checkpoints; 2].map(|part| Owner::claim(root.path(), part));
    assert!(checkpoints.iter().all(|owner| owner.as_ref().is_ok_and(|owner| !owner.is_first())));
    drop(run);
    assert!(Owner::claim(root.path(), Part::Run).is_ok());
}

#[test]
fn leftovers_of_killed_writes_are_removed_and_what_they_replaced_is_restored() {
    let root = temporary();
    make(&root.path().join(".step-1.partial"), "incomplete");
    make(&root.path().join(".step-2.replaced"), "former");
    make(&root.path().join(".mine.partial"), "of the user");
    assert!(remove_leftovers(root.path(), &KIND, |name| name.starts_with("step-")).is_ok());
    assert_eq!(names_in(root.path()), [".mine.partial", "step-2"]);
    assert_eq!(text(&root.path().join("step-2")).as_deref(), Some("former"));
}

#[test]
fn write_folder_beside_a_folder_with_a_temporary_name_of_the_user_is_refused_and_leaves_it() {
    let contents = [("mine", "kept"), (MARK, r#"{"format": "other"}"#)];
    for ending in ["partial", "replaced"] {
        for (name, contents) in contents {
            let root = temporary();
            let (net, foreign) =
                (root.path().join("net"), root.path().join(format!(".net.{ending}")));
            assert!(fs::create_dir(&foreign).is_ok());
            put(&foreign.join(name), contents);
            let refused = write_folder(&net, &KIND, fill("ours"));
            let Err(Error::Folder(FolderError::Foreign { path, .. })) = refused else {
                panic!("{ending}: {refused:?}");
            };
            assert_eq!((path, names_in(&foreign)), (foreign.clone(), vec![name.to_string()]));
            assert!(!net.exists());
        }
    }
}

#[test]
fn discard_folder_that_is_interrupted_leaves_nothing_at_the_path_and_is_swept() {
    let root = temporary();
    let step = root.path().join("step-1");
    make(&step, "old");
    let interrupted = |folder: &Path, _: &FolderKind| {
        assert!(fs::remove_file(folder.join("text")).is_ok());
        Err(Error::invalid("a", "b", "c"))
    };
    assert!(discard_folder_by(interrupted, &step, &KIND).is_err());
    assert_eq!(names_in(root.path()), [".step-1.partial"]);
    assert!(remove_leftovers(root.path(), &KIND, |name| name.starts_with("step-")).is_ok());
    assert!(names_in(root.path()).is_empty());
}

#[cfg(unix)]
#[test]
fn pipe_in_the_place_of_a_file_is_refused_without_waiting() {
    let root = temporary();
    let folder = root.path().join("net");
    assert!(fs::create_dir(&folder).is_ok());
    let mark = folder.join(MARK);
    let made = std::process::Command::new("mkfifo").arg(&mark).status();
    assert!(made.is_ok_and(|status| status.success()));
    let refused = write_folder(&folder, &KIND, fill("ours"));
    let Err(Error::Folder(FolderError::Foreign { found, .. })) = refused else {
        panic!("{refused:?}");
    };
    assert!(found.contains("is a folder, pipe or device"), "{found}");
    let read = read(&mark).map_err(|error| error.to_string());
    assert_eq!(read, Err("got a pipe, socket or device, expected a file".into()));
}

#[cfg(all(unix, feature = "pipeline"))]
#[test]
fn expect_writable_at_an_impossible_path_names_the_reason() {
    let root = temporary();
    let file = root.path().join("file");
    put(&file, "text");
    let long = root.path().join("x".repeat(300));
    for (path, reason) in [
        (file.as_path(), "is a file, expected a folder"),
        (&file.join("run/a"), "is a file, expected a folder"),
        (&long, "name too long"),
        (Path::new(""), "empty path"),
    ] {
        let refused = expect_writable(path).err().map(|error| error.to_string().to_lowercase());
        assert!(
            refused.as_ref().is_some_and(|text| text.contains(reason)),
            "{path:?}: {refused:?}"
        );
    }
    assert!(expect_writable(&root.path().join("new/run")).is_ok());
}

#[cfg(feature = "pipeline")]
#[test]
fn if_there_of_what_cannot_be_read_is_an_error_and_of_nothing_is_none() {
    let root = temporary();
    let read = |name: &str| if_there(read_json::<serde_json::Value>(&root.path().join(name)));
    assert!(matches!(read("missing.json"), Ok(None)));
    assert!(fs::create_dir(root.path().join("folder.json")).is_ok());
    assert!(matches!(read("folder.json"), Err(Error::Io { action: "read", .. })));
    put(&root.path().join("file.json"), "1");
    assert_eq!(read("file.json").ok().flatten(), Some(1.into()));
}
