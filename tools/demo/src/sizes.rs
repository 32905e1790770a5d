//! The text towers that people have, by their sizes.

use cliptext_synthetic::{Activation, Options};

/// OpenAI's ViT-B/32 and ViT-B/16, whose text towers are alike.
pub fn vit_b() -> Options {
    Options { width: 512, layers: 12, heads: 8, mlp: 2048, projection: Some(512), ..Options::default() }
}

/// OpenAI's ViT-L/14: Stable Diffusion 1, the first of Stable Diffusion XL, with the projection of zero-shot models.
pub fn vit_l() -> Options {
    Options { projection: Some(768), ..Options::default() }
}

/// OpenCLIP's ViT-H/14: Stable Diffusion 2.
pub fn vit_h() -> Options {
    Options {
        width: 1024,
        layers: 24,
        heads: 16,
        mlp: 4096,
        activation: Activation::Gelu,
        projection: Some(1024),
        ..Options::default()
    }
}

/// OpenCLIP's ViT-bigG/14: the second of Stable Diffusion XL.
pub fn vit_big_g() -> Options {
    Options {
        width: 1280,
        layers: 32,
        heads: 20,
        mlp: 5120,
        activation: Activation::Gelu,
        projection: Some(1280),
        ..Options::default()
    }
}

/// Long-CLIP's ViT-L/14: 248 tokens.
pub fn long_clip() -> Options {
    Options { positions: 248, ..vit_l() }
}
