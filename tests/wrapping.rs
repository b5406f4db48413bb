//! Wrapped networks of other libraries: self-check, search, extraction into a `VitConfig`.

mod support;
mod wrapped;

/// docs/wrapping.md lists every method of `Architecture`.
#[test]
fn table_of_the_documentation_has_every_method_of_an_architecture() {
    let (source, page) =
        (include_str!("../src/models/mod.rs"), include_str!("../docs/wrapping.md"));
    let from = source.find("pub trait Architecture").unwrap_or_default();
    let body = source[from..].split("\n}\n").next().unwrap_or_default();
    let methods = body.lines().filter_map(|line| line.strip_prefix("    fn ")?.split('(').next());
    let methods: Vec<&str> = methods.collect();
    assert!(methods.len() > 10, "{methods:?}");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    for method in methods {
        let quoted = format!("`{method}`");
        let found =
            rows.iter().any(|row| row.split('|').nth(1).is_some_and(|own| own.contains(&quoted)));
        assert!(found, "{method} is in no row of docs/wrapping.md");
    }
}
