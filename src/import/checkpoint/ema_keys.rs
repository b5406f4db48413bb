//! Keys of a checkpoint that say that an EMA is under them.

/// Keys of exponential moving averages of the weights.
pub(super) const EMA_KEYS: [&str; 9] = [
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "model_ema_state_dict",
    "ema_model_state_dict",
    "ema_model",
    "params_ema",
    "averaged_model",
    "ema",
];

/// Words before `ema` with which a key says that its weights are not those of the EMA.
const NO_EMA: [&str; 5] = ["non", "no", "not", "without", "raw"];

/// Returns whether a path of keys is that of an EMA.
pub(super) fn is_ema(path: &str) -> bool {
    path.split('.').any(is_ema_key)
}

/// Whether a key says that an EMA is under it: `net_ema`, `modelEMA`, `shadow`; not `net_non_ema`, `withoutEMA`.
pub(super) fn is_ema_key(key: &str) -> bool {
    says_ema(key) == Some(true)
}

/// Returns whether the weights under a key are an EMA, `net_ema`, or those beside it, `net_non_ema`; `None` for a key that
/// says neither.
pub(super) fn says_ema(key: &str) -> Option<bool> {
    if EMA_KEYS.contains(&key) {
        return Some(true);
    }
    let (mut before, mut found) = ("", None);
    for word in key.split(|letter: char| !letter.is_alphanumeric()) {
        if let Some(at) = ema_in(word) {
            let before = if at == 0 { before } else { &word[..at] };
            if !is_negation(before) {
                return Some(true);
            }
            found = Some(false);
        }
        before = word;
    }
    found
}

/// Returns where a word says EMA.
fn ema_in(word: &str) -> Option<usize> {
    if word.eq_ignore_ascii_case("ema") || word.starts_with("shadow") {
        return Some(0);
    }
    ["EMA", "Ema"].iter().find_map(|ema| word.find(ema))
}

/// Whether a word, or what follows the last capital letter in it, is one of [`NO_EMA`].
fn is_negation(word: &str) -> bool {
    let end = word.rfind(char::is_uppercase).map_or(word, |at| &word[at..]);
    NO_EMA.iter().any(|no| word.eq_ignore_ascii_case(no) || end.eq_ignore_ascii_case(no))
}
