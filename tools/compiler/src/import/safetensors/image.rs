//! An image tower's tensors, known by their names.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};

use super::image_config::ImageConfig;
use super::naming::{Location, Naming};
use super::{LayerKind, affine, check_names, count_layers, layer, layer_tensors, norm, transposed};
use crate::colours::{self, COLOURS, over_pixels};
use crate::ir::{Activation, ImageModel, Linear, Weight};
use crate::tensors::Tensors;

/// Channels of a head where no configuration tells it: those of OpenAI's and of OpenCLIP's smaller towers.
const HEAD: usize = 64;

/// The names that are an image tower's own.
struct Names {
    class: String,
    patches: String,
    positions: String,
    pre_norm: String,
    post_norm: String,
    /// And whether the matrix has a row for each input.
    projection: (String, bool),
}

impl Names {
    fn of(location: &Location) -> Self {
        let name = |rest: &str| location.name(rest);
        match location.naming {
            Naming::HuggingFace => {
                // The projection is beside the vision model, not in it.
                let outer = location.prefix.strip_suffix("vision_model.").unwrap_or(&location.prefix);
                Names {
                    class: name("embeddings.class_embedding"),
                    patches: name("embeddings.patch_embedding.weight"),
                    positions: name("embeddings.position_embedding.weight"),
                    // So transformers calls it.
                    pre_norm: name("pre_layrnorm"),
                    post_norm: name("post_layernorm"),
                    projection: (format!("{outer}visual_projection.weight"), false),
                }
            }
            Naming::OpenClip => Names {
                class: name("class_embedding"),
                patches: name("conv1.weight"),
                positions: name("positional_embedding"),
                pre_norm: name("ln_pre"),
                post_norm: name("ln_post"),
                projection: (name("proj"), true),
            },
        }
    }
}

/// The image tower among `tensors`.
///
/// # Errors
/// When there is none, or several.
pub fn locate(tensors: &Tensors) -> Result<Location> {
    const HUGGING_FACE: &str = "embeddings.patch_embedding.weight";
    const OPEN_CLIP: &str = "conv1.weight";
    let file = tensors.path().display();
    let prefixes = tensors.names().filter_map(|name| {
        let hugging_face = name.strip_suffix(HUGGING_FACE).map(|prefix| (prefix, Naming::HuggingFace));
        let (prefix, naming) =
            hugging_face.or_else(|| name.strip_suffix(OPEN_CLIP).map(|prefix| (prefix, Naming::OpenClip)))?;
        // A ResNet's blocks have such a convolution too.
        let location = Location { prefix: prefix.to_owned(), naming };
        let is_one = tensors.contains(&Names::of(&location).class);
        (is_one && (prefix.is_empty() || prefix.ends_with('.'))).then_some(location)
    });
    let found: Vec<Location> = prefixes.collect();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] if tensors.names().any(|name| name.ends_with("visual.attnpool.positional_embedding")) => {
            bail!("{file}: its image encoder is a ResNet: cliptext compiles vision transformers (ViT)")
        }
        [] => bail!(
            "{file}: no image encoder: no tensor ends in {HUGGING_FACE}, or in {OPEN_CLIP} beside a class_embedding: give a whole \
             CLIP, or its vision model"
        ),
        several => {
            let names: Vec<&str> = several.iter().map(|location| location.prefix.as_str()).collect();
            bail!("{file}: several image encoders are in it ({}): give a file with one", names.join(", "))
        }
    }
}

