//! Pictures for calibrating and measuring image towers: a user's, or some made by a formula.
//!
//! Like photographs the made ones have most of their contrast at large scales (a spectrum that falls with frequency), colours that go with the
//! brightness, and edges where something stands before something else.

use std::num::NonZero;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The pictures of the folder at `path`, by their names.
///
/// # Errors
/// When it has none, or can't be read.
pub fn list(path: &Path) -> Result<Vec<PathBuf>> {
    cliptext_pictures::in_folder(path).with_context(|| path.display().to_string())
}

/// The picture in the file at `path`, `[side, side, 3]`.
///
/// # Errors
/// When it can't be read: names the file.
pub fn read(path: &Path, side: usize) -> Result<Vec<u8>> {
    let side =
        u16::try_from(side).ok().and_then(NonZero::new).context("images of no size that can be read")?;
    cliptext_pictures::read(path, side).with_context(|| path.display().to_string())
}

/// At most `most` pictures of the folder at `path`, evenly from all of them by their names, and how many there are.
///
/// # Errors
/// When it has none, or one can't be read: names the file.
pub fn in_folder(path: &Path, most: usize, side: usize) -> Result<(Vec<Vec<u8>>, usize)> {
    let files = list(path)?;
    let count = most.min(files.len());
    let one = |index: usize| read(&files[index * files.len() / count], side);
    Ok(((0..count).map(one).collect::<Result<_>>()?, files.len()))
}

/// A generator of numbers, the same on every machine (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From -1 to 1.
    fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// From 0 to 1.
    fn part(&mut self) -> f32 {
        self.signed() * 0.5 + 0.5
    }
}

/// Colours of a pixel.
const COLOURS: usize = 3;

/// `count` pictures of `side` by `side` pixels, `[side, side, 3]` each, from number `first` on: other numbers give other pictures.
pub fn made(first: u64, count: usize, side: usize) -> Vec<Vec<u8>> {
    (first..first + count as u64).map(|number| picture(number, side)).collect()
}

fn picture(number: u64, side: usize) -> Vec<u8> {
    let mut random = Random(number.wrapping_mul(0x5851_f42d_4c95_7f2d));
    let mut pixels = vec![0.0f32; side * side * COLOURS];
    background(&mut random, side, &mut pixels);
    for _ in 0..2 + random.next() % 5 {
        shape(&mut random, side, &mut pixels);
    }
    let (brightness, contrast) = (0.5 + 0.25 * random.signed(), 0.15 + 0.35 * random.part());
    pixels.iter().map(|x| ((brightness + contrast * x) * 255.0).round().clamp(0.0, 255.0) as u8).collect()
}

/// Octaves of smooth noise, each of half the size and some half the height of the one before.
fn background(random: &mut Random, side: usize, pixels: &mut [f32]) {
    let fall = 0.4 + 0.3 * random.part();
    let tint: [f32; COLOURS] = std::array::from_fn(|_| 0.6 * random.signed());
    let mut height = 1.0;
    let mut cells = 2;
    while cells <= side / 2 {
        let grid: Vec<[f32; COLOURS]> = (0..(cells + 1) * (cells + 1))
            .map(|_| {
                let grey = random.signed();
                std::array::from_fn(|colour| grey + 0.5 * random.signed() + 0.3 * tint[colour])
            })
            .collect();
        for y in 0..side {
            for x in 0..side {
                let place = |at: usize| {
                    let at = at as f32 / side as f32 * cells as f32;
                    let (cell, t) = (at as usize, at.fract());
                    (cell, t * t * (3.0 - 2.0 * t))
                };
                let ((column, u), (row, v)) = (place(x), place(y));
                let corner = |dy: usize, dx: usize| grid[(row + dy) * (cells + 1) + column + dx];
                for colour in 0..COLOURS {
                    let mix = |a: f32, b: f32, t: f32| a + (b - a) * t;
                    let top = mix(corner(0, 0)[colour], corner(0, 1)[colour], u);
                    let bottom = mix(corner(1, 0)[colour], corner(1, 1)[colour], u);
                    pixels[(y * side + x) * COLOURS + colour] += height * mix(top, bottom, v);
                }
            }
        }
        height *= fall;
        cells *= 2;
    }
}

/// An ellipse or a box of one colour, with stripes now and then.
fn shape(random: &mut Random, side: usize, pixels: &mut [f32]) {
    let colour: [f32; COLOURS] = std::array::from_fn(|_| 1.5 * random.signed());
    let (cx, cy) = (random.part(), random.part());
    let (rx, ry) = (0.05 + 0.3 * random.part(), 0.05 + 0.3 * random.part());
    let round = random.next().is_multiple_of(2);
    let stripes = if random.next().is_multiple_of(3) { 10.0 + 60.0 * random.part() } else { 0.0 };
    for y in 0..side {
        for x in 0..side {
            let (dx, dy) = ((x as f32 / side as f32 - cx) / rx, (y as f32 / side as f32 - cy) / ry);
            let inside = if round { dx * dx + dy * dy < 1.0 } else { dx.abs().max(dy.abs()) < 1.0 };
            if inside {
                let pixel = &mut pixels[(y * side + x) * COLOURS..][..COLOURS];
                // A wave without a sine, whose last bit differs between machines.
                let wave = ((dx + dy) * stripes / 10.0).rem_euclid(1.0);
                let shade = if stripes > 0.0 { (wave - 0.5).abs() * 2.0 } else { 1.0 };
                pixel.iter_mut().zip(colour).for_each(|(pixel, colour)| *pixel = colour * shade);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_differ_and_use_the_range() {
        let pictures = made(0, 16, 32);
        for (index, picture) in pictures.iter().enumerate() {
            assert_eq!(picture.len(), 32 * 32 * 3);
            assert!(!pictures[..index].contains(picture));
            let (low, high) = (picture.iter().min().unwrap(), picture.iter().max().unwrap());
            assert!(high - low > 40, "{index}: {low} {high}");
        }
        assert_eq!(made(3, 1, 32)[0], pictures[3]);
    }
}
