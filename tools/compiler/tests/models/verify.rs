//! `cliptext verify`: figures, exit codes, the page in a real browser, the UNet.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cliptext_synthetic::{Options, generate};
use cliptext_test_support::{Scratch, fixtures};
use serde_json::Value;

use super::common::*;

fn cliptext(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cliptext")).args(args).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A model of Stable Diffusion 1's width with few layers and words, and its plan.
fn wide(scratch: &Scratch, more: &[&str]) -> (PathBuf, PathBuf) {
    made(&Options { layers: 2, vocab: 600, ..Options::default() }, scratch, more)
}

fn made(options: &Options, scratch: &Scratch, more: &[&str]) -> (PathBuf, PathBuf) {
    let folder = write_component(&scratch.path().join("wide"), &generate(options));
    let plan = scratch.path().join("wide.plan");
    let merges = merges();
    let mut args = vec!["compile", text(&folder), "-o", text(&plan), "--vocab", text(&merges), "--quiet"];
    args.extend(more);
    let output = cliptext(&args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (folder, plan)
}

#[test]
fn a_plan_is_measured_by_layer_position_prompt_channel_and_through_a_unet() {
    let scratch = Scratch::new();
    let (folder, plan) = wide(&scratch, &[]);
    let report = scratch.path().join("figures.json");
    let unet = fixtures().join("unet.onnx");
    let args = ["verify", text(&plan), text(&folder), "--unet", text(&unet), "--report", text(&report)];
    let output = cliptext(&args);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for part in ["SQNR", "prompt-specific", "cosine", "layer 2", "positions", "worst", "UNet"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    let found: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let figures = &found["figures"];
    assert_eq!(figures["layers"].as_array().unwrap().len(), 3);
    assert_eq!(figures["positions"].as_array().unwrap().len(), 77);
    let prompts = figures["prompts"].as_array().unwrap();
    assert_eq!(prompts.len(), 24);
    assert!(prompts.is_sorted_by(|a, b| a["sqnr_db"].as_f64() <= b["sqnr_db"].as_f64()), "worst first");
    let sqnr = figures["hidden"]["sqnr_db"].as_f64().unwrap();
    let specific = figures["prompt_specific_db"].as_f64().unwrap();
    assert!(sqnr > 20.0 && specific > 8.0 && specific < sqnr, "{sqnr} {specific}");
    let unet = &found["unet"];
    assert_eq!(unet["runs"], 72);
    let (output, guidance) = (unet["sqnr_db"].as_f64().unwrap(), unet["guidance_sqnr_db"].as_f64().unwrap());
    assert!(output > 15.0 && guidance < output, "{output} {guidance}");
    let steps = found["steps"].as_array().unwrap();
    assert!(steps.iter().any(|step| step["name"] == "MLP out" && step["layer"] == 2));
    assert!(steps.iter().all(|step| step["ms"].as_f64().unwrap() >= 0.0));
}

#[test]
fn an_f32_plan_is_the_model_and_min_sqnr_decides_the_exit_code() {
    let scratch = Scratch::new();
    let (folder, plan) = wide(&scratch, &["--precision", "f32"]);
    let prompts = scratch.write("prompts.txt", "a cat\na dog\n".as_bytes());
    let verify = |least: &str| {
        let (plan, folder, prompts) = (text(&plan), text(&folder), text(&prompts));
        cliptext(&["verify", plan, folder, "--prompts", prompts, "--min-sqnr", least, "--quiet"])
    };
    let good = verify("100");
    assert!(good.status.success() && good.stdout.is_empty(), "{}", String::from_utf8_lossy(&good.stderr));
    let bad = verify("300");
    let error = String::from_utf8(bad.stderr).unwrap();
    assert_eq!(bad.status.code(), Some(1), "{error}");
    assert!(error.contains("wide.plan") && error.contains("300") && error.contains("--min-sqnr"), "{error}");
}

#[test]
fn calibration_budget_and_quality_are_the_users() {
    let scratch = Scratch::new();
    let bytes = |more: &[&str]| {
        let (_, plan) = made(&small(64, 1, 3), &scratch, more);
        std::fs::read(plan).unwrap()
    };
    let usual = bytes(&[]);
    assert!(
        bytes(&["--quality", "fast", "--budget", "1%"]) == usual,
        "the defaults, and the same bytes again"
    );
    let prompts = scratch.write("own.json", "[\"a cat\", \"a dog in the rain\"]".as_bytes());
    let own = bytes(&["--calibrate", text(&prompts)]);
    assert!(own != usual && own.len() == usual.len(), "another calibration rounds otherwise");
    let none = bytes(&["--budget", "0%"]);
    let most = bytes(&["--budget", "5%"]);
    assert!(none.len() < usual.len() && usual.len() < most.len());
    assert!(bytes(&["--quality", "best"]) != usual);
    let merges = merges();
    let folder = scratch.path().join("wide");
    let plan = scratch.path().join("other.plan");
    let with = |more: [&str; 2]| {
        let args = ["compile", text(&folder), "-o", text(&plan), "--vocab", text(&merges), "--quiet"];
        let output = cliptext(&[&args[..], &more].concat());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (more, code, said) in [
        (["--calibrate", "nowhere.txt"], 1, "nowhere.txt"),
        (["--budget", "1000%"], 2, "budget"),
        (["--budget", "much"], 2, "budget"),
        (["--quality", "perfect"], 2, "quality"),
    ] {
        let (found, error) = with(more);
        assert_eq!(found, Some(code), "{more:?}: {error}");
        assert!(error.contains(said), "{more:?}: {error}");
    }
    assert!(!plan.exists());
}

#[test]
fn both_of_two_towers_are_measured() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("xl");
    write_component(&folder.join("text_encoder"), &like_l());
    write_component(&folder.join("text_encoder_2"), &like_big_g());
    let (plan, report, merges) = (scratch.path().join("xl.plan"), scratch.path().join("xl.json"), merges());
    let options = ["--preset", "sdxl", "--quiet"];
    let compile = ["compile", text(&folder), "-o", text(&plan), "--vocab", text(&merges)];
    let output = cliptext(&[&compile[..], &options].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let verify = ["verify", text(&plan), text(&folder), "--report", text(&report), "--min-sqnr", "20"];
    let output = cliptext(&[&verify[..], &options].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let layers = found["figures"]["layers"].as_array().unwrap();
    let towers: Vec<(u64, u64)> = layers
        .iter()
        .map(|layer| (layer["tower"].as_u64().unwrap(), layer["layer"].as_u64().unwrap()))
        .collect();
    // Of the first the penultimate states only; of the second all layers, for the pooled row.
    assert_eq!(towers, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
    assert!(layers.iter().all(|layer| layer["sqnr_db"].as_f64().unwrap() > 20.0));
    assert!(found["figures"]["pooled"]["sqnr_db"].as_f64().unwrap() > 15.0);
    // With one tower chosen the plan is not the model's.
    let one = cliptext(&[&verify[..], &["--tower", "text_encoder_2"], &options].concat());
    assert_eq!(one.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&one.stderr).contains("--tower"));
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let scratch = Scratch::new();
    let (folder, plan) = wide(&scratch, &["--hidden", "1", "--pooled", "none"]);
    let fails = |args: &[&str]| {
        let output = cliptext(args);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let other = fails(&["verify", text(&plan), text(&folder), "--quiet"]);
    assert!(other.contains("--hidden") && other.contains("wide.plan"), "{other}");
    let none = fails(&["verify", text(&folder.join("config.json")), text(&folder), "--quiet"]);
    assert!(none.contains("config.json"), "{none}");
    let empty = scratch.write("none.txt", b"\n\n");
    let args = ["verify", text(&plan), text(&folder), "--hidden", "1", "--pooled", "none", "--quiet"];
    let no_prompt = fails(&[&args[..], &["--prompts", text(&empty)]].concat());
    assert!(no_prompt.contains("none.txt") && no_prompt.contains("prompt"), "{no_prompt}");
    let model = fixtures().join("refused/vision.onnx");
    let no_unet = fails(&[&args[..], &["--unet", text(&model)]].concat());
    assert!(no_unet.contains("vision.onnx"), "{no_unet}");
    assert!(cliptext(&args).status.success());
}

/// A browser that can run without a screen; the gate installs one and sets the variable, so that there it must be found.
fn browser() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CLIPTEXT_BROWSER") {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|program| program.is_file())
}

/// The colours of a picture: width, height, and `[r, g, b]` of each pixel.
fn pixels(path: &Path) -> (usize, usize, Vec<[u8; 3]>) {
    let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    let channels = info.color_type.samples();
    let pixels = bytes[..info.buffer_size()].chunks(channels).map(|pixel| [pixel[0], pixel[1], pixel[2]]);
    (info.width as usize, info.height as usize, pixels.collect())
}

#[test]
fn the_page_shows_in_a_browser_light_and_dark() {
    let scratch = Scratch::new();
    let (folder, plan) = wide(&scratch, &[]);
    let page = scratch.path().join("report.html");
    let unet = fixtures().join("unet.onnx");
    let args = ["verify", text(&plan), text(&folder), "--unet", text(&unet), "--report", text(&page)];
    assert!(cliptext(&args).status.success());
    let verified = std::fs::read_to_string(&page).unwrap();
    assert!(verified.contains("UNet") && !verified.contains("smoothing"));
    // The compiler's own page has that and the distributions.
    wide(&scratch, &["--report", text(&page)]);
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains("Before and after smoothing") && html.contains("Inputs of: MLP in"));
    assert!(html.matches("<svg").count() >= 11 && html.contains("prefers-color-scheme: dark"));
    for outside in ["http://", "https://", "<script", "@import", "url(", "NaN", "inf<"] {
        assert!(!html.contains(outside), "{outside} in the page");
    }
    let Some(browser) = browser() else {
        println!("no browser here (CLIPTEXT_BROWSER): the page was not rendered");
        return;
    };
    let rendered = |more: &[&str]| {
        let output = Command::new(&browser)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--window-size=1000,2400",
            ])
            .args(more)
            .arg(format!("--user-data-dir={}", scratch.path().join("profile").display()))
            .arg(format!("file://{}", page.display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let dom = String::from_utf8(rendered(&["--dump-dom"])).unwrap();
    assert_eq!(dom.matches("<polyline").count(), html.matches("<polyline").count());
    let mut papers = Vec::new();
    for (name, scheme) in [("light", "1"), ("dark", "0")] {
        let picture = scratch.path().join(format!("{name}.png"));
        let (shot, setting) = (
            format!("--screenshot={}", picture.display()),
            format!("--blink-settings=preferredColorScheme={scheme}"),
        );
        rendered(&[&shot, &setting]);
        let (width, height, pixels) = pixels(&picture);
        assert_eq!((width, height), (1000, 2400));
        let paper = pixels[0];
        let inked = pixels.iter().filter(|pixel| **pixel != paper).count();
        assert!(inked > pixels.len() / 50, "{name}: only {inked} pixels are not paper");
        // The first line's colour is there, in quantity: the plots are drawn.
        let line = if name == "light" { [0x1f, 0x6f, 0xeb] } else { [0x6a, 0xa6, 0xff] };
        let drawn = pixels.iter().filter(|pixel| **pixel == line).count();
        assert!(drawn > 2000, "{name}: {drawn} pixels of the first colour");
        papers.push(paper);
    }
    assert!(papers[0][0] > 200 && papers[1][0] < 60, "{papers:?}");
}
