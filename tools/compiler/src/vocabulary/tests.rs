//! Vocabularies as users hold them, right and wrong. Most are a few merges: the rules do not depend on their number.

use std::fs;
use std::path::Path;

use cliptext::tokenizer::table::{BASE_TOKENS, Layout, MAX_TOKEN, field};
use cliptext::tokenizer::{Padding, Tokenizer};
use serde_json::{Value, json};

use super::definition::{END, START, WORD_END};
use super::*;

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("cliptext-vocabulary-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary folder can be written");
        Folder(path)
    }

    fn with(self, name: &str, text: impl AsRef<str>) -> Folder {
        fs::write(self.0.join(name), text.as_ref()).expect("the temporary folder can be written");
        self
    }

    fn build(&self, name: &str) -> Result<VocabularyTable> {
        build(VocabularySource::Path(self.0.join(name)), &[])
    }

    /// What is wrong, in one line.
    #[track_caller]
    fn error(&self, name: &str) -> String {
        format!("{:#}", self.build(name).map(|_| ()).expect_err("the vocabulary is wrong"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn encode(table: &VocabularyTable, text: &str) -> Vec<u32> {
    let ids = table.read(|vocabulary| {
        Tokenizer::new(vocabulary, 77, Padding::End).expect("77 is fine").encode(text).unpadded().to_vec()
    });
    ids.expect("build has loaded it already")
}

fn standard() -> VocabularyTable {
    build(VocabularySource::Standard, &[]).expect("the standard vocabulary is right")
}

const MERGES: &str = "#version: 0.2\na b\nb c</w>\nab c</w>\nl o\nlo l</w>\n";

/// The ids that `MERGES` implies, as a vocab.json has them.
fn vocab() -> serde_json::Map<String, Value> {
    let mut texts = Vec::new();
    for end in ["", WORD_END] {
        texts.extend(tokens::byte_characters().into_iter().map(|(_, c)| format!("{c}{end}")));
    }
    texts.extend(MERGES.lines().skip(1).map(|line| line.replace(' ', "")));
    texts.extend([START, END].map(String::from));
    texts.into_iter().zip(0..).map(|(text, id): (String, u32)| (text, id.into())).collect()
}

fn json_text(value: impl serde::Serialize) -> String {
    serde_json::to_string(&value).expect("plain JSON")
}

/// A tokenizer.json around `MERGES`.
fn tokenizer_json(change: impl FnOnce(&mut Value)) -> String {
    tokenizer_json_of(&vocab(), MERGES, change)
}

/// A tokenizer.json around other merges.
fn tokenizer_json_of(
    vocab: &serde_json::Map<String, Value>,
    merges: &str,
    change: impl FnOnce(&mut Value),
) -> String {
    let merges: Vec<&str> = merges.lines().skip(1).collect();
    let special = |id: u32, text: &str| {
        json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    let words =
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    let mut value = json!({
        "version": "1.0",
        "added_tokens": [special(517, START), special(518, END)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
            {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": words}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
        "post_processor": {"type": "RobertaProcessing", "sep": [END, 518], "cls": [START, 517],
            "trim_offsets": false, "add_prefix_space": false},
        "model": {"type": "BPE", "dropout": null, "unk_token": END, "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges},
    });
    change(&mut value);
    json_text(value)
}

#[test]
fn the_checked_in_table_is_up_to_date() {
    let checked_in = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/clip.vocab"));
    let same = checked_in.expect("the table is checked in") == standard().bytes;
    assert!(same, "run `cargo run -p cliptext-compiler --example build_vocabulary`");
}

#[test]
fn the_standard_vocabulary_is_clips() {
    let table = standard();
    assert_eq!((table.size, table.start_id, table.end_id, table.pad_id), (49_408, 49_406, 49_407, None));
    assert_eq!(table.bytes.len() % 64, 0);
    assert_eq!(encode(&table, "a running dog"), [49_406, 320, 2761, 1929, 49_407]);
    let tokens = tokens::number(&files::standard().expect("shipped")).expect("valid");
    assert!(tokens.reachable.iter().all(|&reachable| reachable), "each token encodes to itself");
    assert_eq!(tokens.bytes.iter().map(|(bytes, _)| bytes.len()).max(), Some(MAX_TOKEN));
}

#[test]
fn all_forms_of_a_vocabulary_give_the_same_table() {
    let pairs = tokenizer_json(|json| {
        json["model"]["merges"] =
            json!([["a", "b"], ["b", "c</w>"], ["ab", "c</w>"], ["l", "o"], ["lo", "l</w>"]]);
    });
    let folder = Folder::new("forms")
        .with("merges.txt", MERGES)
        .with("crlf.txt", MERGES.replace('\n', "\r\n"))
        .with("vocab.json", json_text(vocab()))
        .with("tokenizer.json", tokenizer_json(|_| {}))
        .with("pairs.json", pairs);
    let table = folder.build("merges.txt").expect("right");
    assert_eq!(table.size, BASE_TOKENS + 5 + 2);
    assert_eq!(encode(&table, "abc lol"), [517, 514, 516, 518]);
    for name in ["", "crlf.txt", "tokenizer.json", "pairs.json"] {
        assert!(folder.build(name).expect(name).bytes == table.bytes, "{name}");
    }
}

#[test]
fn a_folder_with_a_tokenizer_json_alone_is_enough() {
    let folder = Folder::new("alone").with("tokenizer.json", tokenizer_json(|_| {}));
    assert_eq!(encode(&folder.build("").expect("right"), "abc"), [517, 514, 518]);
}

#[test]
fn ids_in_another_order_are_mapped() {
    let reversed: serde_json::Map<String, Value> =
        vocab().into_iter().map(|(text, id)| (text, json!(518 - id.as_u64().expect("an id")))).collect();
    let folder = Folder::new("mapped").with("merges.txt", MERGES).with("vocab.json", json_text(reversed));
    let table = folder.build("").expect("right");
    assert_eq!(encode(&table, "abc lol"), [1, 518 - 514, 518 - 516, 0]);
    assert_eq!(table.bytes[field::MAPPED], 1);
}

/// `abc` as `a` + `bc` never happens, for `a` + `b` comes first: the token must not be a candidate.
#[test]
fn tokens_that_no_word_reaches_stay_out() {
    let folder = Folder::new("unreachable").with("merges.txt", "a b\nb c</w>\na bc</w>\n");
    let table = folder.build("merges.txt").expect("right");
    let layout = Layout::new(3, 0, 2, false).expect("small");
    assert_eq!(table.bytes[layout.added.start + 4], END.len() as u8);
    let c_at_end = vocab()["c</w>"].as_u64().expect("an id") as u32;
    assert_eq!(encode(&table, "abc bc"), [515, 512, c_at_end, 513, 516]);
}

/// Folders as transformers reads them, and as a pipeline of diffusers does: `make_tokenizer_folders.py` made the ids.
#[test]
fn folders_give_the_ids_of_transformers_and_of_diffusers() {
    #[derive(serde::Deserialize)]
    struct Goldens {
        texts: Vec<String>,
        cases: Vec<Case>,
    }
    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        files: std::collections::BTreeMap<String, Value>,
        pad: Option<u32>,
        ids: Vec<Vec<u32>>,
        expanded: Option<Vec<Vec<u32>>>,
    }
    let fixtures = cliptext_test_support::fixtures().join("tokenizer");
    let read = |name: &str| fs::read_to_string(fixtures.join(name)).expect("a fixture");
    let goldens: Goldens = serde_json::from_str(&read("folders.json")).expect("goldens");
    let merges = read("merges-86.txt");
    let vocab = serde_json::from_str(&read("vocab-86.json")).expect("an object");
    let mut expanded = 0;
    for (number, case) in goldens.cases.iter().enumerate() {
        let folder = Folder::new(&format!("golden-{number}"));
        let tokenizer = folder.0.join("tokenizer");
        fs::create_dir_all(&tokenizer).expect("the temporary folder can be written");
        let write = |name: &str, text: String| {
            fs::write(tokenizer.join(name), text).expect("the temporary folder can be written");
        };
        write("merges.txt", merges.clone());
        write("vocab.json", json_text(&vocab));
        for (name, content) in &case.files {
            match name.as_str() {
                "added_tokens" => {
                    let with = |json: &mut Value| {
                        json["added_tokens"] = content.clone();
                        json["post_processor"] = json!({"type": "RobertaProcessing", "sep": [END, 599],
                            "cls": [START, 598], "trim_offsets": false, "add_prefix_space": false});
                    };
                    write("tokenizer.json", tokenizer_json_of(&vocab, &merges, with));
                }
                file => write(file, json_text(content)),
            }
        }
        let name = &case.name;
        let table = folder.build("tokenizer").unwrap_or_else(|error| panic!("{name}: {error:#}"));
        // A list with a gap: the ids of the file, where transformers numbers them on, and says nothing.
        let gap = table.notes.iter().any(|note| note.contains("transformers 5 would number"));
        assert_eq!(gap, name == "ids with a gap");
        let settled = ["tokenizer_config.json", "special_tokens_map.json"];
        if settled.iter().any(|file| case.files.contains_key(*file)) {
            assert_eq!(table.pad_id, case.pad, "{name}");
        }
        for (text, ids) in goldens.texts.iter().zip(&case.ids) {
            let found = encode(&table, text);
            assert!(
                found == *ids || gap && found.len() == ids.len(),
                "{name}: {text}: {found:?}, not {ids:?}"
            );
        }
        // The same folder in a pipeline.
        let folder = folder.with("model_index.json", "{}");
        let table = folder.build("tokenizer").expect("it was right before");
        for (text, ids) in goldens.texts.iter().zip(case.expanded.as_ref().unwrap_or(&case.ids)) {
            let found = encode(&table, text);
            assert!(found == *ids || gap, "{name}, expanded: {text}: {found:?}, not {ids:?}");
        }
        let told = table.notes.iter().any(|note| note.contains("as diffusers expands it"));
        assert_eq!(told, case.expanded.is_some(), "{name}: {:?}", table.notes);
        expanded += usize::from(told);
        // A tokenizer.json alone holds the same vocabulary.
        if case.files.contains_key("added_tokens") {
            for file in ["merges.txt", "vocab.json"] {
                fs::remove_file(tokenizer.join(file)).expect("it was written");
            }
            assert!(folder.build("tokenizer").expect(name).bytes == table.bytes, "{name}");
        }
    }
    assert!(goldens.cases.len() >= 30 && expanded >= 4);
}

/// Folders from bug reports, with the whole vocabulary.
#[test]
fn folders_from_bug_reports() {
    let Some(full) = cliptext_test_support::full_fixtures() else { return };
    for (report, with, text, ids) in [
        ("tokenizer-added-tokens", &["vocab.json", "merges.txt"][..], "a <cat-toy> on", [320, 49_408, 525]),
        ("tokenizer-bare-strings", &["tokenizer.json"], "a <|STARTOFTEXT|> cat", [320, 49_406, 2368]),
    ] {
        let folder = Folder::new(report);
        let files = fs::read_dir(full.join("reports").join(report)).expect("the fixtures are there");
        let files = files.map(|file| file.expect("readable").path());
        for file in files.chain(with.iter().map(|name| full.join("tokenizer").join(name))) {
            let name = file.file_name().expect("a file").to_owned();
            fs::write(folder.0.join(name), fs::read(file).expect("readable")).expect("writable");
        }
        let found = encode(&folder.build("").expect(report), text);
        assert_eq!(found[1..found.len() - 1], ids, "{report}");
    }
}

/// What is assumed or left out is told.
#[test]
fn notes_tell_what_the_files_leave_open() {
    let notes = |name: &str, files: &[(&str, Value)]| -> String {
        let mut folder = Folder::new(name).with("merges.txt", MERGES).with("vocab.json", json_text(vocab()));
        for (file, content) in files {
            folder = folder.with(file, json_text(content));
        }
        folder.build("").expect("right").notes.join("\n")
    };
    assert_eq!(notes("silent", &[("tokenizer_config.json", json!({"pad_token": "!"}))]), "");
    let new = notes("new", &[("tokenizer_config.json", json!({"extra_special_tokens": ["<a>", "<b>"]}))]);
    assert!(
        new.contains("vocab.json: no file gives") && new.contains("\"<a>\" (519), \"<b>\" (520)"),
        "{new}"
    );
    let gap = notes("gap", &[("added_tokens.json", json!({"<a>": 530}))]);
    assert!(gap.contains("\"<a>\" (530, not 519)"), "{gap}");
    let decoder = json!({"added_tokens_decoder": {}});
    let files = [("tokenizer_config.json", decoder), ("added_tokens.json", json!({"<a>": 519}))];
    let left_out = notes("left-out", &files);
    assert!(left_out.contains("transformers leaves out") && left_out.contains("<a>"), "{left_out}");
    let map = [("special_tokens_map.json", json!({"additional_special_tokens": [{"content": "<a>"}]}))];
    assert!(notes("left-out-map", &map).contains("<a>"));
    let several = notes("several", &[("added_tokens.json", json!({"<a>": 519, "<a>_1": 520}))]);
    assert!(several.contains("\"<a>\" is one token") && several.contains("<a> <a>_1"), "{several}");
    // A file beside settings that are not read.
    let folder = Folder::new("alone-beside").with("merges.txt", MERGES).with("added_tokens.json", "{}");
    let table = folder.build("merges.txt").expect("right");
    assert!(table.notes.concat().contains("not added_tokens.json beside it; give the folder"));
}

#[test]
fn added_tokens_that_contradict_are_refused() {
    let error = |name: &str, added: Value| {
        let folder = Folder::new(name)
            .with("merges.txt", MERGES)
            .with("vocab.json", json_text(vocab()))
            .with("added_tokens.json", json_text(added));
        let pipeline = folder.0.join("tokenizer");
        fs::create_dir_all(&pipeline).expect("the temporary folder can be written");
        for file in ["merges.txt", "vocab.json", "added_tokens.json"] {
            fs::copy(folder.0.join(file), pipeline.join(file)).expect("it was written");
        }
        folder.with("model_index.json", "{}").error("tokenizer")
    };
    let clash = error("clash-plain", json!({START: 3}));
    assert!(clash.contains("has the id 517") && clash.contains("gives it 3"), "{clash}");
    let same = error("same-plain", json!({"<a>": 519, "<b>": 519}));
    assert!(same.contains("added_tokens.json: \"<a>\" and \"<b>\" have the same id 519"), "{same}");
    let text = error("text-plain", json!({"<a>": "519"}));
    assert!(text.contains("expected a whole number"), "{text}");
    let apart = error("apart", json!({"<a>": 519, "<b>": 520, "<a>_1": 521}));
    assert!(apart.contains("[519, 521] do not follow each other"), "{apart}");
    let other =
        Folder::new("other-json").with("merges.txt", MERGES).with("vocab.json", json_text(vocab())).with(
            "tokenizer.json",
            tokenizer_json(|json| drop(json["model"]["merges"].as_array_mut().map(Vec::pop))),
        );
    let other = other.error("");
    assert!(other.contains("tokenizer.json: its vocabulary is another than that of"), "{other}");
}

#[test]
fn line_ends_that_were_converted() {
    let with = |name: &str, text: String| Folder::new(name).with("merges.txt", text);
    let plain = with("lf", MERGES.into()).build("merges.txt").expect("right");
    // Windows' line ends and its byte order mark say nothing.
    let windows = format!("\u{FEFF}{}", MERGES.replace('\n', "\r\n"));
    assert_eq!(with("crlf", windows).build("merges.txt").expect("right").bytes, plain.bytes);
    for (name, ends) in [("twice", "\r\r\n"), ("mac", "\r")] {
        let error = with(name, MERGES.replace('\n', ends)).error("merges.txt");
        assert!(error.contains("line ends were converted") && error.contains("dos2unix"), "{error}");
    }
    for merge in [json!("a b\r"), json!(["a", "b\r"])] {
        let json = tokenizer_json(|json| json["model"]["merges"][0] = merge.clone());
        let error = Folder::new("crlf-json").with("tokenizer.json", json).error("tokenizer.json");
        assert!(error.contains("model.merges[0]") && error.contains("dos2unix"), "{error}");
    }
}

#[test]
fn listed_added_tokens_have_the_last_word() {
    let listed = |id: &str, text: &str, normalized: bool| json!({id: {"content": text, "normalized": normalized, "lstrip": false, "rstrip": false, "single_word": false}});
    let with = |name: &str, listed: Value| {
        Folder::new(name)
            .with("merges.txt", MERGES)
            .with("vocab.json", json_text(vocab()))
            .with("tokenizer_config.json", json_text(json!({"added_tokens_decoder": listed})))
    };
    let table = with("listed", listed("517", START, true)).build("").expect("right");
    assert_eq!(encode(&table, "<|STARTOFTEXT|>"), [517, 517, 518]);
    let table = with("word", listed("519", "<Cat>", true)).build("").expect("right");
    assert_eq!((encode(&table, "lol<CAT>lol"), table.size), (vec![517, 516, 519, 516, 518], 520));
    let error = with("clash", listed("3", END, false)).error("");
    assert!(error.contains("\"<|endoftext|>\" has the id 518") && error.contains("gives it 3"), "{error}");
    let error = with("foreign", listed("519", "Straße", true)).error("");
    assert!(error.contains("\"Straße\" is not ASCII"), "{error}");
    let error = with("long", listed("519", &"x".repeat(57), false)).error("");
    assert!(error.contains("has 57 bytes; a table takes 1 to 56"), "{error}");
    let error = with(
        "twice",
        json!({
        "519": {"content": "<A>", "normalized": true}, "520": {"content": "<a>", "normalized": true}}),
    )
    .error("");
    assert!(error.contains("two added tokens are \"<a>\""), "{error}");
    let error = with("strip", json!({"519": {"content": "<a>", "lstrip": true}})).error("");
    assert!(
        error.contains("tokenizer_config.json: added_tokens_decoder, \"519\"") && error.contains("lstrip"),
        "{error}"
    );
}

#[test]
fn wrong_merges_are_refused_by_line() {
    let error = |text: &str| Folder::new("merges").with("merges.txt", text).error("merges.txt");
    let long = "a a\naa aa\naaaa aaaa\n8a 8a\n".replace("8a", "aaaaaaaa");
    let long = format!("{long}{0} {0}\n{0}{0} a\n", "a".repeat(16));
    for (text, place, says) in [
        ("#version: 0.2\na b\nab\n", "merges.txt, line 3: ", "expected two tokens"),
        ("a b c\n", "merges.txt, line 1: ", "expected two tokens"),
        ("a b\nbc d\n", "merges.txt, line 2: ", "\"bc\" is neither a byte nor made by a merge before"),
        ("a</w> b\n", "merges.txt, line 1: ", "ends a word"),
        ("a b\nb c\nab c\na bc\n", "merges.txt, line 4: ", "\"abc\" is made by an earlier merge"),
        (&long, "merges.txt, line 6: ", "has 33 bytes"),
        ("", "merges.txt: ", "no merges"),
    ] {
        let error = error(text);
        assert!(error.contains(place) && error.contains(says), "{error}");
    }
}

#[test]
fn files_that_contradict_each_other_are_refused() {
    let error = |change: fn(&mut serde_json::Map<String, Value>)| {
        let mut ids = vocab();
        change(&mut ids);
        Folder::new("contradict").with("merges.txt", MERGES).with("vocab.json", json_text(ids)).error("")
    };
    let missing = error(|ids| drop(ids.remove("lo")));
    assert!(
        missing.contains("vocab.json: no id for \"lo\"") && missing.contains("merges.txt needs"),
        "{missing}"
    );
    let missing = error(|ids| drop(ids.remove("!</w>")));
    assert!(missing.contains("vocab.json: no id for \"!</w>\""), "{missing}");
    let missing = error(|ids| drop(ids.remove(END)));
    assert!(missing.contains("no id for the special token \"<|endoftext|>\""), "{missing}");
    let double = error(|ids| drop(ids.insert("lo".into(), json!(7))));
    assert!(double.contains("\"(\" and \"lo\" have the same id 7"), "{double}");
    let negative = error(|ids| drop(ids.insert("lo".into(), json!(-1))));
    assert!(negative.contains("vocab.json: expected one object of tokens and their ids"), "{negative}");
    let huge = error(|ids| drop(ids.insert("more".into(), json!(u32::MAX))));
    assert!(huge.contains("an id is too large"), "{huge}");
}

#[test]
fn missing_files_are_named() {
    let folder = Folder::new("missing").with("vocab.json", "{}").with("other.txt", "");
    assert!(folder.error("").contains("no vocabulary here; expected vocab.json and merges.txt"));
    assert!(folder.error("vocab.json").contains("a vocab.json alone does not say"));
    assert!(folder.error("none.txt").contains("none.txt: cannot be read"));
    fs::write(folder.0.join("latin.txt"), b"\xE9 t\n").expect("the temporary folder can be written");
    assert!(folder.error("latin.txt").contains("latin.txt: not UTF-8"));
}

#[test]
fn other_models_tokenizers_are_refused() {
    let error = |change: &dyn Fn(&mut Value)| {
        Folder::new("others").with("tokenizer.json", tokenizer_json(change)).error("tokenizer.json")
    };
    for (key, value) in [
        ("type", json!("Unigram")),
        ("end_of_word_suffix", Value::Null),
        ("continuing_subword_prefix", json!("##")),
        ("dropout", json!(0.1)),
        ("byte_fallback", json!(true)),
        ("ignore_merges", json!(true)),
    ] {
        let error = error(&|json| json["model"][key] = value.clone());
        assert!(error.contains(&format!("tokenizer.json: model.{key} is {value}")), "{error}");
    }
    let no_lower_case = error(&|json| drop(json["normalizer"]["normalizers"].as_array_mut().map(Vec::pop)));
    assert!(no_lower_case.contains("the normalizer is not CLIP's"), "{no_lower_case}");
    let words = error(&|json| json["pre_tokenizer"]["pretokenizers"][0]["invert"] = json!(false));
    assert!(words.contains("the pre-tokenizer does not split words as CLIP's does"), "{words}");
    let behind = error(&|json| json["post_processor"] = json!({"type": "ByteLevel"}));
    assert!(behind.contains("the post-processor does not put one token before"), "{behind}");
    let merge = error(&|json| json["model"]["merges"][2] = json!("abc"));
    assert!(merge.contains("model.merges[2]: expected two tokens, found \"abc\""), "{merge}");
    let id = error(&|json| drop(json["added_tokens"][0].as_object_mut().map(|token| token.remove("id"))));
    assert!(id.contains("added_tokens: \"<|startoftext|>\" has no id"), "{id}");
}

#[test]
fn older_tokenizers_do_not_keep_special_spellings_apart() {
    let older = tokenizer_json(|json| {
        let words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
        json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!(words);
    });
    let folder = Folder::new("older").with("older.json", older).with("newer.json", tokenizer_json(|_| {}));
    let (older, newer) =
        (folder.build("older.json").expect("right"), folder.build("newer.json").expect("right"));
    let ids = |text: &str| vocab()[text].as_u64().expect("an id") as u32;
    // "|>" and "!" are two words in one, one word in the other.
    assert!(encode(&newer, "<|EndOfText|>!").ends_with(&[ids("|"), ids("></w>"), ids("!</w>"), 518]));
    assert!(encode(&older, "<|EndOfText|>!").ends_with(&[ids("|"), ids(">"), ids("!</w>"), 518]));
}
