//! Names on the hub, against a server on loopback that behaves like it. Nothing here touches the network or the user's cache.

#[path = "hub/server.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use cliptext_compiler::ir::Modality;
use cliptext_compiler::progress::Progress;
use cliptext_compiler::source::hub::{HubName, Settings, fetch};
use cliptext_test_support::{Scratch, export, export_file, fixtures};
use prost::Message;
use server::{COMMIT, Fault, Gate, Hub, Repository, Request, hex};
use tract_onnx::pb::StringStringEntryProto;
use tract_onnx::pb::tensor_proto::DataLocation;

const CLIP: &[u8] = br#"{"architectures": ["CLIPTextModel"]}"#;
const T5: &[u8] = br#"{"architectures": ["T5EncoderModel"]}"#;
const INDEX: &[u8] = br#"{"_class_name": "FluxPipeline", "_diffusers_version": "0.30",
    "text_encoder": ["transformers", "CLIPTextModel"], "text_encoder_2": ["transformers", "T5EncoderModel"]}"#;

/// Not worth compressing, and no two parts alike.
fn weights(bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// As FLUX.1 is laid out.
fn flux() -> Repository {
    let large = weights(300_000);
    Repository::new(
        "black-forest/flux",
        &[
            (".gitattributes", b""),
            ("README.md", b"# Flux"),
            ("flux.safetensors", &large),
            ("model_index.json", INDEX),
            ("text_encoder/config.json", CLIP),
            ("text_encoder/model.safetensors", &large),
            ("text_encoder_2/config.json", T5),
            ("text_encoder_2/model-00001-of-00002.safetensors", &large),
            ("text_encoder_2/model-00002-of-00002.safetensors", &large),
            ("text_encoder_2/model.safetensors.index.json", b"{}"),
            ("tokenizer/merges.txt", b"#version: 0.2\na b\n"),
            ("tokenizer/vocab.json", b"{}"),
            ("tokenizer_2/tokenizer.json", b"{}"),
            ("transformer/config.json", b"{}"),
            ("transformer/diffusion_pytorch_model.safetensors", &large),
        ],
    )
}

/// A plain repository of one file.
fn plain() -> Repository {
    Repository::new("openai/clip", &[("config.json", CLIP), ("model.safetensors", &weights(1_000_000))])
}

struct Desk {
    hub: Hub,
    home: Scratch,
    settings: Settings,
}

impl Desk {
    fn with(repository: Repository) -> Self {
        let hub = Hub::start(vec![repository]);
        let home = Scratch::new();
        let settings = Settings {
            endpoint: hub.endpoint(),
            cache: home.path().join("hub"),
            token: None,
            trusts_endpoint: false,
            offline: false,
            timeout: Duration::from_secs(5),
            pause: Duration::from_millis(1),
        };
        Self { hub, home, settings }
    }

    fn fetch(&self, name: &str) -> anyhow::Result<PathBuf> {
        fetch(&HubName::parse(name)?, Modality::Text, &self.settings, &Progress::new(true))
    }

    fn refusal(&self, name: &str) -> String {
        let said = format!("{:#}", self.fetch(name).expect_err("a refusal"));
        assert!(said.contains(HubName::parse(name).unwrap().repository()), "it names the repository: {said}");
        assert!(!said.contains('\n'), "{said}");
        said
    }

    fn repository(&self, folder: &str) -> PathBuf {
        self.settings.cache.join(folder)
    }

    /// First bytes asked of the storage, in order.
    fn ranges(&self) -> Vec<usize> {
        let asked = self.hub.log().into_iter().filter(|request| request.storage);
        asked.map(|request| request.range.unwrap_or(0)).collect()
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

const FLUX_FILES: [&str; 5] = [
    "model_index.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
];

#[test]
fn a_pipeline_is_fetched_once_and_only_what_is_needed() {
    let desk = Desk::with(flux());
    let path = desk.fetch("hf:black-forest/flux").unwrap();
    let repository = desk.repository("models--black-forest--flux");
    assert_eq!(path, repository.join("snapshots").join(COMMIT));
    let mut expected = FLUX_FILES.to_vec();
    // What T5 is, is said by its configuration; its weights and tokenizer are left.
    expected.insert(3, "text_encoder_2/config.json");
    assert_eq!(files(&path), expected);
    for file in expected {
        assert!(fs::read(path.join(file)).unwrap() == flux().files[file], "{file}");
    }
    // As Python's tools lay it out.
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    let link = fs::read_link(path.join("text_encoder/model.safetensors")).unwrap();
    assert_eq!(link, Path::new("../../../blobs").join(hex(&weights(300_000))));
    assert_eq!(
        fs::read_link(path.join("model_index.json")).unwrap().parent(),
        Some(Path::new("../../blobs"))
    );
    assert!(files(&repository.join("blobs")).iter().all(|blob| !blob.contains('.')), "no part is left");

    let log = desk.hub.log();
    let stored: Vec<_> = log.iter().filter(|request| request.storage).collect();
    assert_eq!(stored.len(), 1, "{stored:?}");
    assert!(log.iter().all(|r| !r.path.contains("_2/model") && !r.path.contains("transformer")), "{log:?}");

    assert_eq!(desk.fetch("hf:black-forest/flux").unwrap(), path);
    let again = desk.hub.log();
    assert_eq!(again.len(), 1, "the listing only: {again:?}");
}

#[test]
fn parts_and_revisions() {
    let desk = Desk::with(flux());
    let snapshot = desk.repository("models--black-forest--flux/snapshots").join(COMMIT);
    let path = desk.fetch("hf:black-forest/flux@v1/text_encoder").unwrap();
    assert_eq!(path, snapshot.join("text_encoder"));
    assert_eq!(fs::read_to_string(desk.repository("models--black-forest--flux/refs/v1")).unwrap(), COMMIT);
    let path = desk.fetch("hf:black-forest/flux@refs/pr/3/flux.safetensors").unwrap();
    assert_eq!(path, snapshot.join("flux.safetensors"));
    assert!(desk.repository("models--black-forest--flux/refs/refs/pr/3").is_file());
    assert_eq!(desk.ranges(), [0], "both files have the same contents, so one blob");
    desk.fetch(&format!("hf:black-forest/flux@{COMMIT}")).unwrap();
    assert!(!desk.repository("models--black-forest--flux/refs").join(COMMIT).exists());

    for (name, said) in [
        ("hf:black-forest/flux/text_encoder_2", "text_encoder_2 is a T5EncoderModel"),
        ("hf:black-forest/flux/text_encoder_3", "no file or folder text_encoder_3"),
        ("hf:black-forest/flux@v9", "no branch, tag or commit v9"),
    ] {
        let error = desk.refusal(name);
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn the_token_goes_to_the_hub_only() {
    let mut repository = flux();
    repository.gate = Gate::Private("hf_secret");
    let mut desk = Desk::with(repository);
    desk.settings.token = Some("hf_secret".into());
    desk.fetch("hf:black-forest/flux").unwrap();
    let log = desk.hub.log();
    assert!(log.iter().any(|request| request.storage), "{log:?}");
    // Relative redirects stay with the hub.
    assert!(log.iter().any(|request| request.path.contains("resolve-cache")), "{log:?}");
    for Request { storage, token, path, .. } in log {
        assert_eq!(token.is_some(), !storage, "{path}");
    }
}

#[test]
fn a_repository_that_moved_is_followed() {
    let desk = Desk::with(flux());
    desk.hub.rename("old/name", "black-forest/flux");
    let path = desk.fetch("hf:old/name").unwrap();
    assert_eq!(path, desk.repository("models--old--name/snapshots").join(COMMIT));
    assert!(FLUX_FILES.iter().all(|file| path.join(file).is_file()));
}

#[test]
fn a_connection_cut_in_the_middle_is_resumed_in_the_same_run() {
    let desk = Desk::with(plain());
    desk.hub.fault("GET", "/model.safetensors?signed", 1, Fault::Cut(400_000));
    let path = desk.fetch("hf:openai/clip").unwrap();
    let ranges = desk.ranges();
    assert!(ranges.len() == 2 && ranges[0] == 0 && ranges[1] > 0 && ranges[1] <= 400_000, "{ranges:?}");
    assert!(fs::read(path.join("model.safetensors")).unwrap() == weights(1_000_000));
}

#[test]
fn every_cut_that_brought_something_on_is_resumed() {
    let desk = Desk::with(plain());
    desk.hub.fault("GET", "/model.safetensors?signed", 20, Fault::Cut(45_000));
    let path = desk.fetch("hf:openai/clip").unwrap();
    let ranges = desk.ranges();
    assert!(ranges.len() == 21 && ranges.is_sorted() && ranges[1] > 0, "{ranges:?}");
    assert!(fs::read(path.join("model.safetensors")).unwrap() == weights(1_000_000));
}

#[test]
fn what_was_cut_for_good_is_resumed_by_the_next_run() {
    let desk = Desk::with(plain());
    desk.hub.fault("GET", "/model.safetensors?signed", 1, Fault::Cut(400_000));
    desk.hub.fault("GET", "/model.safetensors?signed", 99, Fault::Cut(0));
    let said = desk.refusal("hf:openai/clip");
    assert!(said.contains("model.safetensors: cut at byte") && said.contains("run again"), "{said}");
    assert_eq!(desk.ranges().len(), 5);
    let snapshot = desk.repository("models--openai--clip/snapshots").join(COMMIT);
    assert!(!snapshot.join("model.safetensors").exists(), "what is not whole is not there");

    desk.hub.mend();
    let path = desk.fetch("hf:openai/clip").unwrap();
    let ranges = desk.ranges();
    assert!(ranges.len() == 1 && ranges[0] > 0 && ranges[0] <= 400_000, "{ranges:?}");
    assert!(fs::read(path.join("model.safetensors")).unwrap() == weights(1_000_000));
}

#[test]
fn a_server_that_stalls_is_left_and_asked_again() {
    let mut desk = Desk::with(plain());
    desk.settings.timeout = Duration::from_millis(300);
    desk.hub.fault("GET", "/model.safetensors?signed", 1, Fault::Stall(400_000));
    let path = desk.fetch("hf:openai/clip").unwrap();
    let ranges = desk.ranges();
    assert!(ranges.len() == 2 && ranges[1] > 0, "{ranges:?}");
    assert!(fs::read(path.join("model.safetensors")).unwrap() == weights(1_000_000));
}

#[test]
fn a_server_without_ranges_sends_all_of_it_again() {
    let desk = Desk::with(plain());
    desk.hub.fault("GET", "/model.safetensors?signed", 1, Fault::Cut(400_000));
    desk.hub.fault("GET", "/model.safetensors?signed", 1, Fault::NoRanges);
    let path = desk.fetch("hf:openai/clip").unwrap();
    assert_eq!(desk.ranges().len(), 2);
    assert!(fs::read(path.join("model.safetensors")).unwrap() == weights(1_000_000));
}

#[test]
fn a_file_of_unknown_size_is_fetched_whole() {
    let desk = Desk::with(plain());
    desk.hub.fault("HEAD", "/model.safetensors", 1, Fault::Header("x-linked-size", "many"));
    desk.hub.fault("GET", "/model.safetensors?signed", 1, Fault::Cut(400_000));
    let path = desk.fetch("hf:openai/clip").unwrap();
    assert_eq!(desk.ranges(), [0, 0]);
    assert!(fs::read(path.join("model.safetensors")).unwrap() == weights(1_000_000));
}

#[test]
fn a_part_that_does_not_belong_there_is_fetched_anew() {
    let right = weights(1_000_000);
    let longer = [&right[..], b"!"].concat();
    for (part, ranges) in [
        (&longer[..], &[0][..]),
        (&[7; 500_000][..], &[500_000, 0][..]),
        // Cut between the last byte and the renaming.
        (&right[..], &[][..]),
        (&[7; 1_000_000][..], &[0][..]),
    ] {
        let desk = Desk::with(plain());
        let blobs = desk.repository("models--openai--clip/blobs");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(format!("{}.part", hex(&right))), part).unwrap();
        let path = desk.fetch("hf:openai/clip").unwrap();
        assert_eq!(desk.ranges(), ranges);
        assert!(fs::read(path.join("model.safetensors")).unwrap() == right);
    }
}

#[test]
fn contents_that_are_not_those_of_the_name_do_not_stay() {
    let desk = Desk::with(plain());
    desk.hub.fault("GET", "/model.safetensors?signed", 99, Fault::Garbled);
    let said = desk.refusal("hf:openai/clip");
    assert!(said.contains("model.safetensors") && said.contains("SHA-256"), "{said}");
    let blobs = files(&desk.repository("models--openai--clip/blobs"));
    assert_eq!(blobs.len(), 1, "the configuration only: {blobs:?}");

    // Small files have git's hash.
    let desk = Desk::with(plain());
    desk.hub.fault("GET", "/config.json", 99, Fault::Garbled);
    let said = desk.refusal("hf:openai/clip");
    assert!(said.contains("config.json") && said.contains("git hash"), "{said}");
    assert!(files(&desk.repository("models--openai--clip/blobs")).is_empty());
    assert!(!desk.repository("models--openai--clip/snapshots").join(COMMIT).join("config.json").exists());
}

#[test]
fn a_list_of_files_that_was_cut_is_called_so() {
    for fault in [Fault::Cut(60), Fault::Short(60)] {
        let desk = Desk::with(plain());
        desk.hub.fault("GET", "/api/models", 1, fault.clone());
        assert!(desk.fetch("hf:openai/clip").is_ok(), "asked again");
        let desk = Desk::with(plain());
        desk.hub.fault("GET", "/api/models", 99, fault);
        let said = desk.refusal("hf:openai/clip");
        assert!(said.contains("the list of files was cut off") && !said.contains("HF_ENDPOINT"), "{said}");
    }
}

#[test]
fn a_token_is_not_sent_where_it_can_be_read_on_the_way() {
    let mut repository = plain();
    repository.gate = Gate::Private("hf_secret");
    let mut desk = Desk::with(repository);
    desk.settings.token = Some("hf_secret".into());
    assert!(desk.fetch("hf:openai/clip").is_ok());
    desk.hub.log();
    // This machine by an address that is not the loopback one.
    desk.settings.endpoint = format!("http://0.0.0.0:{}", desk.hub.address.port());
    desk.settings.trusts_endpoint = true;
    let said = desk.refusal("hf:openai/clip");
    assert!(said.contains("not sent to http://0.0.0.0") && said.contains("https"), "{said}");
    let log = desk.hub.log();
    assert!(!log.is_empty() && log.iter().all(|request| request.token.is_none()), "{log:?}");
}

#[test]
fn a_cache_that_is_whole_is_not_written_to() {
    let desk = Desk::with(plain());
    let path = desk.fetch("hf:openai/clip").unwrap();
    let state = || {
        let cache = &desk.settings.cache;
        let times = files(cache).into_iter().map(|file| {
            let modified = fs::symlink_metadata(cache.join(&file)).unwrap().modified().unwrap();
            (file, modified)
        });
        times.collect::<Vec<_>>()
    };
    let before = state();
    assert_eq!(desk.fetch("hf:openai/clip").unwrap(), path);
    assert_eq!(state(), before);
}

/// Everything in a cache that only its owner may write to, read by another user: nothing in it can be changed then.
#[cfg(target_os = "linux")]
#[test]
fn a_cache_that_can_t_be_written_to_serves() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffff";
    let model = fs::read(export_file("sd.tf523-torch215-ts.op14.static.i64", &Scratch::new())).unwrap();
    let desk = Desk::with(Repository::new("someone/onnx", &[("model.onnx", &model)]));
    let path = desk.fetch("hf:someone/onnx").unwrap();
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    // The program, too, where other users get at it.
    let program = desk.home.path().join("cliptext");
    fs::copy(env!("CARGO_BIN_EXE_cliptext"), &program).unwrap();
    let mut folders = vec![desk.settings.cache.clone()];
    while let Some(folder) = folders.pop() {
        let inside = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
        folders.extend(inside.filter(|entry| entry.file_type().unwrap().is_dir()).map(|entry| entry.path()));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    }
    fs::set_permissions(desk.home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let run = |revision: &str| {
        let mut command = Command::new(&program);
        command.args(["inspect-model", &format!("hf:someone/onnx@{revision}")]).current_dir(desk.home.path());
        command.env_clear().env("HF_HOME", desk.home.path()).env("HF_ENDPOINT", desk.hub.endpoint());
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{revision}: {said}");
        said
    };
    assert!(!run("main").contains("note"), "nothing to be said");
    assert!(run("v1").contains("refs/v1: cannot be written"), "the name is not known, the files are");
    // The hub has gone on.
    let reference = desk.repository("models--someone--onnx/refs/main");
    fs::set_permissions(reference.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    let older = path.with_file_name(OTHER);
    fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&path, &older).unwrap();
    fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o555)).unwrap();
    fs::write(&reference, OTHER).unwrap();
    let said = run("main");
    assert!(said.contains("used as the cache has it"), "{said}");
    for folder in [path.parent().unwrap(), reference.parent().unwrap(), &older] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// An export with one of its weights in a file of this name; and that file's bytes.
fn apart(location: &str) -> (Vec<u8>, Vec<u8>) {
    let mut model = export("sd.tf523-torch215-ts.op14.static.i64");
    let tensors = &mut model.graph.as_mut().unwrap().initializer;
    let tensor = tensors.iter_mut().find(|tensor| tensor.dims == [16, 64]).unwrap();
    let entry = StringStringEntryProto { key: "location".into(), value: location.into() };
    tensor.data_location = Some(DataLocation::External as i32);
    tensor.external_data = vec![entry];
    let data = std::mem::take(&mut tensor.raw_data);
    (model.encode_to_vec(), data)
}

#[test]
fn external_data_are_found_by_what_the_model_says() {
    for (location, file) in [
        ("weights.pb", "text_encoder/weights.pb"),
        ("./data/0f3a", "text_encoder/data/0f3a"),
        ("model.onnx_data", "text_encoder/model.onnx_data"),
    ] {
        let (model, data) = apart(location);
        let others: [(&str, &[u8]); 3] = [
            ("text_encoder/model.onnx", &model),
            ("text_encoder/model.onnx.data", b"of another export"),
            (file, &data),
        ];
        let mut desk = Desk::with(Repository::new("someone/onnx", &others));
        let path = desk.fetch("hf:someone/onnx").unwrap();
        let mut expected = vec![file.to_owned(), "text_encoder/model.onnx".into()];
        expected.sort();
        assert_eq!(files(&path), expected, "{location}");
        assert!(fs::read(path.join(file)).unwrap() == data);
        desk.settings.offline = true;
        assert_eq!(desk.fetch("hf:someone/onnx").unwrap(), path);
        fs::remove_file(path.join(file)).unwrap();
        let said = desk.refusal("hf:someone/onnx");
        assert!(said.contains(location), "{said}");
    }
    for location in ["../../model.bin", "/etc/passwd", "absent.bin"] {
        let (model, _) = apart(location);
        let desk =
            Desk::with(Repository::new("someone/onnx", &[("model.onnx", &model), ("model.bin", b"x")]));
        let said = desk.refusal("hf:someone/onnx");
        assert!(said.contains(location) && said.contains("model.onnx"), "{said}");
        assert!(desk.hub.log().iter().all(|request| !request.path.contains("model.bin")));
    }
}

#[test]
fn a_busy_hub_is_asked_again() {
    let desk = Desk::with(plain());
    desk.hub.fault("GET", "/api/models", 1, Fault::Status(429, "retry-after: 0\r\n"));
    desk.hub.fault("GET", "/api/models", 1, Fault::Status(503, ""));
    desk.hub.fault("HEAD", "/resolve/", 2, Fault::Status(500, ""));
    desk.hub.fault("GET", "/model.safetensors?signed", 2, Fault::Status(503, ""));
    let path = desk.fetch("hf:openai/clip").unwrap();
    assert!(path.join("model.safetensors").is_file());

    // What is in the cache is used while the hub is down.
    desk.hub.log();
    desk.hub.fault("GET", "/api/models", 5, Fault::Status(504, ""));
    assert_eq!(desk.fetch("hf:openai/clip").unwrap(), path);
    assert_eq!(desk.hub.log().len(), 5);
    fs::remove_file(path.join("model.safetensors")).unwrap();
    desk.hub.fault("GET", "/api/models", 5, Fault::Status(502, "x-error-message: resting\r\n"));
    let said = desk.refusal("hf:openai/clip");
    assert!(said.contains("502") && said.contains("resting"), "{said}");
    assert_eq!(desk.hub.log().len(), 5);
}

#[test]
fn whoever_may_not_read_is_told_what_to_set() {
    let mut repository = plain();
    repository.gate = Gate::Private("hf_right");
    let mut desk = Desk::with(repository);
    let said = desk.refusal("hf:openai/clip");
    assert!(said.contains("HF_TOKEN") && said.contains("private"), "{said}");
    desk.settings.token = Some("hf_wrong".into());
    let said = desk.refusal("hf:openai/clip");
    assert!(said.contains("did not accept the token") && !said.contains("hf_wrong"), "{said}");

    let mut repository = plain();
    repository.gate = Gate::Gated("hf_right");
    let mut desk = Desk::with(repository);
    let said = desk.refusal("hf:openai/clip");
    assert!(
        said.contains("HF_TOKEN") && said.contains("conditions") && said.contains(&desk.settings.endpoint)
    );
    desk.settings.token = Some("hf_wrong".into());
    let said = desk.refusal("hf:openai/clip");
    assert!(said.contains("has no access"), "{said}");
    assert_eq!(files(&desk.settings.cache.join("models--openai--clip/snapshots")), [""; 0]);
    desk.settings.token = Some("hf_right".into());
    assert!(desk.fetch("hf:openai/clip").is_ok());
}

#[test]
fn what_is_not_there_is_named() {
    let mut desk = Desk::with(plain());
    let said = desk.refusal("hf:openai/nothing");
    assert!(said.contains("no such repository, or a private one"), "{said}");
    desk.settings.token = Some("hf_any".into());
    let said = desk.refusal("hf:openai/nothing");
    assert!(said.contains("there is no openai/nothing"), "{said}");
    let said = desk.refusal("hf:openai/clip@v9");
    assert!(said.contains("no branch, tag or commit v9"), "{said}");
    let said = desk.refusal("hf:openai/clip/text.safetensors");
    assert!(said.contains("text.safetensors") && said.contains("config.json, model.safetensors"), "{said}");
    desk.hub.fault("HEAD", "/config.json", 1, Fault::Status(404, "x-error-code: EntryNotFound\r\n"));
    let said = desk.refusal("hf:openai/clip");
    assert!(said.contains("no file config.json at main"), "{said}");
}

#[test]
fn offline_is_the_cache_alone() {
    let mut desk = Desk::with(flux());
    desk.settings.offline = true;
    let said = desk.refusal("hf:black-forest/flux");
    assert!(said.contains("HF_HUB_OFFLINE") && said.contains("nothing of black-forest/flux@main"), "{said}");
    assert!(said.contains(desk.settings.cache.to_str().unwrap()), "{said}");

    desk.settings.offline = false;
    let path = desk.fetch("hf:black-forest/flux").unwrap();
    desk.hub.log();
    desk.settings.offline = true;
    assert_eq!(desk.fetch("hf:black-forest/flux").unwrap(), path);
    assert_eq!(desk.fetch("hf:black-forest/flux/text_encoder").unwrap(), path.join("text_encoder"));
    // A commit needs no ref.
    assert_eq!(desk.fetch(&format!("hf:black-forest/flux@{COMMIT}")).unwrap(), path);
    assert!(desk.refusal("hf:black-forest/flux@v1").contains("nothing of black-forest/flux@v1"));
    fs::remove_file(path.join("text_encoder/model.safetensors")).unwrap();
    let said = desk.refusal("hf:black-forest/flux");
    assert!(said.contains("not whole") && said.contains("text_encoder"), "{said}");
    assert_eq!(desk.hub.log(), [], "nobody was asked");
}

#[test]
fn without_a_network_the_cache_serves() {
    let mut desk = Desk::with(flux());
    let path = desk.fetch("hf:black-forest/flux").unwrap();
    // Nobody listens at the port of a listener that has gone.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    desk.settings.endpoint = format!("http://{gone}");
    assert_eq!(desk.fetch("hf:black-forest/flux").unwrap(), path);
    let said = desk.refusal("hf:openai/clip");
    assert!(said.contains("cannot reach") && said.contains("HF_HUB_OFFLINE=1"), "{said}");
    assert!(said.contains(&gone.to_string()) && said.contains("HTTPS_PROXY"), "{said}");
}

#[test]
fn what_another_tool_has_fetched_is_found() {
    // Its cache: blobs and links to them; a file's contents are known although another commit brought them.
    let desk = Desk::with(plain());
    let repository = desk.repository("models--openai--clip");
    let old = repository.join("snapshots/ffffffffffffffffffffffffffffffffffffffff");
    fs::create_dir_all(&old).unwrap();
    fs::create_dir_all(repository.join("blobs")).unwrap();
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), "ffffffffffffffffffffffffffffffffffffffff").unwrap();
    let blob = repository.join("blobs").join(hex(&weights(1_000_000)));
    fs::write(&blob, weights(1_000_000)).unwrap();
    std::os::unix::fs::symlink(&blob, old.join("model.safetensors")).unwrap();
    let path = desk.fetch("hf:openai/clip").unwrap();
    assert_eq!(desk.ranges(), [0; 0]);
    assert!(fs::read(path.join("model.safetensors")).unwrap() == weights(1_000_000));
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
}

#[test]
fn two_at_once_fetch_once() {
    let desk = Desk::with(plain());
    std::thread::scope(|scope| {
        let both = [0, 1].map(|_| scope.spawn(|| desk.fetch("hf:openai/clip").unwrap()));
        for one in both {
            let path = one.join().unwrap();
            assert!(fs::read(path.join("model.safetensors")).unwrap() == weights(1_000_000));
        }
    });
    assert_eq!(desk.ranges(), [0]);
}

#[test]
fn a_hub_that_lies_writes_nothing_elsewhere() {
    let mut desk = Desk::with(plain());
    for (header, value) in [("etag", "\"../../../evil\""), ("etag", "\"\""), ("etag", "\"/tmp/evil\"")] {
        desk.hub.fault("HEAD", "resolve-cache", 1, Fault::Header(header, value));
        let said = desk.refusal("hf:openai/clip");
        assert!(said.contains("no ETag"), "{said}");
    }
    desk.hub.fault("HEAD", "/clip/resolve/", 99, Fault::Status(307, "location: /openai/clip/resolve/x\r\n"));
    assert!(desk.refusal("hf:openai/clip").contains("redirects"));
    desk.hub.mend();
    desk.hub.fault("GET", "/model.safetensors?signed", 1, Fault::Status(304, ""));
    assert!(desk.refusal("hf:openai/clip").contains("304"));
    desk.hub.fault("GET", "/api/models", 1, Fault::Status(200, ""));
    assert!(desk.refusal("hf:openai/clip").contains("HF_ENDPOINT"));
    desk.hub.fault("GET", "/model.safetensors?signed", 1, Fault::Cut(400_000));
    desk.hub.fault(
        "GET",
        "/model.safetensors?signed",
        1,
        Fault::Header("content-range", "bytes 999999-999999/1000000"),
    );
    assert!(desk.refusal("hf:openai/clip").contains("got 999999"));

    let mut repository = plain();
    repository.commit = "../../../evil";
    desk = Desk::with(repository);
    assert!(desk.refusal("hf:openai/clip").contains("is no commit"));
    let mut repository = plain();
    for name in ["../../../evil/config.json", "/evil/config.json", "text_encoder/../evil"] {
        repository.files.insert(name.into(), CLIP.to_vec());
    }
    desk = Desk::with(repository);
    let path = desk.fetch("hf:openai/clip").unwrap();
    assert_eq!(files(&path), ["config.json", "model.safetensors"]);
    assert!(files(desk.home.path()).iter().all(|file| !file.contains("evil")));
}

/// The program with an environment of its own.
fn program(desk: &Desk, variables: &[(&str, &str)], args: &[&str]) -> Command {
    let home = desk.home.path();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cliptext"));
    for name in ["HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        command.env_remove(name);
    }
    command.env("HF_HOME", home).env("HF_ENDPOINT", desk.hub.endpoint()).envs(variables.iter().copied());
    command.args(args);
    command
}

fn cliptext(desk: &Desk, variables: &[(&str, &str)], args: &[&str]) -> Output {
    program(desk, variables, args).output().unwrap()
}

/// `.ci/faults` asks for more turns.
#[test]
fn a_download_that_is_killed_at_any_moment_leaves_nothing_half_under_its_name() {
    const BYTES: usize = 16_000_000;
    let turns: u32 = std::env::var("CLIPTEXT_KILLS").map_or(8, |number| number.parse().unwrap());
    let mut repository = plain();
    repository.files.insert("model.safetensors".into(), weights(BYTES));
    let desk = Desk::with(repository);
    // What comes is no model, which is found out once all of it is there.
    let args = ["inspect-model", "hf:openai/clip"];
    let start = std::time::Instant::now();
    cliptext(&desk, &[], &args);
    let whole = start.elapsed();
    let (mut killed, mut cut) = (0, 0);
    for turn in 0..turns {
        // Every other one goes on from where the one before was killed.
        if turn % 2 == 0 {
            fs::remove_dir_all(&desk.settings.cache).unwrap();
        }
        let mut child = program(&desk, &[], &args).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole * (turn * 5 % turns) / turns);
        child.kill().unwrap();
        killed += u32::from(child.wait().unwrap().code().is_none());
        let found = files(&desk.settings.cache);
        for file in found.iter().filter(|file| file.ends_with("/model.safetensors")) {
            assert_eq!(
                fs::metadata(desk.settings.cache.join(file)).unwrap().len(),
                BYTES as u64,
                "turn {turn}"
            );
        }
        cut += u32::from(found.iter().any(|file| file.ends_with(".part")));
        let left = found.iter().filter(|file| file.ends_with(".tmp") || file.ends_with(".part")).count();
        assert!(left <= 2, "turn {turn}: {found:?}");
    }
    assert!(killed > 0 && cut > 0, "nothing was killed while it came: {killed}, {cut}");
    let path = desk.fetch("hf:openai/clip").unwrap();
    assert!(fs::read(path.join("model.safetensors")).unwrap() == weights(BYTES));
    assert!(!files(&desk.settings.cache).iter().any(|file| file.ends_with(".part")));
}

