//! Networks from elsewhere: searched without touching their code, extracted into our ViT.

mod support;
mod wrapped;
