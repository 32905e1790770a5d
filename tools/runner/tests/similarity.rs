//! `similarity` from outside: figures, forms of output, files that don't do.

mod common;

use common::{Folder, ONE_TOWER, fails, fixture, npy, ok, run};
use serde_json::Value;

const PROMPTS: [&str; 3] = ["a photo of a cat", "a photo of a dog", "an engine"];

/// A plan with a projected output of 20 columns that is not normalised, and a logit scale of 100.
fn plan() -> String {
    fixture("two-towers.plan")
}

/// The bytes of an `.npy` file with this description.
fn npy_bytes(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(data);
    out
}

/// The bytes of a safetensors file with these tensors, whose data are the same bytes one after the other.
fn safetensors(tensors: &[(&str, &str, &[usize])], data: &[u8]) -> Vec<u8> {
    let size = data.len() / tensors.len().max(1);
    let entries = tensors.iter().enumerate().map(|(index, (name, dtype, shape))| {
        let offsets = [index * size, (index + 1) * size];
        (name.to_string(), serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }))
    });
    let header = Value::Object(entries.collect()).to_string();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.extend(data);
    out
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Values for images: no two rows alike.
fn images(count: usize, width: usize) -> Vec<f32> {
    (0..count * width).map(|i| ((i * 7919 % 601) as f32 - 300.0) * 0.01).collect()
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&ok(&[&["similarity", "--json"], args].concat())).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn cosines_logits_and_probabilities_are_what_they_say() {
    let folder = Folder::new("figures");
    let (pooled, hidden) = (folder.path("p.npy"), folder.path("h.npy"));
    ok(&[&["encode", &plan(), "-o", &hidden, "--pooled", &pooled], &PROMPTS[..]].concat());
    let texts = npy(&pooled).1;
    let values = images(2, 20);
    let file = folder.write("images.npy", &npy_bytes("<f4", "False", "(2, 20)", &bytes_of(&values)));
    let told = json(&[&[&plan(), "--images", &file], &PROMPTS[..]].concat());
    assert_eq!(told["logit_scale"], 100.0);
    assert_eq!(told["prompts"], serde_json::json!(PROMPTS));
    assert_eq!(told["images"].as_array().unwrap().len(), 2);
    for (image, told) in values.chunks(20).zip(told["images"].as_array().unwrap()) {
        let cosines: Vec<f64> = texts.chunks(20).map(|text| cosine(text, image)).collect();
        let powers: Vec<f64> = cosines.iter().map(|cosine| (100.0 * cosine).exp()).collect();
        let total: f64 = powers.iter().sum();
        let near = |told: &Value, want: &dyn Fn(usize) -> f64| {
            let told = numbers(told);
            assert_eq!(told.len(), 3);
            assert!(told.iter().enumerate().all(|(i, told)| (told - want(i)).abs() < 1e-9), "{told:?}");
        };
        near(&told["cosine"], &|i| cosines[i]);
        near(&told["logits"], &|i| 100.0 * cosines[i]);
        near(&told["probabilities"], &|i| powers[i] / total);
    }
    // A text is most like itself.
    let told = json(&[&[&plan(), "--images", &pooled], &PROMPTS[..]].concat());
    for (index, image) in told["images"].as_array().unwrap().iter().enumerate() {
        let cosines = numbers(&image["cosine"]);
        assert!((cosines[index] - 1.0).abs() < 1e-9 && cosines.iter().all(|&c| c <= 1.0 + 1e-9));
    }
}

#[test]
fn every_form_of_the_same_images_gives_the_same() {
    let folder = Folder::new("forms");
    let values: Vec<f32> = images(1, 20).iter().map(|&value| half::f16::from_f32(value).to_f32()).collect();
    let halves: Vec<u8> = values.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect();
    let singles = bytes_of(&values);
    let doubled: Vec<f32> = values.iter().map(|value| 2.0 * value).collect();
    let two = [&singles[..], &singles].concat();
    let usual: [(&str, &str, &[usize]); 2] = [("text", "F32", &[20]), ("image_embeds", "F32", &[1, 20])];
    let files = [
        ("a.npy", npy_bytes("<f4", "False", "(1, 20)", &singles)),
        ("b.npy", npy_bytes("<f4", "False", "(20,)", &singles)),
        ("c.npy", npy_bytes("<f2", "False", "(1, 20)", &halves)),
        ("d.npy", npy_bytes("<f4", "False", "(20,)", &bytes_of(&doubled))),
        ("e.safetensors", safetensors(&[("anything", "F32", &[1, 20])], &singles)),
        ("f.safetensors", safetensors(&[("anything", "F16", &[20])], &halves)),
        ("g.safetensors", safetensors(&usual, &two)),
    ];
    let told = files.map(|(name, bytes)| {
        let path = folder.write(name, &bytes);
        let mut told = json(&[&plan(), "--images", &path, "a", "b"]);
        assert_eq!(told["images"][0]["image"].take(), format!("{path} 0"));
        told
    });
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
    let chosen = run(&["similarity", &plan(), "--images", &folder.path("g.safetensors"), "a"]);
    assert!(
        String::from_utf8(chosen.stderr).unwrap().contains("of the images' 2 tensors image_embeds is taken")
    );
}

