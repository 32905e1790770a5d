//! A picture as PNG.

use anyhow::{Result, ensure};

/// `[3, height, width]` values, -1 black and 1 full, as a PNG of 8 bits that tells what it was made of.
pub(crate) fn png(pixels: &[f32], (height, width): (usize, usize), told: &str) -> Result<Vec<u8>> {
    let area = height * width;
    ensure!(area > 0 && pixels.len() == 3 * area, "{} values for {width} by {height} pixels", pixels.len());
    let byte = |value: f32| ((value.clamp(-1.0, 1.0) + 1.0) * 127.5).round() as u8;
    let bytes: Vec<u8> =
        (0..area).flat_map(|at| [0, 1, 2].map(|colour| byte(pixels[colour * area + at]))).collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, u32::try_from(width)?, u32::try_from(height)?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.add_itxt_chunk("parameters".into(), told.into())?;
    encoder.add_itxt_chunk("Software".into(), concat!("cliptext ", env!("CARGO_PKG_VERSION")).into())?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&bytes)?;
    writer.finish()?;
    Ok(file)
}
