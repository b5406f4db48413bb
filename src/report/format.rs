//! Numbers formatted for reading.

/// Shown in place of a missing number.
pub(super) const NONE: &str = "–";

/// Format of the values of a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Decimal, three significant digits.
    Plain,
    /// With k (10³), M (10⁶), G (10⁹).
    Count,
    /// Share in per cent.
    Percent,
}

impl Unit {
    /// Label of an axis tick, without trailing zeros.
    pub(super) fn tick(self, value: f64) -> String {
        match self {
            Self::Plain => plain(value),
            Self::Count => count(value, 3),
            Self::Percent => format!("{}%", plain(100.0 * value)),
        }
    }

    /// Value in a text.
    pub(super) fn value(self, value: f64) -> String {
        match self {
            Self::Plain => significant(value, 3),
            Self::Count => count(value, 4),
            Self::Percent => percent(value),
        }
    }

    /// Name of the format in readout.js.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Count => "count",
            Self::Percent => "percent",
        }
    }
}

/// Formats a share in per cent with one decimal.
pub(super) fn percent(share: f64) -> String {
    if share.is_finite() {
        minus(format!("{:.1} %", 100.0 * share))
    } else {
        NONE.into()
    }
}

/// Formats a count with a comma between groups of three digits.
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

/// Formats with `digits` significant digits; as a power of ten below 1e-4 and from 1e7.
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

/// Formats with four significant digits, without trailing zeros.
fn plain(value: f64) -> String {
    let text = significant(value, 4);
    if text.contains('.') && !text.contains('e') {
        return text.trim_end_matches('0').trim_end_matches('.').into();
    }
    text
}

/// Formats with k, M or G.
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

/// Replaces hyphens by minus signs.
fn minus(text: String) -> String {
    text.replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_of_each_unit_is_as_expected() {
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
    fn format_of_non_finite_value_is_a_dash() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for unit in [Unit::Plain, Unit::Count, Unit::Percent] {
                assert!(unit.value(value).starts_with(NONE), "{}", unit.value(value));
            }
        }
    }
}
