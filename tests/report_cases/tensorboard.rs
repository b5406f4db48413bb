//! TensorBoard event files, read by an independent reader.

use crate::assert_refused;
use crate::support::tiny_run::{alone, batch, search};
use crate::support::TestResult;
use once_for_both::report::TensorBoard;
use once_for_both::search::{Event, Listener, NonFiniteAction};
use once_for_both::Error;
use std::collections::BTreeMap;
use std::path::Path;

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let byte = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
    };
    !bytes.iter().fold(!0, byte)
}

fn masked(bytes: &[u8]) -> u32 {
    let crc = crc32c(bytes);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Records of a file; checks both checksums.
fn records(bytes: &[u8]) -> TestResult<Vec<&[u8]>> {
    let (mut records, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let (header, data) = rest.split_at_checked(12).ok_or("truncated header")?;
        let length = u64::from_le_bytes(header[..8].try_into()?) as usize;
        assert_eq!(u32::from_le_bytes(header[8..].try_into()?), masked(&header[..8]));
        let (data, behind) = data.split_at_checked(length).ok_or("truncated record")?;
        let (crc, behind) = behind.split_at_checked(4).ok_or("truncated checksum")?;
        assert_eq!(u32::from_le_bytes(crc.try_into()?), masked(data));
        records.push(data);
        rest = behind;
    }
    Ok(records)
}

/// Fields of a message as (number, bytes); varints as eight bytes.
fn fields(mut bytes: &[u8]) -> TestResult<Vec<(u64, Vec<u8>)>> {
    fn varint(bytes: &mut &[u8]) -> TestResult<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = bytes.split_first().ok_or("truncated number")?;
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let length = match key & 7 {
            0 => {
                fields.push((key >> 3, varint(&mut bytes)?.to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            5 => 4,
            _ => varint(&mut bytes)? as usize,
        };
        let (field, rest) = bytes.split_at_checked(length).ok_or("truncated field")?;
        fields.push((key >> 3, field.to_vec()));
        bytes = rest;
    }
    Ok(fields)
}

/// Values that TensorBoard shows of a folder, by tag and step. A session start removes points at
/// its step and later.
fn shown(folder: &Path) -> TestResult<BTreeMap<String, BTreeMap<u64, f32>>> {
    let mut files: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    files.sort_by_key(|file| file.file_name());
    let mut shown: BTreeMap<String, BTreeMap<u64, f32>> = BTreeMap::new();
    for file in files {
        assert!(file.file_name().to_string_lossy().contains("tfevents"));
        let bytes = std::fs::read(file.path())?;
        for (number, record) in records(&bytes)?.into_iter().enumerate() {
            let fields = fields(record)?;
            let find = |field| fields.iter().find(|(number, _)| *number == field).map(|(_, b)| b);
            let step = find(2).map_or(Ok(0), |b| b[..].try_into().map(u64::from_le_bytes))?;
            let wall = f64::from_le_bytes(find(1).ok_or("no time")?[..].try_into()?);
            assert!((1.6e9..1e11).contains(&wall), "{wall}");
            assert_eq!(number == 0, find(3).is_some_and(|version| version == b"brain.Event:2"));
            if let Some(log) = find(7) {
                assert_eq!(log[..], [8, 1]);
                shown.values_mut().for_each(|steps| steps.retain(|&at, _| at < step));
            }
            take_summary(find(5), step, &mut shown)?;
        }
    }
    Ok(shown)
}

fn take_summary(
    summary: Option<&Vec<u8>>,
    step: u64,
    shown: &mut BTreeMap<String, BTreeMap<u64, f32>>,
) -> TestResult {
    for (_, value) in fields(summary.map_or(&[], |bytes| &bytes[..]))? {
        let parts: BTreeMap<u64, Vec<u8>> = fields(&value)?.into_iter().collect();
        let tag = String::from_utf8(parts[&1].clone())?;
        let number = f32::from_le_bytes(parts[&2][..].try_into()?);
        shown.entry(tag).or_default().insert(step, number);
    }
    Ok(())
}

/// Writes the events of these steps of a search, and returns them.
fn write_search(folder: &Path, steps: std::ops::Range<u64>) -> TestResult<Vec<Event>> {
    let mut search = search(0.5)?;
    let mut board = TensorBoard::create(folder, steps.start)?;
    let mut events = Vec::new();
    while search.steps_done() < steps.end {
        let recorded = search.steps_done() >= steps.start;
        let mut record = |event: &Event| {
            if recorded {
                board.on_event(event)?;
                events.push(event.clone());
            }
            Ok(())
        };
        search.step(&[batch(search.steps_done())?], &mut record)?;
    }
    Ok(events)
}

#[test]
fn event_files_of_a_resumed_search_show_every_step_once() -> TestResult {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("missing/parents");
    let first = write_search(&path, 0..6)?;
    let check = |events: &[Event], last: u64| -> TestResult {
        let shown = shown(&path)?;
        assert_eq!(shown["loss/total"].len() as u64, last);
        for event in events {
            let Event::Step(metrics) = event else { continue };
            let is = |tag: &str, value: f64| {
                assert_eq!(shown[tag][&metrics.step], value as f32, "{tag} of {}", metrics.step);
            };
            is("loss/task", metrics.loss.task);
            is("loss/reconstruction", metrics.loss.reconstruction);
            is("macs/expected", metrics.macs_expected);
            is("macs/current", metrics.macs_current);
            is("lambda", metrics.lambda);
            is("mask_ratio", metrics.mask_ratio);
            is("lr", metrics.lr);
            for (name, dimension) in &metrics.dimensions {
                is(&format!("entropy/{name}"), dimension.entropy);
                is(&format!("expected_size/{name}"), dimension.expected);
            }
        }
        Ok(())
    };
    check(&first, 6)?;
    // Resumed from a checkpoint at step 4.
    let second = write_search(&path, 4..8)?;
    check(&second, 8)?;
    assert_eq!(std::fs::read_dir(&path)?.count(), 2);
    Ok(())
}

#[test]
fn rollback_removes_points_since_the_checkpoint() -> TestResult {
    let folder = tempfile::tempdir()?;
    let mut board = TensorBoard::create(folder.path(), 0)?;
    let measured = |step, top1| Event::Evaluated { step, top1 };
    for step in 0..10 {
        board.on_event(&measured(step, 0.5))?;
    }
    let (action, first) = (NonFiniteAction::RolledBack, Vec::new());
    let back =
        Event::NonFinite { step: 8, skipped: 5, in_a_row: 5, action, first, unusable: Vec::new() };
    board.on_event(&back)?;
    board.on_event(&measured(8, 0.75))?;
    board.on_event(&Event::Checkpoint { step: 9 })?;
    let top1 = &shown(folder.path())?["top1"];
    assert_eq!(top1.len(), 9);
    assert_eq!((top1[&7], top1[&8]), (0.5, 0.75));
    assert_eq!(board.path().parent(), Some(folder.path()));
    Ok(())
}

#[test]
fn create_below_a_file_is_refused() -> TestResult {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("file");
    std::fs::write(&file, "")?;
    assert_refused!(TensorBoard::create(file.join("below"), 0), Error::Io { .. });
    Ok(())
}

#[test]
#[ignore = "writes the event files that scripts/python-tests reads with TensorBoard"]
fn writes_events_for_python() -> TestResult {
    let _alone = alone();
    let root = std::path::PathBuf::from(std::env::var("OFB_PYTHON_CASES")?).join("events");
    let (first, second) = (write_search(&root, 0..6)?, write_search(&root, 4..8)?);
    let before = first.into_iter().filter(|event| event.is_before(4));
    let events: Vec<Event> = before.chain(second).collect();
    Ok(std::fs::write(root.join("expected.json"), serde_json::to_vec(&events)?)?)
}
