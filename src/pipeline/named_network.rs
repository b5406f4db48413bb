//! Networks by name: `network = "swin_tiny"` in place of section `[network]`.

use crate::{Error, Result};
use toml::{Table, Value};

/// Options of section `[network]`, for images of 224 × 224 pixels. Stochastic depth is that of the
/// published training.
const NETWORKS: [(&str, &str); 6] = [
    (
        "deit_tiny",
        "family = 'vit'\nembed_dim = 192\ndepth = 12\nheads = 3\npatch_size = 16\ndrop_path = 0.1",
    ),
    (
        "deit_small",
        "family = 'vit'\nembed_dim = 384\ndepth = 12\nheads = 6\npatch_size = 16\ndrop_path = 0.1",
    ),
    (
        "deit_base",
        "family = 'vit'\nembed_dim = 768\ndepth = 12\nheads = 12\npatch_size = 16\ndrop_path = 0.1",
    ),
    (
        "swin_tiny",
        "family = 'swin'\nembed_dim = 96\ndepth = [2, 2, 6, 2]\nheads = 3\npatch_size = 4\n\
         window_size = 7\ndrop_path = 0.2",
    ),
    (
        "swin_small",
        "family = 'swin'\nembed_dim = 96\ndepth = [2, 2, 18, 2]\nheads = 3\npatch_size = 4\n\
         window_size = 7\ndrop_path = 0.3",
    ),
    (
        "swin_base",
        "family = 'swin'\nembed_dim = 128\ndepth = [2, 2, 18, 2]\nheads = 4\npatch_size = 4\n\
         window_size = 7\ndrop_path = 0.5",
    ),
];

/// Replaces the name of a network in `above` by its options, and removes those of another network
/// from `below`, over which `above` will be merged.
///
/// # Errors
/// [`Error::Unknown`] for another name.
pub(super) fn expand(below: &mut Table, above: &mut Table) -> Result<()> {
    let Some(Value::String(name)) = above.get("network") else { return Ok(()) };
    let known = NETWORKS.iter().find(|(own, _)| own == name);
    let Some((_, options)) = known else {
        let names = NETWORKS.map(|(name, _)| name.to_owned());
        return Err(Error::unknown("network", name, &names));
    };
    let mut options: Table =
        toml::from_str(options).map_err(|e| Error::invalid("network", "TOML", e))?;
    options.insert("image_size".into(), 224.into());
    above.insert("network".into(), options.into());
    below.remove("network");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{SwinConfig, VitConfig};
    use crate::pipeline::{Family, NetworkConfig};

    #[test]
    fn named_networks_are_those_of_the_library() -> Result<()> {
        for (name, _) in NETWORKS {
            let mut above = Table::from_iter([("network".to_owned(), Value::from(name))]);
            expand(&mut Table::new(), &mut above)?;
            let options = above["network"].clone().try_into::<NetworkConfig>();
            let options = options.map_err(|error| Error::invalid(name, "options", error))?;
            if options.family == Family::Vit {
                let expected = match name {
                    "deit_tiny" => VitConfig::uniform(192, 12, 3),
                    "deit_small" => VitConfig::deit_small(),
                    _ => VitConfig::uniform(768, 12, 12),
                };
                assert_eq!(options.vit(3, 1000)?, VitConfig { drop_path: 0.1, ..expected });
                continue;
            }
            let (expected, drop_path) = match name {
                "swin_tiny" => (SwinConfig::tiny(), 0.2),
                "swin_small" => (SwinConfig::small(), 0.3),
                _ => (SwinConfig::base(), 0.5),
            };
            assert_eq!(options.swin(3, 1000)?, SwinConfig { drop_path, ..expected });
        }
        Ok(())
    }
}
