//! ONNX files: what every exporter writes is read rightly, and everything else is refused by its name.

mod exports;
mod malformed;
mod norms;
mod operators;
mod refused;
mod unet;
