//! Deterministic synthetic CLIP text towers.