#[test]
fn compile_takes_a_name_and_makes_the_plan_of_the_file() {
    const SMALL: &str = "sd.tf523-torch215-ts.op14.static.i64";
    let scratch = Scratch::new();
    let model = export_file(SMALL, &scratch);
    // The same, with a weight in a file of its own.
    let (apart, data) = apart("model.onnx_data");
    let mut repository = Repository::new(
        "someone/onnx",
        &[
            ("text_encoder/model.onnx", &apart),
            ("text_encoder/model.onnx_data", &data),
            ("tokenizer/merges.txt", b"#version: 0.2\na b\n"),
        ],
    );
    repository.gate = Gate::Private("hf_saved");
    let desk = Desk::with(repository);
    // Two names of equal files: the plan records the name of the last step.
    let here = scratch.write("model.onnx", &fs::read(&model).unwrap());
    let plan = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let compile = |variables: &[(&str, &str)], model: &str, plan: &str| {
        cliptext(&desk, variables, &["compile", model, "-o", plan])
    };
    let name = "hf:someone/onnx@main/text_encoder/model.onnx";
    let refused = compile(&[], name, &plan("none.plan"));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("HF_TOKEN"), "{said}");

    // The token that `hf auth login` saved.
    fs::write(desk.home.path().join("token"), "hf_saved\n").unwrap();
    let output = compile(&[], name, &plan("hub.plan"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(!said.contains('\r') && !said.contains('%'), "no progress bar without a terminal: {said}");
    assert!(compile(&[], here.to_str().unwrap(), &plan("file.plan")).status.success());
    assert!(fs::read(plan("hub.plan")).unwrap() == fs::read(plan("file.plan")).unwrap());

    desk.hub.log();
    let offline = [("HF_HUB_OFFLINE", "1")];
    assert!(compile(&offline, name, &plan("offline.plan")).status.success());
    let refused = compile(&offline, "hf:someone/other", &plan("none.plan"));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("HF_HUB_OFFLINE"), "{said}");
    assert_eq!(desk.hub.log(), [], "nobody was asked");
    assert!(!Path::new(&plan("none.plan")).exists());
}

