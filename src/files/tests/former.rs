//! The former folder of a write: while readers and other writers are at work, with names that are not
//! UTF-8, and where it cannot be removed.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};

const WRITES: usize = 50;

/// Calls `meanwhile` in two threads until `work` has ended, and returns what it returns.
fn beside<T>(work: impl FnOnce() -> T, meanwhile: impl Fn() + Sync) -> T {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    meanwhile();
                }
            });
        }
        let done = work();
        ended.store(true, Ordering::Relaxed);
        done
    })
}

/// Writes the folder so many times without an exchange of folders, and returns the errors in words.
fn errors_of(net: &Path, text: &str) -> Vec<String> {
    let write = |_| write_folder_by(unsupported, net, &KIND, fill(text)).err();
    (0..WRITES).filter_map(write).map(|error| format!("{error:?}")).collect()
}

#[test]
fn write_folder_by_renames_beside_readers_and_another_writer_succeeds_every_time() {
    let root = temporary();
    let net = root.path().join("net");
    make(&net, "old");
    let two_writers = || {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| errors_of(&net, "other"));
            (errors_of(&net, "own"), other.join())
        })
    };
    let (own, other) = beside(two_writers, || assert!(restore_folder(&net, &KIND).is_ok()));
    assert_eq!((own, other.ok()), (vec![], Some(vec![])));
    assert!(write_folder_by(unsupported, &net, &KIND, fill("last")).is_ok());
    assert_eq!(text(&net).as_deref(), Some("last"));
    assert_eq!(names_in(root.path()), ["net"]);
}

#[test]
fn write_folder_by_renames_beside_a_reader_without_locks_succeeds_every_time() {
    let root = temporary();
    let (net, replaced) = (root.path().join("net"), root.path().join(".net.replaced"));
    make(&net, "old");
    let restore = || {
        if !net.exists() {
            let _ = fs::rename(&replaced, &net);
        }
    };
    let errors = beside(|| errors_of(&net, "new"), restore);
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(text(&net).as_deref(), Some("new"));
    assert_eq!(names_in(root.path()), ["net"]);
}

#[test]
fn write_folder_whose_former_folder_cannot_be_removed_is_written() {
    // A file in the place of the former folder is not removed as a folder, whoever the user is.
    fn leave_a_file(beside: &Path, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)?;
        fs::rename(beside, path)?;
        fs::write(beside, "in the way")
    }
    let root = temporary();
    let net = root.path().join("net");
    make(&net, "old");
    let written = write_folder_by(leave_a_file, &net, &KIND, fill("new"));
    assert!(written.is_ok(), "{written:?}");
    assert_eq!(text(&net).as_deref(), Some("new"));
    assert_eq!(names_in(root.path()), [".net.partial", "net"]);
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777)
}

#[cfg(unix)]
#[test]
fn former_folder_with_a_read_only_folder_of_the_user_is_removed() {
    use crate::files::leftovers::make_writable;
    use std::os::unix::fs::{symlink, PermissionsExt};
    let root = temporary();
    let (net, outside) = (root.path().join("net"), root.path().join("outside"));
    make(&net, "old");
    assert!(fs::create_dir_all(net.join("notes/deep")).is_ok() && fs::create_dir(&outside).is_ok());
    put(&net.join("notes/deep/a"), "mine");
    assert!(symlink(&outside, net.join("link")).is_ok());
    let lock = |path: &Path| {
        assert!(fs::set_permissions(path, fs::Permissions::from_mode(0o555)).is_ok());
    };
    [&net.join("notes/deep"), &net.join("notes"), &outside].into_iter().for_each(|path| lock(path));
    for new in ["one", "two"] {
        assert!(write_folder(&net, &KIND, fill(new)).is_ok());
        assert_eq!(text(&net).as_deref(), Some(new));
        assert_eq!(names_in(root.path()), ["net", "outside"]);
        lock(&net.join("notes"));
    }
    // The superuser removes read-only folders, too: what makes them removable is checked by itself.
    make_writable(&net);
    assert_eq!((mode(&net.join("notes")), mode(&outside)), (0o755, 0o555));
}

#[cfg(target_os = "linux")]
#[test]
fn file_whose_name_is_not_utf_8_is_kept_by_every_write() {
    use std::os::unix::ffi::OsStrExt;
    let root = temporary();
    let net = root.path().join("net");
    make(&net, "old");
    let own = net.join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    put(&own, "mine");
    for new in ["one", "two"] {
        let written = write_folder(&net, &KIND, fill(new));
        assert!(written.is_ok(), "{written:?}");
        assert_eq!(fs::read_to_string(&own).ok().as_deref(), Some("mine"));
    }
}

#[cfg(unix)]
#[test]
fn link_to_a_former_folder_is_restored_as_a_link() {
    let root = temporary();
    let (net, kept) = (root.path().join("net"), root.path().join("kept"));
    make(&kept, "old");
    assert!(std::os::unix::fs::symlink(&kept, root.path().join(".net.replaced")).is_ok());
    assert!(restore_folder(&net, &KIND).is_ok());
    assert_eq!((text(&net).as_deref(), net.is_symlink()), (Some("old"), true));
}
