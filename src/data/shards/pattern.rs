//! Names of shards: patterns with braces, as in a shell and in WebDataset.

use crate::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Most shards of a data set.
const MOST_SHARDS: usize = 100_000;
/// Between two patterns, as in WebDataset.
const SEPARATOR: &str = "::";

/// Returns whether a path names tar shards: it ends in `.tar`, or in a brace after it, and is no folder.
pub(crate) fn is_shard_pattern(path: &Path) -> bool {
    let ends = path.to_str().is_some_and(|text| text.trim_end_matches('}').ends_with(".tar"));
    ends && !path.is_dir()
}

/// Returns the text of a pattern that is given as a path.
///
/// # Errors
/// [`Error::Invalid`] for a path that is not in UTF-8.
pub(crate) fn pattern_text(path: &Path) -> Result<&str> {
    let refused = || Error::invalid("pattern of shards", "text in UTF-8", path.display());
    path.to_str().ok_or_else(refused)
}

/// Returns the paths that a pattern stands for, in its order.
pub(super) fn expand(pattern: &str) -> Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for part in pattern.split(SEPARATOR) {
        names.extend(expand_braces(part, pattern)?);
        check_count(names.len(), pattern)?;
    }
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| name.is_empty() || !seen.insert(name.as_str())) {
        None => Ok(names.into_iter().map(PathBuf::from).collect()),
        Some(name) if name.is_empty() => Err(refused(pattern, "a path", "an empty one")),
        Some(twice) => Err(refused(pattern, "every shard once", &format!("{twice} twice"))),
    }
}

/// Expands the first pair of braces, and recursively those in it and after it.
fn expand_braces(text: &str, pattern: &str) -> Result<Vec<String>> {
    let unbalanced = || refused(pattern, "a closing brace for every opening one", text);
    let Some(open) = text.find(['{', '}']) else { return Ok(vec![text.to_owned()]) };
    let close = closing(&text[open..]).ok_or_else(unbalanced)? + open;
    let ends = expand_braces(&text[close + 1..], pattern)?;
    let mut names = Vec::new();
    for middle in alternatives(&text[open + 1..close], pattern)? {
        check_count(names.len() + ends.len(), pattern)?;
        names.extend(ends.iter().map(|end| format!("{}{middle}{end}", &text[..open])));
    }
    Ok(names)
}

/// Position of the brace that closes the one at the start of `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, brace) in text.match_indices(['{', '}']) {
        depth += if brace == "{" { 1 } else { -1 };
        if depth <= 0 {
            return (brace == "}" && at > 0).then_some(at);
        }
    }
    None
}

/// What the content of a pair of braces stands for: a list `a,b`, or a range `000..146`.
fn alternatives(content: &str, pattern: &str) -> Result<Vec<String>> {
    let parts = split_list(content);
    if parts.len() == 1 {
        let expected = "a range such as {000..146} or a list such as {a,b}";
        let range = range(content, pattern)?;
        return range.ok_or_else(|| refused(pattern, expected, &format!("{{{content}}}")));
    }
    let mut names = Vec::new();
    for part in parts {
        names.extend(expand_braces(part, pattern)?);
        check_count(names.len(), pattern)?;
    }
    Ok(names)
}

/// Splits at the commas outside of inner braces.
fn split_list(content: &str) -> Vec<&str> {
    let mut depth = 0;
    let is_comma = |letter: char| {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        letter == ',' && depth == 0
    };
    content.split(is_comma).collect()
}

/// The numbers of `first..last`, in ascending or descending order. If one is written with leading
/// zeros, all have the digits of the longer one. `None` for other text.
fn range(content: &str, pattern: &str) -> Result<Option<Vec<String>>> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<usize>().ok().filter(|_| digits)
    };
    let ends = content.split_once("..");
    let Some((low, high)) = ends else { return Ok(None) };
    let (Some(first), Some(last)) = (number(low), number(high)) else { return Ok(None) };
    check_count(first.abs_diff(last).saturating_add(1), pattern)?;
    let padded = |text: &str| text.len() > 1 && text.starts_with('0');
    let width = if padded(low) || padded(high) { low.len().max(high.len()) } else { 0 };
    let text = |number: usize| format!("{number:0width$}");
    Ok(Some(match first <= last {
        true => (first..=last).map(text).collect(),
        false => (last..=first).rev().map(text).collect(),
    }))
}

