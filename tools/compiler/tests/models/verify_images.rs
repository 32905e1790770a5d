//! `cliptext verify` on a whole CLIP: image plans, retrieval, zero-shot classification, what is wrong with labels.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use cliptext::{AlignedBytes, Encoder, ImageEncoder, ImagePlan, Plan};
use cliptext_compiler::pictures;
use cliptext_synthetic::{Options, generate};
use cliptext_test_support::{Scratch, fixtures};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::common::*;

fn cliptext(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cliptext")).args(args).output().unwrap()
}

#[track_caller]
fn ok(args: &[&str]) -> String {
    let output = cliptext(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A whole CLIP, plans of it, and pictures.
struct Whole {
    scratch: Scratch,
}

/// Pictures of [`Whole`].
const PICTURES: usize = 14;

impl Whole {
    /// Made once for all tests.
    fn get() -> &'static Whole {
        static WHOLE: OnceLock<Whole> = OnceLock::new();
        WHOLE.get_or_init(Whole::make)
    }

    /// The image tower of `images/clip` beside a text tower of the small vocabulary.
    fn make() -> Whole {
        let scratch = Scratch::new();
        let clip = fixtures().join("images/clip");
        let tower = generate(&Options { projection: Some(20), ..small(64, 2, 31) });
        let alone = write_component(&scratch.path().join("text"), &tower);
        let bytes = std::fs::read(clip.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let of_images = file.tensors().into_iter().filter(|(name, _)| !name.starts_with("text_"));
        let of_images = of_images.map(|(name, tensor)| Named {
            name,
            shape: tensor.shape().to_vec(),
            dtype: tensor.dtype(),
            bytes: tensor.data().to_vec(),
        });
        let tensors: Vec<Named> = hugging_face(&tower, "").into_iter().chain(of_images).collect();
        let model = scratch.path().join("clip");
        write(&model.join("model.safetensors"), &tensors);
        let read =
            |path: PathBuf| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
        let mut config = read(clip.join("config.json"));
        config["text_config"] = read(alone.join("config.json"));
        write_text(&model.join("config.json"), &config.to_string());
        std::fs::copy(clip.join("preprocessor_config.json"), model.join("preprocessor_config.json")).unwrap();
        let whole = Whole { scratch };
        let merges = merges();
        for precision in ["int8", "f32"] {
            let compile = |kind: &str, more: &[&str]| {
                let plan = whole.path(&format!("{kind}-{precision}.plan"));
                let args = ["compile", text(&model), "-o", text(&plan), "--precision", precision, "--quiet"];
                ok(&[&args[..], more].concat());
                std::fs::read(plan).unwrap()
            };
            let both =
                [compile("text", &["--vocab", text(&merges)]), compile("image", &["--image"])].concat();
            whole.scratch.write(&format!("whole-{precision}.plan"), &both);
        }
        std::fs::create_dir(whole.path("pictures")).unwrap();
        for (number, pixels) in pictures::made(900, PICTURES, 24).iter().enumerate() {
            let file = std::fs::File::create(whole.picture(number)).unwrap();
            let mut encoder = png::Encoder::new(file, 24, 24);
            encoder.set_color(png::ColorType::Rgb);
            encoder.write_header().unwrap().write_image_data(pixels).unwrap();
        }
        whole
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn picture(&self, number: usize) -> PathBuf {
        self.path("pictures").join(name(number))
    }

    /// The arguments that name plan, model and pictures.
    fn args(&self) -> [String; 5] {
        let path = |name| text(&self.path(name)).to_owned();
        let flag = |name: &str| name.to_owned();
        [flag("verify"), path("whole-int8.plan"), path("clip"), flag("--images"), path("pictures")]
    }

    /// The JSON report of a verification with more arguments.
    fn report(&self, more: &[&str]) -> Value {
        let scratch = Scratch::new();
        let report = scratch.path().join("report.json");
        let args = self.args();
        let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        ok(&[&args[..], &["--quiet", "--report", text(&report)]].concat());
        serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap()
    }

    /// The embeddings of all pictures by the plan of that precision.
    fn images(&self, precision: &str) -> Vec<Vec<f32>> {
        let bytes =
            AlignedBytes::copy_of(&std::fs::read(self.path(&format!("image-{precision}.plan"))).unwrap());
        let plan = ImagePlan::load(&bytes).unwrap();
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
        let mut encoder = ImageEncoder::new(&plan, &mut arena).unwrap();
        let side = 16.try_into().unwrap();
        let pixels = |number| cliptext_pictures::read(&self.picture(number), side).unwrap();
        (0..PICTURES)
            .map(|number| encoder.encode(&pixels(number)).unwrap().pooled().unwrap().to_vec())
            .collect()
    }

    /// The embeddings of texts.
    fn texts(&self, precision: &str, texts: &[String]) -> Vec<Vec<f32>> {
        let bytes =
            AlignedBytes::copy_of(&std::fs::read(self.path(&format!("text-{precision}.plan"))).unwrap());
        let plan = Plan::load(&bytes).unwrap();
        let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
        let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
        texts.iter().map(|text| encoder.encode(text).pooled().unwrap().to_vec()).collect()
    }
}

fn name(number: usize) -> String {
    format!("picture {number}.png")
}

fn unit(row: &[f32]) -> Vec<f64> {
    let length = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    row.iter().map(|&x| f64::from(x) / length).collect()
}

/// How often one of a query's own is among the first `k`: everything is sorted and looked through.
fn recall(
    queries: &[Vec<f64>],
    candidates: &[Vec<f64>],
    k: usize,
    belongs: impl Fn(usize, usize) -> bool,
) -> f64 {
    let mut found = 0;
    for (number, query) in queries.iter().enumerate() {
        let mut sorted: Vec<(f64, usize)> = Vec::new();
        for (index, candidate) in candidates.iter().enumerate() {
            sorted.push((query.iter().zip(candidate).map(|(a, b)| a * b).sum(), index));
        }
        sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
        found += usize::from(sorted.iter().take(k).any(|(_, index)| belongs(number, *index)));
    }
    found as f64 / queries.len() as f64
}

/// Two shares that are the same: JSON readers round the last bit.
#[track_caller]
fn same(found: f64, wanted: f64, what: &str) {
    assert!((found - wanted).abs() < 1e-12, "{what}: {found} {wanted}");
}

/// The report's numbers at each `k`, `model` or `plan`.
fn reported(ranked: &Value, side: &str) -> Vec<(usize, f64)> {
    let at = ranked["at"].as_array().unwrap().iter();
    at.map(|at| (at["k"].as_u64().unwrap() as usize, at[side].as_f64().unwrap())).collect()
}

#[test]
fn retrieval_is_what_an_independent_count_gives() {
    let whole = Whole::get();
    // Two texts a picture, the last of which two pictures share.
    let texts: Vec<String> =
        (0..2 * PICTURES - 1).map(|n| format!("a photo of {} things, {n}", n * 7)).collect();
    let own = |picture: usize| [2 * picture, (2 * picture + 1).min(texts.len() - 1)];
    let mut lines = String::new();
    for picture in 0..PICTURES {
        for text in own(picture) {
            if !lines.contains(&format!("{}\t{}\n", name(picture), texts[text])) {
                lines += &format!("{}\t{}\n", name(picture), texts[text]);
            }
        }
    }
    lines += &format!("./{}\t{}\r\n", name(0), texts[texts.len() - 1]);
    let labels = whole.scratch.write("captions.tsv", lines.as_bytes());
    let found = whole.report(&["--labels", text(&labels)]);
    let pairs = &found["pairs"];
    assert!(pairs["zero_shot"].is_null());
    let belongs =
        |picture: usize, text: usize| own(picture).contains(&text) || picture == 0 && text == texts.len() - 1;
    for (side, precision) in [("plan", "int8"), ("model", "f32")] {
        let images: Vec<Vec<f64>> = whole.images(precision).iter().map(|row| unit(row)).collect();
        let rows: Vec<Vec<f64>> = whole.texts(precision, &texts).iter().map(|row| unit(row)).collect();
        for (k, value) in reported(&pairs["image_to_text"], side) {
            same(value, recall(&images, &rows, k, belongs), &format!("{side} {k}"));
        }
        for (k, value) in reported(&pairs["text_to_image"], side) {
            let wanted = recall(&rows, &images, k, |text, picture| belongs(picture, text));
            same(value, wanted, &format!("{side} {k}"));
        }
    }
    assert_eq!(pairs["image_to_text"]["queries"], PICTURES);
    assert_eq!(pairs["text_to_image"]["queries"], texts.len());
    assert_eq!(
        reported(&pairs["text_to_image"], "plan").iter().map(|at| at.0).collect::<Vec<_>>(),
        [1, 5, 10]
    );
    // The other figures.
    let number =
        |pointer: &str| found.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer}"));
    for embedding in ["/images/embedding", "/pairs/texts/embedding", "/images/hidden", "/figures/hidden"] {
        let sqnr = number(&format!("{embedding}/sqnr_db"));
        assert!((15.0..80.0).contains(&sqnr), "{embedding}: {sqnr}");
        let [least, mean] = ["min", "mean"].map(|which| number(&format!("{embedding}/cosine_{which}")));
        assert!(least > 0.99 && least <= mean && mean <= 1.0, "{embedding}: {least} {mean}");
    }
    let [psnr, sqnr] = ["hidden_psnr/mean_db", "hidden/sqnr_db"].map(|of| number(&format!("/figures/{of}")));
    assert!(psnr > sqnr + 3.0, "the peak is above the root of the mean square: {psnr} {sqnr}");
    for times in ["/cost", "/images/cost", "/pairs/texts/times"] {
        let [runs, p50, p90, p99] =
            ["runs", "p50_ms", "p90_ms", "p99_ms"].map(|of| number(&format!("{times}/{of}")));
        assert!(runs >= 30.0 && 0.0 < p50 && p50 <= p90 && p90 <= p99, "{times}: {runs} {p50} {p90} {p99}");
    }
    let bytes = std::fs::metadata(whole.path("image-int8.plan")).unwrap().len();
    assert_eq!(
        (number("/images/cost/plan_bytes"), number("/images/pictures")),
        (bytes as f64, PICTURES as f64)
    );
    // Plans in two files are the same plans.
    let [plan, image] = ["text-int8.plan", "image-int8.plan"].map(|name| whole.path(name));
    let report = whole.path("apart.json");
    let (model, pictures) = (whole.path("clip"), whole.path("pictures"));
    let apart =
        ["verify", text(&plan), text(&model), "--image-plan", text(&image), "--images", text(&pictures)];
    let told = ok(&[&apart[..], &["--labels", text(&labels), "--report", text(&report)]].concat());
    for part in
        ["image → text: 14 among 27", "R@10", "the same first", "images' embeddings", "PSNR mean", "p99"]
    {
        assert!(told.contains(part), "{part} in {told}");
    }
    let again: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    for part in ["image_to_text", "text_to_image"] {
        assert_eq!(again["pairs"][part], pairs[part]);
    }
}

#[test]
fn zero_shot_is_counted_over_the_means_of_templates() {
    let whole = Whole::get();
    let classes: Vec<String> =
        ["cat", "dog", "engine", "7", "a bit of rain", "x", "tree"].map(Into::into).into();
    let templates = ["a photo of a {}.", "{c}", "art of the {c}, {}"];
    let class = |picture: usize| picture * 5 % 6;
    let line = |picture: usize| format!("{}\t{}\n", name(picture), classes[class(picture)]);
    // The last picture has no label.
    let labelled = PICTURES - 1;
    let lines: String = (0..labelled).map(line).collect();
    let labels = whole.scratch.write("classes.tsv", lines.as_bytes());
    let list = whole.scratch.write("classes.txt", classes.join("\n").as_bytes());
    let array = whole.scratch.write("templates.json", json!(templates).to_string().as_bytes());
    let args = ["--labels", text(&labels), "--classes", text(&list), "--templates", text(&array)];
    let found = whole.report(&args);
    let ranked = &found["pairs"]["zero_shot"];
    assert_eq!(
        (&ranked["templates"], &ranked["candidates"], &ranked["queries"]),
        (&json!(3), &json!(7), &json!(labelled))
    );
    for (side, precision) in [("plan", "int8"), ("model", "f32")] {
        let images: Vec<Vec<f64>> = whole.images(precision)[..labelled].iter().map(|row| unit(row)).collect();
        let rows: Vec<Vec<f64>> = classes
            .iter()
            .map(|class| {
                let texts = templates.map(|template| template.replace("{c}", class).replace("{}", class));
                let mut mean = vec![0f32; 20];
                for row in whole.texts(precision, &texts) {
                    unit(&row).iter().zip(&mut mean).for_each(|(x, mean)| *mean += *x as f32 / 3.0);
                }
                unit(&mean)
            })
            .collect();
        assert_eq!(reported(ranked, side).len(), 2);
        for (k, value) in reported(ranked, side) {
            let wanted = recall(&images, &rows, k, |picture, index| index == class(picture));
            same(value, wanted, &format!("{side} {k}"));
        }
    }
    // Without a file of classes the labels' texts are the classes.
    let own = whole.report(&["--labels", text(&labels)]);
    let own = &own["pairs"];
    assert_eq!(own["zero_shot"]["candidates"], 6);
    assert_eq!(reported(&own["zero_shot"], "plan"), reported(&own["image_to_text"], "plan")[..2]);
    // What is left out is told, and the page has all of it.
    let page = whole.path("report.html");
    let all = whole.args();
    let all: Vec<&str> = all.iter().map(String::as_str).chain(args).collect();
    let output = cliptext(&[&all[..], &["--report", text(&page)]].concat());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.contains("pictures without a label, left out: 1"), "{told}");
    let html = std::fs::read_to_string(page).unwrap();
    for part in ["zero-shot: 13 among 7", "top-5", "R@10", "SQNR of the embeddings", "By token position"] {
        assert!(html.contains(part), "{part}");
    }
    assert!(!html.contains("NaN"));
}

#[test]
fn an_image_plan_alone_is_measured_on_built_in_pictures() {
    let whole = Whole::get();
    let (plan, model, report) = (whole.path("image-int8.plan"), whole.path("clip"), whole.path("image.json"));
    let args = ["verify", text(&plan), text(&model), "--report", text(&report)];
    let told = ok(&args);
    assert!(told.contains("8 built-in pictures") && !told.contains("residual stream"), "{told}");
    let found: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert!(found["figures"].is_null() && found["images"]["made"] == true);
    // As the compile of it measures.
    let compiled = whole.path("compiled.json");
    let again = whole.path("again.plan");
    ok(&["compile", text(&model), "--image", "-o", text(&again), "--report", text(&compiled), "--quiet"]);
    let compiled: Value = serde_json::from_slice(&std::fs::read(compiled).unwrap()).unwrap();
    assert_eq!(found["images"]["embedding"], compiled["pooled_quality"]);
    assert_eq!(found["images"]["hidden"], compiled["hidden_quality"]);
    // Embeddings that are not of length 1 are compared as they are.
    ok(&["compile", text(&model), "--image", "-o", text(&again), "--normalize", "off", "--quiet"]);
    let free = ["verify", text(&again), text(&model), "--quiet", "--min-sqnr"];
    ok(&[&free[..], &["20"]].concat());
    let output = cliptext(&[&free[..], &["90"]].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && error.contains("--min-sqnr") && error.contains("again.plan"),
        "{error}"
    );
}

#[test]
fn what_is_wrong_with_labels_is_told_with_its_line() {
    let whole = Whole::get();
    let scratch = Scratch::new();
    let file = |name: &str, bytes: &[u8]| text(&scratch.write(name, bytes)).to_owned();
    let good = file("good.tsv", b"picture 0.png\tcat\npicture 1.png\tdog\n");
    let two = file("two.tsv", b"picture 0.png\tcat\npicture 0.png\tdog\n");
    let refused = |more: &[&str], code: i32, said: &str| {
        let args = whole.args();
        let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let output = cliptext(&args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{more:?}: {error}");
        assert!(error.contains(said) && output.stdout.is_empty(), "{said} in {error}");
    };
    for (bytes, said) in [
        (&b"picture 0.png\tcat\nnone.png\tdog\n"[..], "x.tsv: line 2: \"none.png\": no such picture in "),
        (
            b"picture 0.png\tcat\n../text/config.json\tdog\n",
            "x.tsv: line 2: \"../text/config.json\": no such",
        ),
        (b"picture 0.png\tcat\n\npicture 1.png\tdog\n", "x.tsv: line 2: an empty line"),
        (b"picture 0.png cat\n", "x.tsv: line 1: no tab"),
        (b"picture 0.png\tcat\tdog\n", "x.tsv: line 1: more than one tab"),
        (b"picture 0.png\t \n", "x.tsv: line 1: no text"),
        (b"\tcat\n", "x.tsv: line 1: no picture"),
        (
            b"picture 0.png\tcat\npicture 1.png\tcat\n./picture 0.png\tcat",
            "line 3: the same picture and text as in line 1",
        ),
        (b"picture 0.png\tcat\npicture 1.png\tcaf\xe9\n", "x.tsv: line 2: not UTF-8"),
        (b"", "x.tsv: holds no label"),
    ] {
        refused(&["--labels", &file("x.tsv", bytes)], 1, said);
    }
    let with = |option: &str, bytes: &[u8], said: &str| {
        refused(&["--labels", &good, option, &file("list.txt", bytes)], 1, said);
    };
    with("--classes", b"cat\n", "good.tsv: line 2: \"dog\" is not among the classes of ");
    with("--classes", b"cat\ndog\ncat\n", "list.txt: class 3 is class 1 again");
    with("--classes", b"cat\n\ndog\n", "list.txt: class 2 is empty");
    with("--templates", b"a photo of a {}\na photo\n", "list.txt: template 2 lacks {}");
    refused(
        &["--labels", &two, "--templates", &good],
        1,
        "two.tsv: line 2: a second text of the same picture",
    );
    refused(&["--labels", "nowhere.tsv"], 1, "nowhere.tsv");
    std::fs::copy(&good, whole.path("pictures").join("no picture.tsv")).unwrap();
    refused(
        &["--labels", &file("x.tsv", b"no picture.tsv\tcat\n")],
        1,
        "no picture.tsv: no picture that can be read",
    );
}

#[test]
fn plans_and_options_that_do_not_fit_are_refused() {
    let whole = Whole::get();
    let [text_plan, image_plan, model, pictures, clip] =
        ["text-int8.plan", "image-int8.plan", "clip", "pictures", "whole-int8.plan"]
            .map(|name| whole.path(name));
    let other = fixtures().join("images/vision");
    let labels = whole.scratch.write("one.tsv", b"picture 0.png\tcat\n");
    let [text_plan, image_plan, model, pictures, clip, other, labels] =
        [&text_plan, &image_plan, &model, &pictures, &clip, &other, &labels].map(|path| text(path));
    for (code, said, args) in [
        (2, "holds no image encoder's plan", vec![text_plan, model, "--images", pictures]),
        (2, "--prompts is about text encoders", vec![image_plan, model, "--prompts", labels]),
        (2, "--labels is about", vec![image_plan, model, "--images", pictures, "--labels", labels]),
        (2, "--image-plan", vec![image_plan, model, "--image-plan", image_plan]),
        (2, "--images", vec![clip, model, "--labels", labels]),
        (2, "--labels", vec![clip, model, "--images", pictures, "--classes", labels]),
        (2, "--report", vec![clip, model, "--images", pictures, "--labels", labels, "--report", labels]),
        (1, "no picture in this folder", vec![image_plan, model, "--images", other]),
        (1, "encodes texts", vec![text_plan, model, "--image-plan", text_plan]),
        (1, "no image encoder here", vec![image_plan, pictures]),
    ] {
        let output = cliptext(&[&["verify"], &args[..]].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(said), "{args:?}: {error}");
    }
}