#[test]
fn the_logit_scale_is_the_command_line_s_or_the_plan_s_or_clip_s() {
    let folder = Folder::new("scale");
    let file = folder.write("x.npy", &npy_bytes("<f4", "False", "(20,)", &bytes_of(&images(1, 20))));
    let told = json(&[&plan(), "--images", &file, "--logit-scale", "14.3", "a", "b"]);
    assert_eq!(told["logit_scale"], 14.3);
    // This plan does not know, and is normalised already.
    let file = folder.write("y.npy", &npy_bytes("<f4", "False", "(16,)", &bytes_of(&images(1, 16))));
    let output = run(&["similarity", "--json", &fixture("long.plan"), "--images", &file, "a"]);
    assert!(output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("100"));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&told["logit_scale"], &told["images"][0]["probabilities"]),
        (&100.0.into(), &serde_json::json!([1.0]))
    );
}

#[test]
fn the_table_is_for_people() {
    let folder = Folder::new("table");
    let file = folder.write("x.npy", &npy_bytes("<f4", "False", "(2, 20)", &bytes_of(&images(2, 20))));
    let table = ok(&["similarity", &plan(), "--images", &file, "a photo of a cat", "a photo of a dog"]);
    for part in
        ["x.npy 0", "x.npy 1", "probability", "cosine", "%", "\"a photo of a cat\"", "logit scale 100"]
    {
        assert!(table.contains(part), "{part} in {table}");
    }
    assert_eq!(table.lines().count(), 9);
}

#[test]
fn files_that_do_not_do_are_told_by_what_is_wrong() {
    let folder = Folder::new("refused");
    let good = bytes_of(&images(1, 20));
    let with = |place: usize, value: f32| {
        let mut values = images(2, 20);
        values[place] = value;
        npy_bytes("<f4", "False", "(2, 20)", &bytes_of(&values))
    };
    let two: [(&str, &str, &[usize]); 2] = [("x", "F32", &[10]), ("y", "F32", &[10])];
    let mut lying = safetensors(&[("x", "F32", &[20])], &good);
    lying.truncate(lying.len() - 4);
    let mut huge = good.clone();
    huge[..8].fill(0xff);
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("width.npy", npy_bytes("<f4", "False", "(1, 16)", &good[..64]), &["16", "20"]),
        ("width1.npy", npy_bytes("<f4", "False", "(16,)", &good[..64]), &["16", "20"]),
        ("cube.npy", npy_bytes("<f4", "False", "(1, 1, 20)", &good), &["[1, 1, 20]", "[n, 20]"]),
        ("scalar.npy", npy_bytes("<f4", "False", "()", &good[..4]), &["[]"]),
        ("none.npy", npy_bytes("<f4", "False", "(0, 20)", &[]), &["no embedding"]),
        ("double.npy", npy_bytes("<f8", "False", "(10,)", &good), &["<f8", "astype"]),
        ("big.npy", npy_bytes(">f4", "False", "(20,)", &good), &[">f4"]),
        ("integer.npy", npy_bytes("<i4", "False", "(20,)", &good), &["integer"]),
        ("fortran.npy", npy_bytes("<f4", "True", "(1, 20)", &good), &["Fortran", "ascontiguousarray"]),
        ("cut.npy", npy_bytes("<f4", "False", "(20,)", &good[..76]), &["cut short", "76", "80"]),
        ("long.npy", npy_bytes("<f4", "False", "(10,)", &good), &["80", "40"]),
        ("header.npy", b"\x93NUMPY\x01\x00\xff\xff{}".to_vec(), &["header"]),
        ("nan.npy", with(25, f32::NAN), &["row 1", "NaN"]),
        ("infinite.npy", with(3, f32::INFINITY), &["row 0", "finite"]),
        ("zero.npy", npy_bytes("<f4", "False", "(20,)", &[0; 80]), &["row 0", "zeros"]),
        ("picture.png", b"\x89PNG\r\n\x1a\n".to_vec(), &["neither"]),
        ("empty.npy", vec![], &["neither"]),
        ("cut.safetensors", lying, &["neither"]),
        ("huge.safetensors", huge, &["neither"]),
        ("empty.safetensors", safetensors(&[], &[]), &["no tensor"]),
        ("two.safetensors", safetensors(&two, &good), &["2 tensors", "image_embeds", "x, y"]),
        ("type.safetensors", safetensors(&[("x", "F64", &[10])], &good), &["F64", "F16"]),
        ("width.safetensors", safetensors(&[("x", "F32", &[2, 10])], &good), &["10", "20"]),
    ];
    for (name, bytes, parts) in cases {
        let error = fails(&["similarity", &plan(), "--images", &folder.write(name, &bytes), "a"], 1);
        assert!(error.contains(name), "{name}: {error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{name}: {error}");
    }
    let missing = folder.path("missing.npy");
    assert!(fails(&["similarity", &plan(), "--images", &missing, "a"], 1).contains("missing.npy"));
}

#[test]
fn plans_and_command_lines_that_do_not_do_are_usage_errors() {
    let folder = Folder::new("usage");
    let file = folder.write("x.npy", &npy_bytes("<f4", "False", "(20,)", &bytes_of(&images(1, 20))));
    let unprojected = fails(&["similarity", ONE_TOWER, "--images", &file, "a"], 2);
    assert!(unprojected.contains("no projection") && unprojected.contains("CLIPTextModelWithProjection"));
    fails(&["similarity", &plan(), "a"], 2);
    assert!(fails(&["similarity", &plan(), "--images", &file], 2).contains("give a prompt"));
    for scale in ["0", "-1", "NaN", "inf", "x"] {
        let scale = format!("--logit-scale={scale}");
        assert!(fails(&["similarity", &plan(), "--images", &file, &scale, "a"], 2).contains("positive"));
    }
}
