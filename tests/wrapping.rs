//! Wrapped networks of other libraries: self-check, search, extraction into a `VitConfig`.

mod support;
mod wrapped;
