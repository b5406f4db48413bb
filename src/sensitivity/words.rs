//! A forecast as text.

use super::{Forecast, ForecastPoint};
use std::fmt::{Display, Formatter, Result};

impl Display for Forecast {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let metric = self.metric.name();
        writeln!(f, "loss before pruning {:.4}, on {} calibration images", self.loss, self.images)?;
        writeln!(
            f,
            "share of the {metric}   predicted loss (rise)   measured loss (rise ± s.e.)   sizes"
        )?;
        for point in &self.points {
            let loss = self.loss + point.predicted;
            write!(f, "{:>19.3}   ", point.share)?;
            write!(f, "{loss:>6.4} ({:+.4})   ", point.predicted)?;
            write!(f, "{:<30}", measured(self.loss, point))?;
            writeln!(f, "{}", sizes(point))?;
        }
        let order = self.order.iter();
        let order: Vec<String> =
            order.map(|own| format!("{} at {:.2}", own.dimension, own.share)).collect();
        match order.is_empty() {
            true => write!(f, "pruned first, as the limit falls: none"),
            false => write!(f, "pruned first, as the limit falls: {}", order.join(", ")),
        }
    }
}

fn measured(before: f64, point: &ForecastPoint) -> String {
    let Some(rise) = point.measured else { return "not measured".into() };
    format!("{:.4} ({:+.4} ± {:.4})", before + rise.mean, rise.mean, rise.standard_error)
}

fn sizes(point: &ForecastPoint) -> String {
    let sizes: Vec<String> =
        point.sizes.iter().map(|(name, size)| format!("{name} {size}")).collect();
    sizes.join(", ")
}
