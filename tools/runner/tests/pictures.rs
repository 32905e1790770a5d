//! Pictures on the command line.
#![cfg(feature = "pictures")]

mod common;

use cliptext_files::npy;
use common::{BUILT_IN, Folder, ONE_TOWER, fixture, ok, run};
use serde_json::Value;

fn plan() -> String {
    fixture("image-generic.plan")
}

fn picture(name: &str) -> String {
    format!("{}/../pictures/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The values of an `.npy` file of that shape.
fn values(path: &str, shape: [usize; 2]) -> Vec<f32> {
    let array = npy::parse(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(array.shape, shape);
    match array.values {
        npy::Values::F32(values) => values,
        npy::Values::Integer(_) => panic!("integers"),
    }
}

#[test]
fn pictures_become_rows_whatever_their_format_and_the_threads() {
    let folder = Folder::new("pictures");
    let pictures = ["wide.png", "tall.png", "photo.jpg", "picture.webp"].map(picture);
    let pictures: Vec<&str> = pictures.iter().map(String::as_str).collect();
    let mut all = Vec::new();
    for (threads, name) in [("1", "a.npy"), ("3", "b.npy")] {
        let out = folder.path(name);
        ok(&[&["encode-image", &plan(), "-o", &out, "--threads", threads], &pictures[..]].concat());
        all.push(values(&out, [4, 20]));
    }
    assert_eq!(all[0], all[1]);
    let rows: Vec<&[f32]> = all[0].chunks(20).collect();
    for row in &rows {
        assert!((row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }
    // The same scene in another format, and another scene.
    let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    assert_eq!(rows[0], rows[3], "without loss");
    assert!(cosine(rows[0], rows[2]) > 0.99 && cosine(rows[0], rows[1]) < 0.95);
    // The same values raw, in half precision.
    let (out, raw) = (folder.path("c.f16"), folder.path("d.f32"));
    ok(&["encode-image", &plan(), pictures[0], "-o", &out]);
    ok(&["encode-image", &plan(), pictures[0], "-o", &raw]);
    assert_eq!(std::fs::read(&out).unwrap().len(), 40);
    let bytes: Vec<u8> = rows[0].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(std::fs::read(&raw).unwrap(), bytes);
}

#[test]
fn similarity_takes_pictures_beside_embeddings() {
    let folder = Folder::new("pictures-similarity");
    let (wide, tall) = (picture("wide.png"), picture("tall.png"));
    let rows = folder.path("rows.npy");
    ok(&["encode-image", &plan(), &wide, &tall, "-o", &rows]);
    let text = fixture("two-towers.plan");
    let told = |images: &[&str]| {
        let mut arguments = vec!["similarity", "--json", &text, "a cat", "a dog"];
        images.iter().for_each(|image| arguments.extend(["--images", image]));
        let plan = plan();
        arguments.extend(["--image-plan", &plan]);
        serde_json::from_str::<Value>(&ok(&arguments)).unwrap()
    };
    let (mixed, alone) = (told(&[&wide, &rows, &tall]), told(&[&rows]));
    let cosines = |value: &Value, index: usize| value["images"][index]["cosine"].clone();
    assert_eq!(mixed["images"].as_array().unwrap().len(), 4);
    assert_eq!((cosines(&mixed, 0), cosines(&mixed, 3)), (cosines(&alone, 0), cosines(&alone, 1)));
    assert_eq!((cosines(&mixed, 1), cosines(&mixed, 2)), (cosines(&alone, 0), cosines(&alone, 1)));
    assert_eq!(mixed["images"][0]["image"], wide);
    assert_eq!(mixed["images"][2]["image"], format!("{rows} 1"));
    let table = ok(&["similarity", &text, "a cat", "--images", &wide, "--image-plan", &plan()]);
    assert!(table.starts_with(&wide), "{table}");
}

#[test]
fn several_images_stand_between_commas_or_in_a_folder() {
    let folder = Folder::new("pictures-several");
    let text = fixture("two-towers.plan");
    let copy = |from: &str, to: &str| folder.write(to, &std::fs::read(picture(from)).unwrap());
    let (wide, tall, comma) =
        (copy("wide.png", "b.png"), copy("tall.png", "c.PNG"), copy("photo.jpg", "b.png,a.jpg"));
    let names = |images: &[&str]| {
        let plan = plan();
        let arguments =
            [&["similarity", "--json", &text, "--image-plan", &plan], images, &["a cat"]].concat();
        let told: Value = serde_json::from_str(&ok(&arguments)).unwrap();
        let images = told["images"].as_array().unwrap().iter();
        images.map(|image| image["image"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let repeated = names(&["--images", &tall, "--images", &wide]);
    assert_eq!(repeated, [tall.clone(), wide.clone()]);
    assert_eq!(names(&["--images", &format!("{tall},{wide}")]), repeated);
    // A file of that name comes before two files.
    assert_eq!(names(&["--images", &comma, "--images", &wide]), [comma.clone(), wide.clone()]);
    assert_eq!(names(&["--images", &format!("{wide},{tall},{wide}")]).len(), 3);
    // A folder's, by their names; what is no picture is not looked at.
    folder.write("notes.txt", b"none");
    assert_eq!(names(&["--images", &folder.path("")]), [wide.clone(), comma, tall.clone()]);
    for (code, said, images) in [
        (2, "one is missing", format!("{wide},")),
        (1, "none.png", format!("{wide},none.png")),
        (1, "none.png", "none.png".to_owned()),
    ] {
        let output = run(&["similarity", &text, "--image-plan", &plan(), "--images", &images, "a cat"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{images}: {error}");
        assert!(error.contains(said), "{images}: {error}");
    }
}

#[test]
fn a_file_of_both_plans_is_either_of_them() {
    let folder = Folder::new("pictures-both");
    let (text, image) = (fixture("two-towers.plan"), plan());
    let both = [&text, &image].map(|path| std::fs::read(path).unwrap()).concat();
    let both = folder.write("both.plan", &both);
    let wide = picture("wide.png");
    let apart = ok(&["similarity", "--json", &text, "a cat", "--images", &wide, "--image-plan", &image]);
    assert_eq!(ok(&["similarity", "--json", &both, "a cat", "--images", &wide]), apart);
    let [a, b, c, d] = ["a.npy", "b.npy", "c.npy", "d.npy"].map(|name| folder.path(name));
    ok(&["encode-image", &image, &wide, "-o", &a]);
    ok(&["encode-image", &both, &wide, "-o", &b]);
    ok(&["encode", &text, "a cat", "-o", &c]);
    ok(&["encode", &both, "a cat", "-o", &d, "--read"]);
    let bytes = [a, b, c, d].map(|path| std::fs::read(path).unwrap());
    assert!(bytes[0] == bytes[1] && bytes[2] == bytes[3]);
    let told = ok(&["inspect", &both]);
    assert!(told.contains("context     77 tokens") && told.contains("16 x 16 pixels"), "{told}");
}

#[test]
fn without_a_plan_the_built_in_one_takes_pictures_and_texts() {
    let folder = Folder::new("pictures-built-in");
    let (one, other) = (folder.path("one.npy"), folder.path("other.npy"));
    let wide = picture("wide.png");
    let built_in = run(&["encode-image", &wide, "-o", &one]);
    assert!(built_in.status.success());
    assert!(String::from_utf8(built_in.stderr).unwrap().contains("built-in"));
    ok(&["encode-image", BUILT_IN, &wide, "-o", &other]);
    assert_eq!(std::fs::read(one).unwrap(), std::fs::read(other).unwrap());
}

/// The repository's own drawings, which no training saw.
#[test]
fn the_built_in_plan_tells_a_cat_from_a_car() {
    let drawings = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/pictures/");
    for (drawing, right) in [("cat.png", "a cat"), ("tree.png", "a tree")] {
        let texts = ["a cat", "a car", "a tree", "a dog", "a house"];
        let drawing = format!("{drawings}{drawing}");
        let told = ok(&[&["similarity", "--json", "--images", &drawing], &texts[..]].concat());
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let probabilities = told["images"][0]["probabilities"].as_array().unwrap();
        let best = (0..texts.len()).max_by(|&a, &b| {
            probabilities[a].as_f64().unwrap().total_cmp(&probabilities[b].as_f64().unwrap())
        });
        assert_eq!(texts[best.unwrap()], right, "{told}");
    }
}

#[test]
fn what_does_not_fit_is_told_by_name_and_nothing_is_left_behind() {
    let folder = Folder::new("pictures-refused");
    let text = folder.write("text.png", b"no picture");
    let out = folder.path("x.npy");
    let wide = picture("wide.png");
    let plan = plan();
    let two = fixture("two-towers.plan");
    let long = fixture("long.plan");
    for (code, said, arguments) in [
        (1, "text.png: no picture", vec!["encode-image", &plan, &wide, &text, "-o", &out]),
        (1, "none.png: ", vec!["encode-image", &plan, "none.png", "-o", &out]),
        (1, "encodes texts", vec!["encode-image", ONE_TOWER, &wide, "-o", &out]),
        (1, "encodes images", vec!["encode", &plan, "a prompt", "-o", &out]),
        (1, "encodes texts", vec!["bench", ONE_TOWER, "--image"]),
        (1, "encodes texts", vec!["inspect", ONE_TOWER, "--image"]),
        (2, "one array", vec!["encode-image", &plan, &wide, "-o", "x.json"]),
        (2, "one array", vec!["encode-image", &plan, &wide, "-o", "x{n}.npy"]),
        (2, "one of the inputs", vec!["encode-image", &plan, &wide, "--format", "npy", "-o", &wide]),
        (2, "--output", vec!["encode-image", &plan, &wide]),
        (2, "no picture follows", vec!["encode-image", &plan, "-o", &out]),
        (1, "text.png", vec!["similarity", &two, "a", "--images", &text, "--image-plan", &plan]),
        (1, "--image-plan", vec!["similarity", &two, "a", "--images", &wide]),
        (
            2,
            "those of the texts 16",
            vec!["similarity", &long, "a", "--images", &wide, "--image-plan", &plan],
        ),
    ] {
        let output = run(&arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(said), "{arguments:?}: {error}");
        assert!(!std::path::Path::new(&out).exists(), "{arguments:?}");
    }
    assert_eq!(std::fs::read(&wide).unwrap()[..4], *b"\x89PNG");
}

#[test]
fn bench_measures_image_plans_as_it_does_text_plans() {
    let folder = Folder::new("pictures-bench");
    let image = plan();
    let both = [fixture("two-towers.plan"), image.clone()].map(|path| std::fs::read(path).unwrap()).concat();
    let both = folder.write("both.plan", &both);
    let told = ok(&["bench", &image, "--threads", "1", "--runs", "2"]);
    for part in [
        "warm",
        "cold start",
        "bytes for one image",
        "patch embedding",
        "steps by kind",
        "of the peak",
        "floor",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    for part in ["pair ", "labels", "typing", "tokens"] {
        assert!(!told.contains(part), "{part} in {told}");
    }
    let json = |more: &[&str]| -> Value {
        let arguments = [&["bench", "--json", "--threads", "1", "--runs", "2"], more].concat();
        serde_json::from_str::<Value>(&ok(&arguments)).unwrap()[0].clone()
    };
    let (alone, behind, text) = (json(&[&image]), json(&[&both, "--image"]), json(&[&both]));
    assert_eq!((&alone["input"], &text["input"]), (&"image".into(), &"prompt".into()));
    for key in ["plan_hash", "arena_bytes", "macs", "attention_macs", "weight_bytes"] {
        assert_eq!(alone[key], behind[key], "{key}");
        assert_ne!(alone[key], text[key], "{key}");
    }
    // 17 rows of width 32: patches of 48 pixels, two layers, the class token's projection.
    let layer = 17 * (4 * 32 * 32 + 2 * 32 * 64);
    assert_eq!(alone["macs"], 17 * 48 * 32 + 2 * layer + 32 * 20);
    assert_eq!(alone["attention_macs"], 2 * 2 * 17 * 17 * 32);
    assert!(alone["cold_ms"].as_f64().unwrap() > 0.0 && !alone["labels"].is_object());
    let part = ok(&["inspect", &both, "--image"]);
    assert!(part.contains("16 x 16 pixels") && !part.contains("context"), "{part}");
}

#[test]
fn inspect_tells_what_an_image_plan_takes() {
    let told = ok(&["inspect", &plan()]);
    for part in
        ["16 x 16 pixels in 16 patches of 4 x 4", "[20] f32 per image, projected", "patch embedding", "arena"]
    {
        assert!(told.contains(part), "{part} in {told}");
    }
}
