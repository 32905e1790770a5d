//! Weights without a graph: a text tower's tensors, known by their names.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};

mod account;
mod activation;
pub mod config;
pub mod image;
pub mod image_config;
pub mod naming;

use crate::ir::{
    Activation, Layer, LayerNorm, Linear, Matrix, Outputs, Pooled, TextModel, Weight, highest_end,
};
use crate::tensors::Tensors;
use config::Config;
use naming::Location;

/// Sizes and kind of a text tower, read from headers alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Rows of the token embedding.
    pub vocabulary: usize,
    /// Rows of the position embedding.
    pub context: usize,
    /// Width of the hidden states.
    pub width: usize,
    /// Width between a layer's MLP matrices.
    pub mlp: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads in each.
    pub heads: usize,
    /// Rows of the projection.
    pub projected: Option<usize>,
    /// The MLP's activation.
    pub activation: Activation,
    /// The token to pool at; `None`: the highest id.
    pub end_token: Option<u32>,
    /// Added to the variance in each layer norm.
    pub epsilon: f32,
    /// Whether the pooled output is the projection, as the model's own class gives it out.
    pub projects: bool,
    /// Whether the model's own class divides the pooled output by its length.
    pub normalizes: bool,
    /// How the weights are stored: `F32`, `F16`, `BF16`.
    pub stored_as: String,
}

/// Channels of a head in every published CLIP text tower.
const HEAD: usize = 64;

/// What is known of a tower besides its tensors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'c> {
    /// The configuration beside them.
    pub config: Option<&'c Config>,
    /// The activation that the user says it has.
    pub activation: Option<Activation>,
}

/// Works out sizes and kind of the tower at `location`: by the configuration where there is one, else by the shapes and
/// by what the published models have in common. The notes say what was assumed, and what of the tower is not read.
///
/// # Errors
/// When tensors are missing or contradict each other or the configuration: all that are missing are counted, the first
/// few named. When there are tensors that another kind of tower has.
pub fn shape(tensors: &Tensors, location: &Location, known: Known<'_>) -> Result<(Shape, Vec<String>)> {
    let config = known.config;
    let file = tensors.path().display();
    let table = location.tokens();
    let Some(&[vocabulary, width]) = tensors.shape(&table) else {
        bail!("{file}: {table}: expected a matrix, found the shape {:?}", tensors.shape(&table));
    };
    let context = match tensors.shape(&location.positions()) {
        Some(&[context, _]) => context,
        Some(other) => bail!("{file}: {}: expected a matrix, found {other:?}", location.positions()),
        None => bail!("{file}: {} is missing: not the whole text encoder is here", location.positions()),
    };
    let mut notes = Vec::new();
    let in_file = count_layers(tensors, location)?;
    // transformers takes the first layers where its configuration says fewer than the file has; OpenCLIP refuses that.
    let layers = match config {
        Some(config) if !config.is_open_clip && (1..in_file).contains(&config.layers) => {
            notes.push(format!(
                "{}: num_hidden_layers is {}, so the first {} of the file's {in_file} layers are taken, as transformers does",
                config.path.display(),
                config.layers,
                config.layers
            ));
            config.layers
        }
        _ => in_file,
    };
    let mlp = match tensors.shape(&format!("{}.weight", location.layer(0).mlp[0])) {
        Some(&[mlp, _]) => mlp,
        _ => bail!(
            "{file}: {}.weight is missing: not the whole text encoder is here",
            location.layer(0).mlp[0]
        ),
    };
    let projection = projection(tensors, location)?;
    let heads = match config {
        Some(config) => config.heads,
        None if width.is_multiple_of(HEAD) => width / HEAD,
        None => bail!(
            "{file}: how many heads a width of {width} is shared by can't be told, since it is no multiple of {HEAD}: put the \
             model's config.json beside the file"
        ),
    };
    ensure!(
        heads > 0 && width.is_multiple_of(heads),
        "{file}: a width of {width} can't be shared by {heads} heads; the config.json beside it is another model's"
    );
    let projected = projection.as_ref().map(|(_, rows, _)| *rows);
    let (activation, assumed) = match (known.activation, config) {
        (Some(said), Some(config)) if said != config.activation => {
            let path = config.path.display();
            (
                said,
                Some(format!("{path}: it says {}; {said} is taken since --act says so", config.activation)),
            )
        }
        (Some(said), _) => (said, None),
        (None, Some(config)) => (config.activation, None),
        (None, None) => {
            let facts = activation::Facts { layers: in_file, width, context, projected };
            activation::of_published(tensors, location, &facts)
        }
    };
    notes.extend(assumed);
    let architecture = config.and_then(|config| config.architecture.as_deref());
    let shape = Shape {
        vocabulary,
        context,
        width,
        mlp,
        layers,
        heads,
        projected,
        activation,
        end_token: config.and_then(|config| config.end_token),
        epsilon: config.map_or(1e-5, |config| config.epsilon),
        projects: match architecture {
            Some("CLIPTextModel") => false,
            Some("CLIPTextModelWithProjection" | "CLIPModel") => true,
            _ => projection.is_some(),
        },
        normalizes: architecture == Some("CLIPModel"),
        stored_as: tensors.stored_as(&table).unwrap_or_default(),
    };
    if let Some(config) = config {
        contradiction(&shape, config, tensors, projection.is_some())?;
    }
    let mut needed = needed(location, &shape);
    if let Some(extended) = location.extended_positions().filter(|name| tensors.contains(name)) {
        needed.push((extended, vec![context, width]));
    }
    check_names(tensors, &needed, "text")?;
    let read = needed.into_iter().map(|(name, _)| name).chain(projection.map(|(name, ..)| name)).collect();
    notes.extend(account::unread(tensors, location, &read, layers)?);
    Ok((shape, notes))
}