/// Reads the image tower at `location`, by the configuration where there is one. The notes say what was assumed.
///
/// # Errors
/// When tensors are missing, contradict each other or the configuration, or make it another tower than CLIP's.
pub fn load(
    tensors: &Tensors,
    location: &Location,
    config: Option<&ImageConfig>,
    activation: Option<Activation>,
) -> Result<(ImageModel, Vec<String>)> {
    let file = tensors.path().display();
    let names = Names::of(location);
    let mut notes = Vec::new();
    let (width, patch) = match tensors.shape(&names.patches) {
        Some(&[width, COLOURS, patch, other]) if patch == other && patch > 0 => (width, patch),
        other => bail!("{file}: {}: expected [width, 3, patch, patch], found {other:?}", names.patches),
    };
    let tokens = match tensors.shape(&names.positions) {
        Some(&[tokens, columns]) if columns == width => tokens,
        other => bail!("{file}: {}: expected [tokens, {width}], found {other:?}", names.positions),
    };
    let across = tokens.saturating_sub(1).isqrt();
    ensure!(
        across > 0 && across * across + 1 == tokens,
        "{file}: {}: {tokens} rows are not the class token's and those of a square image's patches",
        names.positions
    );
    let side = across * patch;
    let layers = count_layers(tensors, location)?;
    if let Some(config) = config {
        let found = [
            ("image_size", config.side, side),
            ("patch_size", config.patch, patch),
            ("hidden_size", config.width, width),
            ("num_hidden_layers", config.layers, layers),
        ];
        for (field, said, found) in found {
            let path = config.path.display();
            ensure!(
                said == found,
                "{path}: the image encoder's {field} is {said}, but {file} has {found}: they are not of the same model"
            );
        }
    }
    let heads = match config {
        Some(config) => config.heads,
        None => {
            notes.push(format!(
                "{file}: no configuration says how many heads the image encoder has: heads of {HEAD} channels are assumed, as in \
                 all of OpenAI's; if they are not, put the model's config.json or open_clip_config.json beside the file"
            ));
            width / HEAD
        }
    };
    ensure!(
        heads > 0 && width.is_multiple_of(heads),
        "{file}: a width of {width} can't be shared by {heads} heads"
    );
    let act = match (activation, config) {
        (Some(said), config) => {
            if let Some(config) = config.filter(|config| config.activation != said) {
                notes.push(format!(
                    "{}: it says {}; {said} is taken since --act says so",
                    config.path.display(),
                    config.activation
                ));
            }
            said
        }
        (None, Some(config)) => config.activation,
        (None, None) => {
            let assumed = Activation::QuickGelu;
            notes.push(format!(
                "{file}: no configuration says which activation the image encoder has: {assumed} is assumed, as in OpenAI's \
                 models; if it is another, say --act gelu"
            ));
            assumed
        }
    };
    let epsilon = config.map_or(1e-5, |config| config.epsilon);
    let (mean, deviation) = config.and_then(|config| config.colours).unwrap_or_else(|| {
        notes.push(format!(
            "{file}: no preprocessor_config.json says how pixels are normalised: mean and deviation of OpenAI's CLIP are assumed"
        ));
        colours::OPENAI
    });

    let mlp = match tensors.shape(&format!("{}.weight", location.layer(0).mlp[0])) {
        Some(&[mlp, _]) => mlp,
        _ => bail!(
            "{file}: {}.weight is missing: not the whole image encoder is here",
            location.layer(0).mlp[0]
        ),
    };
    let mut needed = vec![
        (names.class.clone(), vec![width]),
        (names.patches.clone(), vec![width, COLOURS, patch, patch]),
        (names.positions.clone(), vec![tokens, width]),
    ];
    (0..layers).for_each(|index| needed.extend(layer_tensors(location, index, width, mlp)));
    affine(&mut needed, &names.pre_norm, '.', vec![width]);
    affine(&mut needed, &names.post_norm, '.', vec![width]);
    check_names(tensors, &needed, "image")?;
    let mut read: BTreeSet<String> = needed.into_iter().map(|(name, _)| name).collect();
    let (name, by_input) = &names.projection;
    let projection = match tensors.contains(name) {
        true => {
            let matrix = tensors.matrix(name)?;
            read.insert(name.clone());
            let matrix = if *by_input { transposed(&matrix) } else { matrix };
            ensure!(matrix.cols == width, "{file}: {name}: expected {width} inputs, found {}", matrix.cols);
            Some(matrix)
        }
        false => None,
    };
    unread(tensors, location, &read)?;

    let kind = LayerKind { channels: width / heads, activation: act, epsilon };
    let layers = (0..layers).map(|index| layer(tensors, location, index, kind)).collect::<Result<_>>()?;
    let class = tensors.floats(&names.class)?;
    let mut positions = tensors.matrix(&names.positions)?;
    positions.values[..width].iter_mut().zip(&class).for_each(|(x, class)| *x += class);
    let convolution = tensors.floats(&names.patches)?;
    let patch_embedding = over_pixels(&convolution, (width, patch), (mean, deviation), &mut positions);
    let model = ImageModel {
        side,
        patch,
        patch_embedding: Linear { weight: Weight::F32(patch_embedding), bias: vec![0.0; width] },
        positions,
        pre_norm: norm(tensors, &names.pre_norm, epsilon)?,
        heads,
        layers,
        post_norm: norm(tensors, &names.post_norm, epsilon)?,
        projection,
    };
    Ok((model, notes))
}

/// `exp` of the logit scale beside the tower, which CLIP stores as a logarithm; `None` where there is none.
///
/// # Errors
/// When it is no number.
pub fn logit_scale(tensors: &Tensors, location: &Location) -> Result<Option<f32>> {
    let prefix = location.prefix.as_str();
    let outer =
        ["vision_model.", "visual."].iter().find_map(|inner| prefix.strip_suffix(inner)).unwrap_or(prefix);
    let name = format!("{outer}logit_scale");
    match tensors.contains(&name) {
        true => Ok(Some(f64::from(tensors.number(&name)?).exp() as f32)),
        false => Ok(None),
    }
}

/// Refuses tensors of the tower that were not read: they would change what comes out.
fn unread(tensors: &Tensors, location: &Location, read: &BTreeSet<String>) -> Result<()> {
    let is_own = |name: &&str| {
        let part = name.strip_prefix(&location.prefix);
        part.is_some_and(|part| {
            let other =
                ["text_model.", "text_projection", "logit_", "token_embedding", "transformer.resblocks"];
            // Where the tower has no prefix of its own, the text's stands beside it.
            let beside = location.prefix.is_empty() && other.iter().any(|other| part.starts_with(other));
            !part.ends_with("position_ids") && !beside
        })
    };
    let mut left = tensors.names().filter(|name| !read.contains(*name)).filter(is_own);
    match left.next() {
        None => Ok(()),
        Some(name) => bail!(
            "{}: it is another image encoder than CLIP's: cliptext does not know the tensor {name}{}",
            tensors.path().display(),
            match left.count() {
                0 => String::new(),
                more => format!(", and {more} more"),
            }
        ),
    }
}
