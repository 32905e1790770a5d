//! The inputs and axes of an image encoder: one input, the pixels, of a fixed batch and side.

use anyhow::{Context, Result, bail, ensure};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto};

use super::inputs::{
    MOST_PROMPTS, constants, dims, is_pixels, keep_outputs_without, only_inputs, position_rows, set_shape,
    tensor_type,
};
use crate::colours::COLOURS;
use crate::ir::Modality;

/// Most pixels of a side: more than any image encoder's.
const MOST_SIDE: usize = 4096;

/// Fixes the axes, and drops what depends on other inputs (the text tower of a whole CLIP). The batch is 1 unless the file fixes
/// another; the side is the file's, else the one that is given, else that of the position table.
pub fn fix(model: &mut ModelProto, side: Option<usize>) -> Result<()> {
    let graph = only_inputs(model)?;
    let pixels = find(graph)?;
    let (kept, foreign): (Vec<_>, Vec<_>) =
        std::mem::take(&mut graph.input).into_iter().partition(|input| input.name == pixels);
    let mut input = kept.into_iter().next().context("the pixels' input is gone")?;
    let shape = dims(&input).unwrap_or(vec![None; 4]);
    let size = |at: usize| shape.get(at).copied().flatten().and_then(|size| usize::try_from(size).ok());
    let (colours, down, across) = (size(1), size(2), size(3));
    ensure!(
        colours.is_none_or(|colours| colours == COLOURS)
            && (down == across || down.is_none() || across.is_none()),
        "input `{pixels}` does not fit: expected pixels of square images [batch, {COLOURS}, side, side]; found {shape:?}"
    );
    let batch = size(0).filter(|&batch| batch > 0).unwrap_or(1);
    ensure!(
        batch <= MOST_PROMPTS,
        "this model was exported for {batch} images at once, more than the {MOST_PROMPTS} supported; export it for 1"
    );
    keep_outputs_without(graph, foreign, batch, Modality::Image)?;
    let fixed = down.or(across);
    if let (Some(fixed), Some(side)) = (fixed, side) {
        ensure!(
            fixed == side,
            "this model was exported for images of {fixed} pixels a side, not of {side} (--size)"
        );
    }
    let Some(side) = fixed.or(side).or_else(|| by_positions(graph, &pixels)) else {
        bail!(
            "input `{pixels}` leaves open how many pixels images have, and no table of positions says it; export the model for \
             images of its size, or, with embed-images, give --size"
        )
    };
    ensure!((1..=MOST_SIDE).contains(&side), "images of {side} pixels a side: expected 1 to {MOST_SIDE}");
    set_shape(&mut input, &[batch, COLOURS, side, side], DataType::Float);
    graph.input.push(input);
    graph.output.iter_mut().for_each(|output| output.r#type = None);
    Ok(())
}

/// The float input of four axes; a name that says `pixel` or `image` wins.
fn find(graph: &GraphProto) -> Result<String> {
    let mut floats: Vec<&str> =
        graph.input.iter().filter(|input| is_pixels(input)).map(|input| input.name.as_str()).collect();
    if floats.len() > 1 {
        let named = |name: &&str| name.contains("pixel") || name.contains("image");
        let named: Vec<&str> = floats.iter().copied().filter(named).collect();
        floats = if named.is_empty() { floats } else { named };
    }
    match floats[..] {
        [pixels] => Ok(pixels.to_owned()),
        [] => {
            let found: Vec<String> = graph.input.iter().map(|input| format!("`{}`", input.name)).collect();
            let integers = [DataType::Int64 as i32, DataType::Int32 as i32];
            let reads_ids = graph
                .input
                .iter()
                .any(|input| tensor_type(input).is_some_and(|tensor| integers.contains(&tensor.elem_type)));
            bail!(
                "input {} does not fit: expected pixels, a float tensor [batch, {COLOURS}, side, side]; found no such input; give the \
                 image encoder's .onnx file{}",
                if found.is_empty() { "(none)".to_owned() } else { found.join(", ") },
                if reads_ids { ", or compile this text encoder without --image" } else { "" }
            )
        }
        _ => bail!("inputs `{}` could each be the pixels; name that one `pixel_values`", floats.join("`, `")),
    }
}

/// The side by the patches' convolution and the rows of positions: those of a square image's patches and the class token's.
fn by_positions(graph: &GraphProto, pixels: &str) -> Option<usize> {
    let constants = constants(graph);
    // Behind casts the pixels have another name.
    let convolution = graph.node.iter().find(|node| node.op_type == "Conv")?;
    let reads_pixels = |name: &str| {
        name == pixels
            || graph.node.iter().any(|node| {
                node.output.iter().any(|output| output == name)
                    && matches!(node.op_type.as_str(), "Cast" | "Identity")
                    && node.input.iter().any(|input| input == pixels)
            })
    };
    let weight =
        convolution.input.get(1).filter(|_| convolution.input.first().is_some_and(|x| reads_pixels(x)))?;
    let &[width, _, patch, _] = *constants.get(weight.as_str())? else { return None };
    let across = |rows: usize| Some((rows - 1).isqrt()).filter(|across| across * across + 1 == rows);
    let across = position_rows(graph, width).into_iter().filter_map(across).max()?;
    across.checked_mul(usize::try_from(patch).ok()?)
}
