//! What is encoded.

/// 77 tokens with its padding.
pub(super) const PROMPT: &str = "a photograph of an astronaut riding a horse";
pub(super) const NEGATIVE: &str = "low quality, blurry";
/// Put into [`TEMPLATE`] they make texts of 7 to 9 tokens.
pub(super) const LABELS: [&str; 40] = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "kite",
    "baseball bat",
    "skateboard",
    "surfboard",
    "bottle",
    "wine glass",
    "cup",
    "fork",
];
pub(super) const TEMPLATE: &str = "a photo of a ";
/// 7 tokens, start and end included.
pub(super) const SHORT_PROMPT: &str = "a photo of a cat";
/// What somebody types, word by word.
pub(super) const TYPED: &str =
    "a photograph of an astronaut riding a horse in the desert at sunset, dramatic light, highly detailed";
