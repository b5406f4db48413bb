//! Which coefficients the scans of a JPEG file have coded, and down to which bit.

use super::error;
use crate::error::DecodeError;

/// Coefficients of a block.
const COEFFICIENTS: usize = 64;
/// Largest number of low bits that a first scan may leave out.
const MOST_LOW_BITS: u8 = 13;

/// Coefficients that were coded so far.
pub(super) struct Progression {
    progressive: bool,
    /// For each component and coefficient, the number of low bits not yet coded; `None` before its
    /// first scan.
    missing: Vec<[Option<u8>; COEFFICIENTS]>,
}

impl Progression {
    pub fn new(components: usize, progressive: bool) -> Self {
        Self { progressive, missing: vec![[None; COEFFICIENTS]; components] }
    }

    /// Adds a scan of coefficients `first..=last`, which refines them from `high` missing bits (0 in
    /// a first scan) to `low`.
    ///
    /// # Errors
    /// [`DecodeError::Jpeg`] for a scan that repeats another or leaves out one before it.
    pub fn add(
        &mut self,
        components: &[usize],
        (first, last): (u8, u8),
        (high, low): (u8, u8),
    ) -> Result<(), DecodeError> {
        // Some programs write other numbers into sequential scans, which code all coefficients.
        let (first, last, high, low) =
            if self.progressive { (first, last, high, low) } else { (0, 63, 0, 0) };
        let (first, last) = (usize::from(first), usize::from(last));
        let alone = components.len() == 1 || first == 0;
        let dc_or_ac = !self.progressive || (first == 0) == (last == 0);
        if first > last || last >= COEFFICIENTS || !alone || !dc_or_ac || low > MOST_LOW_BITS {
            return Err(error("a damaged scan header"));
        }
        let before = (high > 0).then_some(high);
        for &component in components {
            for missing in &mut self.missing[component][first..=last] {
                if *missing != before || (high > 0 && low + 1 != high) {
                    return Err(error(format!("a scan of component {component} out of order")));
                }
                *missing = Some(low);
            }
        }
        Ok(())
    }

    /// Refuses a file that lacks scans: their coefficients would be invented.
    pub fn check_complete(&self) -> Result<(), DecodeError> {
        for (component, missing) in self.missing.iter().enumerate() {
            if missing.iter().any(|&bits| bits != Some(0)) {
                return Err(error(format!("a missing scan of component {component}")));
            }
        }
        Ok(())
    }
}
