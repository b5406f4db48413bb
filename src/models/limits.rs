//! Limits on the sizes of a configuration.

use super::Windows;
use crate::{Error, Result};

// Far above those of any network, and low enough that no product of sizes overflows, whatever a
// damaged file says.
const LARGEST_SIZE: i64 = 1 << 20;
const LARGEST_GRID: i64 = 1 << 14;
/// Entries of a bias of window attention: 256 MB.
const LARGEST_BIAS: f64 = (1 << 26) as f64;

pub(super) fn check_size(name: &str, value: i64) -> Result<()> {
    match value {
        1..=LARGEST_SIZE => Ok(()),
        ..1 => Err(Error::invalid(name, "positive", value)),
        _ => Err(Error::invalid(name, format!("at most {LARGEST_SIZE}"), value)),
    }
}

/// Refuses an image that cannot be divided into patches.
pub(super) fn check_input(image: i64, channels: i64, patch: i64) -> Result<()> {
    check_size("image_size", image)?;
    check_size("in_channels", channels)?;
    check_size("patch_size", patch)?;
    if image % patch != 0 {
        return Err(Error::invalid(
            "patch_size",
            format!("a divisor of image_size {image}"),
            patch,
        ));
    }
    if image / patch > LARGEST_GRID {
        let expected = format!("at most {LARGEST_GRID} patches along a side");
        return Err(Error::invalid("image_size / patch_size", expected, image / patch));
    }
    Ok(())
}

/// Refuses windows whose constants would not fit into memory.
pub(super) fn check_windows(windows: Windows) -> Result<()> {
    let (grid, side) = ((windows.grid as f64).powi(2), (windows.side as f64).powi(2));
    match grid.max(side) * side <= LARGEST_BIAS {
        true => Ok(()),
        false => {
            let expected = format!("fewer for a grid of {} tokens along a side", windows.grid);
            Err(Error::invalid("window_size", expected, windows.side))
        }
    }
}

pub(super) fn check_rates(drop_path: f64, norm_eps: f64) -> Result<()> {
    if !(0.0..1.0).contains(&drop_path) {
        return Err(Error::invalid("drop_path", "within [0, 1)", drop_path));
    }
    if norm_eps.is_nan() || norm_eps <= 0.0 {
        return Err(Error::invalid("norm_eps", "positive", norm_eps));
    }
    Ok(())
}
