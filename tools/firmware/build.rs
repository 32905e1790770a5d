//! The image's place in memory.

fn main() {
    println!("cargo::rerun-if-changed=virt.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "none") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        // aarch64-rt's script, and the memory that it asks for.
        println!("cargo::rustc-link-arg-bins=-Timage.ld");
        println!("cargo::rustc-link-arg-bins=-T{folder}/virt.ld");
    }
}
