//! Single options of the search, by their names in JSON.

use once_for_both::search::SearchOptions;
use serde_json::Value;
use std::str::FromStr;

/// One option and its value.
#[derive(Debug, Clone)]
pub struct Setting {
    name: String,
    value: Value,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
        // What is no JSON is a word: "equal" needs no quotes.
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        Ok(Self { name: name.into(), value })
    }
}

/// The options with some of them set.
pub fn apply(options: SearchOptions, settings: &[Setting]) -> Result<SearchOptions, String> {
    let unreadable = |error: serde_json::Error| format!("--set: {error}");
    let mut all = serde_json::to_value(&options).map_err(unreadable)?;
    for Setting { name, value } in settings {
        let pointer = format!("/{}", name.replace('.', "/"));
        match all.pointer_mut(&pointer) {
            Some(place) => *place = value.clone(),
            None => return Err(format!("--set {name}: a search has no such option")),
        }
    }
    serde_json::from_value(all).map_err(unreadable)
}
