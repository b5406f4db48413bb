//! Numbers as people read them.

/// What stands where there is no number.
pub(super) const NONE: &str = "–";

/// How the values of a quantity are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// As it is, with some significant digits.
    Plain,
    /// With k, M, G.
    Count,
    /// A share, in per cent.
    Percent,
}

impl Unit {
    /// On an axis: short, no more digits than needed.
    pub(super) fn tick(self, value: f64) -> String {
        match self {
            Self::Plain => plain(value),
            Self::Count => count(value, 3),
            Self::Percent => format!("{}%", plain(100.0 * value)),
        }
    }

    /// In a text.
    pub(super) fn value(self, value: f64) -> String {
        match self {
            Self::Plain => significant(value, 3),
            Self::Count => count(value, 4),
            Self::Percent => percent(value),
        }
    }

    /// What the script of the page calls it.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Count => "count",
            Self::Percent => "percent",
        }
    }
}

/// A share in per cent, one decimal.
pub(super) fn percent(share: f64) -> String {
    if share.is_finite() {
        minus(format!("{:.1} %", 100.0 * share))
    } else {
        NONE.into()
    }
}

/// Digits in groups of three.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many significant digits; a power of ten where the number is very small or large.
pub(super) fn significant(value: f64, digits: i32) -> String {
    if !value.is_finite() {
        return NONE.into();
    }
    if value == 0.0 {
        return "0".into();
    }
    let magnitude = value.abs().log10().floor() as i32;
    if !(-4..7).contains(&magnitude) {
        let mantissa = value / 10f64.powi(magnitude);
        return minus(format!("{mantissa:.1}e{magnitude}"));
    }
    minus(format!("{value:.*}", (digits - 1 - magnitude).max(0) as usize))
}

/// Without zeros at the end.
fn plain(value: f64) -> String {
    let text = significant(value, 4);
    if text.contains('.') && !text.contains('e') {
        return text.trim_end_matches('0').trim_end_matches('.').into();
    }
    text
}

/// With k, M, G.
fn count(value: f64, digits: i32) -> String {
    let (scale, letter) = match value.abs() {
        large if large >= 1e9 => (1e9, " G"),
        large if large >= 1e6 => (1e6, " M"),
        large if large >= 1e3 => (1e3, " k"),
        _ => (1.0, ""),
    };
    let number = match (digits, scale) {
        (3, _) | (_, 1.0) => plain(value / scale),
        _ => significant(value / scale, digits),
    };
    format!("{number}{letter}")
}

/// A minus as wide as a plus.
fn minus(text: String) -> String {
    text.replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(Unit::Count.value(4_598_882_304.0), "4.599 G");
        assert_eq!(Unit::Count.value(363_940_000.0), "363.9 M");
        assert_eq!(Unit::Count.tick(2e8), "200 M");
        assert_eq!(Unit::Count.value(0.0), "0");
        assert_eq!(Unit::Percent.tick(0.25), "25%");
        assert_eq!(Unit::Percent.value(0.6447), "64.5 %");
        assert_eq!(Unit::Plain.value(-0.01234), "−0.0123");
        assert_eq!(Unit::Plain.tick(0.5), "0.5");
        assert_eq!(Unit::Plain.value(2.5e-5), "2.5e−5");
        assert_eq!(grouped(60000), "60,000");
        assert_eq!(grouped(999), "999");
    }

    #[test]
    fn what_is_no_number_is_a_dash() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for unit in [Unit::Plain, Unit::Count, Unit::Percent] {
                assert!(unit.value(value).starts_with(NONE), "{}", unit.value(value));
            }
        }
    }
}