/// How many layers there are; a gap between them is an error.
fn count_layers(tensors: &Tensors, location: &Location) -> Result<usize> {
    let indices: BTreeSet<usize> = tensors.names().filter_map(|name| location.layer_of(name)).collect();
    let first = location.layer_prefix(0);
    let stem = first.trim_end_matches("0.");
    let file = tensors.path().display();
    let Some(&last) = indices.last() else {
        bail!("{file}: no layers ({stem}0…) beside {}: not a whole text encoder", location.tokens());
    };
    ensure!(
        last + 1 == indices.len(),
        "{file}: of the layers {stem}0 to {last} only {} are there: a part of the file is missing",
        indices.len()
    );
    Ok(indices.len())
}

/// Name, rows and orientation of the projection.
fn projection(tensors: &Tensors, location: &Location) -> Result<Option<(String, usize, bool)>> {
    for (name, by_input) in location.projections() {
        match tensors.shape(&name) {
            Some(&[rows, cols]) => return Ok(Some((name, if by_input { cols } else { rows }, by_input))),
            Some(other) => bail!("{}: {name}: expected a matrix, found {other:?}", tensors.path().display()),
            None => {}
        }
    }
    Ok(None)
}

fn contradiction(shape: &Shape, config: &Config, tensors: &Tensors, projection: bool) -> Result<()> {
    let mut pairs = vec![
        ("vocab_size", config.vocabulary, shape.vocabulary),
        ("hidden_size", config.width, shape.width),
        ("intermediate_size", config.mlp, shape.mlp),
        ("num_hidden_layers", config.layers, shape.layers),
        ("max_position_embeddings", config.context, shape.context),
    ];
    if let (true, Some(projected)) = (shape.projects, shape.projected) {
        pairs.push(("projection_dim", config.projected, projected));
    }
    for (field, said, found) in pairs {
        ensure!(
            said == found,
            "{}: {field} is {said}, but {} has {found}: they are not of the same model",
            config.path.display(),
            tensors.path().display()
        );
    }
    ensure!(
        projection || !shape.projects,
        "{}: a {} has a text_projection.weight, but there is none in {}",
        config.path.display(),
        config.architecture.as_deref().unwrap_or_default(),
        tensors.path().display()
    );
    Ok(())
}

