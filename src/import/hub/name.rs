//! Names of weights on the hub.

use crate::error::HubError;
use std::fmt;
use std::str::FromStr;

/// What tells a name from a path.
pub(super) const PREFIX: &str = "hub:";
/// Branch without a revision.
const MAIN: &str = "main";
const LONGEST: usize = 96;

/// Repository of weights on the hub, and its revision: `OWNER/NAME` or `OWNER/NAME@REVISION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubName {
    repository: String,
    revision: String,
}

impl HubName {
    /// Returns owner and name, such as `facebook/dinov2-small`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns branch, tag or commit; `main` if the name has none.
    pub fn revision(&self) -> &str {
        &self.revision
    }
}

impl FromStr for HubName {
    type Err = HubError;

    /// Reads a name, with or without `hub:` in front.
    ///
    /// # Errors
    /// [`HubError::Name`] for anything else: no owner, no name, an empty revision, other characters.
    fn from_str(text: &str) -> Result<Self, HubError> {
        let name = text.strip_prefix(PREFIX).unwrap_or(text);
        let (repository, revision) = name.split_once('@').unwrap_or((name, MAIN));
        let own: Vec<&str> = repository.split('/').collect();
        let is_repository = own.len() == 2 && repository.len() <= LONGEST;
        // They are parts of paths in the cache, where -- takes the place of the slash.
        if is_repository
            && own.iter().all(|part| is_part(part) && !part.contains("--"))
            && revision.split('/').all(is_part)
        {
            return Ok(Self { repository: repository.into(), revision: revision.into() });
        }
        Err(HubError::Name { found: name.into() })
    }
}

/// Whether a text is a part of a name, which no path leads out of.
pub(super) fn is_part(text: &str) -> bool {
    let is_own = |own: char| own.is_ascii_alphanumeric() || "-_.".contains(own);
    !text.is_empty()
        && !text.starts_with(['.', '-'])
        && !text.contains("..")
        && text.chars().all(is_own)
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}@{}", self.repository, self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_with_and_without_revision_is_read() -> Result<(), HubError> {
        for (text, repository, revision) in [
            ("timm/deit_small_patch16_224.fb_in1k", "timm/deit_small_patch16_224.fb_in1k", "main"),
            ("hub:facebook/dinov2-small", "facebook/dinov2-small", "main"),
            ("hub:a/b@refs/pr/1", "a/b", "refs/pr/1"),
            ("a/b@v1.0-rc.1", "a/b", "v1.0-rc.1"),
        ] {
            let name: HubName = text.parse()?;
            assert_eq!((name.repository(), name.revision()), (repository, revision));
            assert_eq!(name.to_string().parse::<HubName>()?, name);
        }
        Ok(())
    }

    #[test]
    fn name_that_is_none_is_refused() {
        for text in [
            "",
            "hub:",
            "a",
            "/b",
            "a/",
            "a/b/c",
            "../b",
            "a/..",
            "a/.b",
            "a/b@",
            "a/b@../c",
            "a/b@/c",
            "a/b@x y",
            "a b/c",
            "a--b/c",
            "hub:hub:a/b",
            "a/ä",
            "a/b@c@d",
            "a/b?x=1",
            "a\\b/c",
        ] {
            let refused = text.parse::<HubName>();
            let found = text.strip_prefix(PREFIX).unwrap_or(text);
            assert!(
                matches!(&refused, Err(HubError::Name { found: own }) if own == found),
                "{text}: {refused:?}"
            );
        }
        assert!(format!("a/{}", "b".repeat(95)).parse::<HubName>().is_err());
    }
}