fn check_count(count: usize, pattern: &str) -> Result<()> {
    match count <= MOST_SHARDS {
        true => Ok(()),
        false => Err(refused(pattern, &format!("at most {MOST_SHARDS} shards"), "more")),
    }
}

fn refused(pattern: &str, expected: &str, actual: &str) -> Error {
    Error::invalid(format!("pattern of shards {pattern}"), expected, actual)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pattern: &str) -> Result<Vec<String>> {
        Ok(expand(pattern)?.iter().map(|path| path.display().to_string()).collect())
    }

    #[test]
    fn pattern_with_ranges_lists_and_separators_is_expanded_in_order() -> Result<()> {
        let cases: [(&str, &[&str]); 11] = [
            ("a.tar", &["a.tar"]),
            ("t-{000..002}.tar", &["t-000.tar", "t-001.tar", "t-002.tar"]),
            ("t-{8..11}", &["t-8", "t-9", "t-10", "t-11"]),
            ("t-{08..11}", &["t-08", "t-09", "t-10", "t-11"]),
            ("t-{2..0}", &["t-2", "t-1", "t-0"]),
            ("{0..0}", &["0"]),
            ("{a,b}/{0..1}", &["a/0", "a/1", "b/0", "b/1"]),
            ("{x{1..2},y}.tar", &["x1.tar", "x2.tar", "y.tar"]),
            ("{a,}b", &["ab", "b"]),
            ("a.tar::b-{1..2}.tar", &["a.tar", "b-1.tar", "b-2.tar"]),
            ("{{a,b},{c,d}}", &["a", "b", "c", "d"]),
        ];
        for (pattern, expected) in cases {
            assert_eq!(names(pattern)?, expected, "{pattern}");
        }
        Ok(())
    }

    #[test]
    fn pattern_with_a_fault_is_refused_with_the_pattern_and_the_fault() {
        let cases = [
            ("a-{0..2.tar", "a closing brace"),
            ("a-0..2}.tar", "a closing brace"),
            ("a}b{c", "a closing brace"),
            ("a-{abc}.tar", "got {abc}"),
            ("a-{}.tar", "got {}"),
            ("a-{1..x}.tar", "got {1..x}"),
            ("a-{-1..2}.tar", "got {-1..2}"),
            ("a-{0..99999999999999999999999}.tar", "a range such as"),
            ("a-{0..18446744073709551615}.tar", "at most 100000 shards"),
            ("{0..999}{0..999}", "at most 100000 shards"),
            ("a.tar::b.tar::a.tar", "got a.tar twice"),
            ("a-{1,1}.tar", "got a-1.tar twice"),
            ("", "got an empty one"),
            ("a.tar::", "got an empty one"),
        ];
        for (pattern, part) in cases {
            let said = names(pattern).expect_err(pattern).to_string();
            assert!(said.starts_with("pattern of shards") && said.contains(part), "{said}");
        }
    }

    #[test]
    fn path_names_shards_if_it_ends_in_tar() {
        for (path, expected) in [
            ("a.tar", true),
            ("t-{0..3}.tar", true),
            ("{a,b}.tar", true),
            ("{a.tar,b.tar}", true),
            ("a.tar.gz", false),
            ("folder", false),
            ("tar", false),
        ] {
            assert_eq!(is_shard_pattern(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn path_of_a_folder_names_no_shards() -> std::io::Result<()> {
        let folder = tempfile::Builder::new().suffix(".tar").tempdir()?;
        assert!(!is_shard_pattern(folder.path()));
        assert!(is_shard_pattern(&folder.path().with_file_name("nowhere.tar")));
        Ok(())
    }
}
