//! The numbers at which functions of one number are sampled.

/// -8 to 8 in sixteenths: holds 0 and 1, and covers where the GELUs bend.
pub fn float_grid() -> Vec<f32> {
    (-128..=128).map(|step| step as f32 / 16.0).collect()
}
