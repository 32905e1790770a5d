//! The whole tower: embeddings, layers, final norm, projection.

use crate::Options;
use crate::arithmetic::{exact_sum, inverse_sqrt};
use crate::layer::add_layer;
use crate::maker::{LayerNorm, Maker, Scales};
use crate::options::Names;
use crate::tensor::{PREFIX, Tensor};

/// A synthetic text tower.
#[derive(Clone, Debug)]
pub struct Tower {
    /// What it was made of.
    pub options: Options,
    /// Every float tensor, in order of name.
    pub tensors: Vec<Tensor>,
}

impl Tower {
    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        let place = self.tensors.binary_search_by(|tensor| tensor.name.as_str().cmp(name)).ok()?;
        Some(&self.tensors[place])
    }
}

/// The published tokenizer's start token, for which the massive channels are built.
const START_TOKEN: usize = 49406;

/// Makes the tower that `options` describe.
///
/// # Panics
/// When [`Options::check`] refuses them.
pub fn generate(options: &Options) -> Tower {
    if let Err(error) = options.check() {
        panic!("{error}");
    }
    let mut maker = Maker::new(options);
    let start = add_embeddings(&mut maker);
    for index in 0..options.layers {
        add_layer(&mut maker, index, &start);
    }
    add_head(&mut maker);

    let mut tensors = maker.into_tensors();
    if options.names == Names::V5 && options.projection.is_none() {
        for tensor in &mut tensors {
            if let Some(bare) = tensor.name.strip_prefix(PREFIX) {
                tensor.name = bare.to_owned();
            }
        }
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Tower { options: options.clone(), tensors }
}

/// Adds both embeddings; returns the direction, of unit length, in which the start token stands out.
fn add_embeddings(maker: &mut Maker) -> Vec<f64> {
    let Options { width, vocab, positions, .. } = *maker.options;
    let tokens_name = format!("{PREFIX}embeddings.token_embedding.weight");
    let positions_name = format!("{PREFIX}embeddings.position_embedding.weight");
    let tokens = maker.matrix(&tokens_name, [vocab, width], Scales { std: 0.02, rows: 0.25, columns: 0.3 });
    let places =
        maker.matrix(&positions_name, [positions, width], Scales { std: 0.01, rows: 0.2, columns: 0.3 });

    let mut place_values = places.values();
    for value in &mut place_values[..width] {
        *value *= 5.0; // the start token's place is special, as in trained towers
    }
    let start_token = START_TOKEN.min(vocab - 2);
    let mut start: Vec<f64> = place_values.iter().zip(tokens.row(start_token)).map(|(p, t)| p + t).collect();
    let mean = exact_sum(start.iter().copied()) / width as f64;
    start.iter_mut().for_each(|x| *x -= mean);
    let length = exact_sum(start.iter().map(|x| x * x)).sqrt();
    start.iter_mut().for_each(|x| *x /= length);

    maker.store_matrix(tokens_name, &tokens);
    maker.store(positions_name, vec![positions, width], &place_values);
    start
}

/// Adds the final norm and, where asked for, the projection.
fn add_head(maker: &mut Maker) {
    let name = format!("{PREFIX}final_layer_norm");
    let statistics = LayerNorm { base: 1.0, sigma: 0.18, bias_std: 0.08, tiny: 0.004, massive_gain: 0.35 };
    let mut norm = maker.layer_norm(&name, &statistics);
    norm.gain[maker.outliers.negative] = 1.60;
    norm.gain[maker.outliers.positive] = 1.75;
    maker.store_affine(&name, &norm);

    if let Some(outputs) = maker.options.projection {
        let name = "text_projection.weight";
        let width = maker.options.width;
        let scales = Scales { std: inverse_sqrt(width), rows: 0.25, columns: 0.20 };
        let projection = maker.matrix(name, [outputs, width], scales);
        maker.store_matrix(name.to_owned(), &projection);
    }
}
