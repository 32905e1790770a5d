//! Text to token ids.

mod normalize;
mod unicode;
