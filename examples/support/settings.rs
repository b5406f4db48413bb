//! Options of a search by `--set NAME=VALUE`.

use once_for_both::pipeline::{expect_free, overlaid, parse_setting};
use once_for_both::search::SearchOptions;
use once_for_both::Result;

/// Options that follow from those of the program, with what to change instead.
const OWNED: [(&str, &str); 7] = [
    ("total_steps", "--steps"),
    ("search_steps", "--search"),
    ("seed", "--seeds"),
    ("log_interval", "nothing: a row logs nothing"),
    ("training.accumulate", "--batch"),
    ("budget.decide_at_end", "nothing: a row ends with a subnet"),
    ("budget.keep_feasible", "nothing: a row has one budget"),
];

/// Returns the options with these settings; of two of one name the last holds.
pub fn with_settings(mut options: SearchOptions, settings: &[String]) -> Result<SearchOptions> {
    for setting in settings {
        let setting = parse_setting(setting)?;
        expect_free(&setting, &OWNED, "options")?;
        options = overlaid(&options, &setting, "options")?;
    }
    options.check()?;
    Ok(options)
}