/// Every tensor of a whole tower, with its shape.
fn needed(location: &Location, shape: &Shape) -> Vec<(String, Vec<usize>)> {
    let Shape { vocabulary, context, width, mlp, layers, .. } = *shape;
    let mut all =
        vec![(location.tokens(), vec![vocabulary, width]), (location.positions(), vec![context, width])];
    (0..layers).for_each(|index| all.extend(layer_tensors(location, index, width, mlp)));
    affine(&mut all, &location.final_norm(), '.', vec![width]);
    all
}

/// Adds a weight of that shape and its bias.
fn affine(all: &mut Vec<(String, Vec<usize>)>, name: &str, joint: char, weight: Vec<usize>) {
    all.push((format!("{name}{joint}bias"), vec![weight[0]]));
    all.push((format!("{name}{joint}weight"), weight));
}

/// Every tensor of a layer, with its shape.
fn layer_tensors(location: &Location, index: usize, width: usize, mlp: usize) -> Vec<(String, Vec<usize>)> {
    let mut all = vec![];
    let names = location.layer(index);
    let rows = 3 * width / names.attention_in.len();
    for name in &names.attention_in {
        affine(&mut all, name, names.attention_joint, vec![rows, width]);
    }
    affine(&mut all, &names.attention_out, '.', vec![width, width]);
    affine(&mut all, &names.mlp[0], '.', vec![mlp, width]);
    affine(&mut all, &names.mlp[1], '.', vec![width, mlp]);
    names.norms.iter().for_each(|norm| affine(&mut all, norm, '.', vec![width]));
    all
}