#[test]
fn compile_takes_an_image_encoder_by_its_name() {
    let folder = fixtures().join("images/clip");
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let names = ["config.json", "model.safetensors", "preprocessor_config.json"];
    let wanted = names.map(read);
    let others: [(&str, &[u8]); 2] = [("merges.txt", b"#version: 0.2\na b\n"), ("tf_model.h5", &[0; 5000])];
    let files: Vec<_> = names.iter().copied().zip(wanted.iter().map(Vec::as_slice)).chain(others).collect();
    let desk = Desk::with(Repository::new("someone/clip", &files));
    let plan = |name: &str| desk.home.path().join(name).to_str().unwrap().to_owned();
    let compile = |variables: &[(&str, &str)], model: &str, plan: &str| {
        let output = cliptext(&desk, variables, &["compile", model, "-o", plan, "--image", "--force"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    compile(&[], "hf:someone/clip", &plan("hub.plan"));
    compile(&[], folder.to_str().unwrap(), &plan("folder.plan"));
    assert!(fs::read(plan("hub.plan")).unwrap() == fs::read(plan("folder.plan")).unwrap());
    let fetched = files_of(&desk.hub.log());
    assert!(names.iter().all(|name| fetched.iter().any(|file| file.ends_with(name))), "{fetched:?}");
    assert!(
        !fetched.iter().any(|file| file.ends_with("merges.txt") || file.ends_with("tf_model.h5")),
        "{fetched:?}"
    );
    compile(&[("HF_HUB_OFFLINE", "1")], "hf:someone/clip", &plan("offline.plan"));
    assert_eq!(desk.hub.log(), [], "nobody was asked");
}

/// Paths of the requests.
fn files_of(log: &[Request]) -> Vec<String> {
    log.iter().map(|request| request.path.clone()).collect()
}
