//! The towers are the published Python generator's, byte for byte.
//!
//! Every hash is of a file that `make_synthetic_clip.py` (or `fill_onnx.py`, from its full-size file) wrote with the
//! options that stand beside it.

use cliptext_synthetic::{Activation, Dtype, Names, Options, checkpoint, generate, onnx};
use sha2::{Digest, Sha256};

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn expect(options: Options, weights: &str, config: &str) {
    let tower = generate(&options);
    assert_eq!(sha256(&checkpoint::safetensors(&tower)), weights);
    assert_eq!(sha256(checkpoint::config(&options).as_bytes()), config);
}

fn width_16() -> Options {
    Options { width: 16, layers: 2, heads: 2, mlp: 64, ..Options::default() }
}

fn width_64() -> Options {
    Options { width: 64, layers: 2, heads: 4, mlp: 256, ..Options::default() }
}

#[test]
fn zoo_sd() {
    expect(
        Options { seed: 13, ..width_16() },
        "1c38ad8368425c2aa4ea8dfe3d4458f4e08326d2e1ebcb800c6fa4ea6d70573d",
        "a2381366e178f43e46b70094a9139d44038a205b7cd294b4865fb473cf1d7710",
    );
}

#[test]
fn zoo_proj() {
    expect(
        Options { seed: 14, activation: Activation::Gelu, projection: Some(8), ..width_16() },
        "397249802b1ba726de70b77adf7563e5effd1c08132a565f425d7075f1e6a596",
        "8d16132696d7225d89d5864237ab2719d76817f2b8a4d52381610a5d86a45d60",
    );
}

#[test]
fn tiny_sd() {
    expect(
        Options { seed: 11, position_ids: true, ..width_64() },
        "d324e37b6e1363b2f1d137fef0da0d49353ee36305d4bdeda17419c8a322887a",
        "a0d53acacfcb2131e241da3761f36b325ef5a2293d94024295b969371d153b62",
    );
}

fn tiny_proj_options() -> Options {
    Options { seed: 12, layers: 3, activation: Activation::Gelu, projection: Some(32), ..width_64() }
}

#[test]
fn tiny_proj() {
    expect(
        tiny_proj_options(),
        "ca9bd4519bc48de8bdb44c259c9a630a999199ca3ff0d74a06e711b10ef95ac6",
        "d693f4e490fbda0ff4b727c533c6dca9c66742dc7459fecc95f6ec4804494cd9",
    );
}

#[test]
fn tiny_proj_fp16() {
    expect(
        Options { dtype: Dtype::F16, ..tiny_proj_options() },
        "b5e3f66a3ec182d20256ea589d9c2ee947b0e61365ecdb41735cd84092ab2462",
        "a44e578a600e86a482a4d2595258ee353d10b73837024f3243f70063f089fe64",
    );
}

/// `--width 768 --layers 1 --seed 3 --vocab 999 --names v5 --massive 40.5 --positions 33 --mlp 3001
/// --eos-token-id 49407 --bos-token-id 49406`
#[test]
fn one_full_width_layer() {
    expect(
        Options {
            seed: 3,
            layers: 1,
            vocab: 999,
            names: Names::V5,
            massive: 40.5,
            positions: 33,
            mlp: 3001,
            bos_token_id: 49406,
            eos_token_id: 49407,
            ..Options::default()
        },
        "d428c3e6660a28e5454280231b94b0c3b9fea1ea3bd474f3ef3974bd6e71d1f5",
        "f41f21310a0f570ec01b99ff214c1a584ab5d3c88acfb6920f4662b08c12385b",
    );
}

/// `--width 45 --heads 5 --layers 5 --mlp 1031 --vocab 301 --seed 7 --dtype f16 --position-ids --names v5`
#[test]
fn odd_sizes() {
    expect(
        Options {
            seed: 7,
            width: 45,
            heads: 5,
            layers: 5,
            mlp: 1031,
            vocab: 301,
            dtype: Dtype::F16,
            position_ids: true,
            names: Names::V5,
            ..Options::default()
        },
        "ed96472d82a4170ec3feee5d84be7b6476de574b9c603b06ad721b0886789ba5",
        "b64d9b7219d8012d542bee9fdfdb8ea6bf2c9242dd19dcc8910fcabbd9444a30",
    );
}

/// `--width 1280 --heads 20 --layers 2 --mlp 5120 --vocab 1000 --seed 123456789012 --act gelu --projection-dim 1280
/// --names v5`: SDXL's second encoder, cut short.
#[test]
fn wide_with_projection() {
    expect(
        Options {
            seed: 123_456_789_012,
            width: 1280,
            heads: 20,
            layers: 2,
            mlp: 5120,
            vocab: 1000,
            activation: Activation::Gelu,
            projection: Some(1280),
            names: Names::V5,
            ..Options::default()
        },
        "84cbe45148a53451c46bbfee146d665ba9f2a76a76447d98405dd2297cd8ee23",
        "f97f33424331ec5bbc199eac11b31ccc00c530b173a6780782ed2ad8503d413c",
    );
}

/// `--width 1024 --heads 16 --layers 2 --mlp 4096 --vocab 600 --seed 5 --act gelu`: Stable Diffusion 2's, cut short.
#[test]
fn width_1024() {
    expect(
        Options {
            seed: 5,
            width: 1024,
            heads: 16,
            layers: 2,
            mlp: 4096,
            vocab: 600,
            activation: Activation::Gelu,
            ..Options::default()
        },
        "6c86f6ffac6e385be065bcbe0b9de631c32d4b599760127275cbc2d087b7f460",
        "60ad39a67176802396042c791fb85e5a0b7c9cd6ebd739401661759e4f88ad5d",
    );
}

/// One test, one model after the other: each takes half a gigabyte.
#[test]
fn full_size() {
    let options = Options { position_ids: true, ..Options::default() };
    expect(
        options.clone(),
        "e06d3fcd36a47e04d8a331ed4db1c94526abacb72dbe44d389675d5bc8bba909",
        "6923874ea9ff5d5e6ab711acd4490433b6914c8035b9f1eb42b03573e3ff4635",
    );
    for (axes, export) in [
        (onnx::Axes::Static, "639965b3df010ba1c5f3d81dc1f077ce04e78ef4114542e441820a13ee03b6ab"),
        (onnx::Axes::Dynamic, "38df1fe3bfee8386c4949708b69b8a1af3193824e88a1271aac1337394e0652f"),
    ] {
        let bytes = onnx::encode(generate(&options), axes).unwrap();
        assert_eq!(sha256(&bytes), export, "{axes:?}");
    }
}