/// Whether all of an encoder's tensors are there, in their shapes; `what` it is the encoder of.
fn check_names(tensors: &Tensors, needed: &[(String, Vec<usize>)], what: &str) -> Result<()> {
    /// How many missing names an error lists.
    const LISTED: usize = 4;
    let file = tensors.path().display();
    let mut missing = Vec::new();
    for (name, expected) in needed {
        match tensors.shape(name) {
            None => missing.push(name.as_str()),
            Some(found) if found != expected => {
                bail!("{file}: {name}: expected the shape {expected:?}, found {found:?}")
            }
            Some(_) => {}
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let more = missing.len().saturating_sub(LISTED);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    missing.truncate(LISTED);
    bail!("{file}: not a whole {what} encoder: missing are {}{tail}", missing.join(", "))
}

impl Shape {
    /// The outputs that the model's own class has: the normed last hidden states, and the pooled row or its projection.
    pub fn outputs(&self) -> Outputs {
        Outputs {
            hidden_layer: self.layers,
            hidden_norm: true,
            pooled: if self.projects { Pooled::Projected } else { Pooled::EndToken },
            normalized: self.normalizes,
            end_token: self.end_token.unwrap_or(highest_end(self.vocabulary)),
        }
    }
}

/// Reads the tower at `location`, which has that [`shape`]: only the layers, and the projection, that the outputs need.
///
/// # Errors
/// When a tensor can't be read as f32.
pub fn load(tensors: &Tensors, location: &Location, shape: &Shape, outputs: &Outputs) -> Result<TextModel> {
    let kind = LayerKind {
        channels: shape.width / shape.heads,
        activation: shape.activation,
        epsilon: shape.epsilon,
    };
    let layers = 0..outputs.layers(shape.layers);
    let layers = layers.map(|index| layer(tensors, location, index, kind)).collect::<Result<_>>()?;
    let projection = match projection(tensors, location)? {
        Some(_) if outputs.pooled != Pooled::Projected => None,
        Some((name, _, by_input)) => {
            let matrix = tensors.matrix(&name)?;
            Some(if by_input { transposed(&matrix) } else { matrix })
        }
        None => None,
    };
    Ok(TextModel {
        token_embedding: tensors.matrix(&location.tokens())?,
        position_embedding: positions(tensors, location)?,
        heads: shape.heads,
        layers,
        final_norm: norm(tensors, &location.final_norm(), shape.epsilon)?,
        projection,
    })
}

/// What all layers of a tower have in common besides their tensors' shapes.
#[derive(Clone, Copy)]
struct LayerKind {
    /// Channels of a head.
    channels: usize,
    activation: Activation,
    epsilon: f32,
}

/// Reads a layer whose tensors were found to be there.
fn layer(tensors: &Tensors, location: &Location, index: usize, kind: LayerKind) -> Result<Layer> {
    let linear = |name: &str| -> Result<Linear> {
        Ok(Linear {
            weight: Weight::F32(tensors.matrix(&format!("{name}.weight"))?),
            bias: tensors.floats(&format!("{name}.bias"))?,
        })
    };
    let norm = |name: &str| norm(tensors, name, kind.epsilon);
    let names = location.layer(index);
    let [query, key, value] = match names.attention_in.as_slice() {
        [query, key, value] => [linear(query)?, linear(key)?, linear(value)?],
        fused => {
            let joint = names.attention_joint;
            let weight = tensors.matrix(&format!("{}{joint}weight", fused[0]))?;
            let bias = tensors.floats(&format!("{}{joint}bias", fused[0]))?;
            thirds(&weight, &bias)
        }
    };
    Ok(Layer {
        norm1: norm(&names.norms[0])?,
        query,
        key,
        value,
        // 1/√d.
        scale: (1.0 / (kind.channels as f64).sqrt()) as f32,
        out: linear(&names.attention_out)?,
        norm2: norm(&names.norms[1])?,
        fc1: linear(&names.mlp[0])?,
        activation: kind.activation,
        fc2: linear(&names.mlp[1])?,
    })
}

fn norm(tensors: &Tensors, name: &str, epsilon: f32) -> Result<LayerNorm> {
    Ok(LayerNorm {
        gain: tensors.floats(&format!("{name}.weight"))?,
        bias: tensors.floats(&format!("{name}.bias"))?,
        epsilon,
    })
}

/// The position embedding. Long-CLIP in its original names holds two: the one that it began from, of which it keeps the
/// first rows as they were, and the one that was trained, of all others.
fn positions(tensors: &Tensors, location: &Location) -> Result<Matrix> {
    /// Rows that Long-CLIP keeps ([its paper](https://arxiv.org/abs/2403.15378), section 3.2).
    const KEPT: usize = 20;
    let mut positions = tensors.matrix(&location.positions())?;
    if let Some(extended) = location.extended_positions().filter(|name| tensors.contains(name)) {
        let extended = tensors.matrix(&extended)?;
        let kept = (KEPT * positions.cols).min(positions.values.len());
        positions.values[kept..].copy_from_slice(&extended.values[kept..]);
    }
    Ok(positions)
}

/// A fused query, key and value, one after the other.
fn thirds(weight: &Matrix, bias: &[f32]) -> [Linear; 3] {
    [0, 1, 2].map(|third| {
        let rows = weight.rows / 3;
        let values = weight.values[third * rows * weight.cols..][..rows * weight.cols].to_vec();
        Linear {
            weight: Weight::F32(Matrix { rows, cols: weight.cols, values }),
            bias: bias[third * rows..][..rows].to_vec(),
        }
    })
}

fn transposed(matrix: &Matrix) -> Matrix {
    let (rows, cols) = (matrix.cols, matrix.rows);
    let value = |at: usize| matrix.values[at % cols * matrix.cols + at / cols];
    Matrix { rows, cols, values: (0..rows * cols).map(value).collect() }
}
