//! Textual inversion: words whose vectors come from a file.

use std::path::{Path, PathBuf};

use cliptext_compiler::compile::Job;
use cliptext_compiler::edit::Edits;
use cliptext_compiler::edit::words::{Inversion, name_and_file};
use cliptext_compiler::preset::Preset;
use cliptext_synthetic::Tower;
use cliptext_test_support::Scratch;

use super::common::*;

/// First id of the first word.
const FIRST: u32 = VOCABULARY as u32;
/// The small vocabulary's end token.
const END: u32 = FIRST - 1;

fn with_words(model: &Path, words: &[(&str, &Path)], scratch: &Scratch) -> Job {
    let read = |(name, file): &(&str, &Path)| Inversion::read(name, file).unwrap_or_else(|e| panic!("{e:#}"));
    let edits = Edits { inversions: words.iter().map(read).collect(), loras: vec![] };
    with_edits(job(model, scratch), edits)
}

/// The same tower with rows appended to its token embedding: what a plan with words must compute.
fn with_rows(tower: &Tower, rows: &[&Named], folder: &Path) -> PathBuf {
    let mut tower = tower.clone();
    for row in rows {
        let name = "text_model.embeddings.token_embedding.weight";
        let table = tower.tensors.iter_mut().find(|t| t.name == name).unwrap();
        table.values.extend(row.values());
        table.shape[0] += row.values().len() / tower.options.width;
    }
    // Pooling at the highest id would take a word for the end.
    tower.options.eos_token_id = END;
    tower.options.vocab = tower.tensor("text_model.embeddings.token_embedding.weight").unwrap().shape[0];
    write_component(folder, &tower)
}

#[test]
fn words_become_tokens_of_their_own() {
    let scratch = Scratch::new();
    let tower = like_l();
    let model = write_component(&scratch.path().join("model"), &tower);
    let automatic = Named::arbitrary("emb_params", &[3, 64]);
    let single = Named::arbitrary("<cat-toy>", &[64]);
    let several = Named::arbitrary("café", &[2, 64]);
    let files = [&automatic, &single, &several].map(|tensor| {
        let name = format!("{}.safetensors", tensor.bytes[0]);
        write(&scratch.path().join(name), std::slice::from_ref(tensor))
    });
    let words = [("art", &*files[0]), ("<Cat-Toy>", &*files[1]), ("café", &*files[2])];
    let plan = compiled(&with_words(&model, &words, &scratch));
    let plain = compiled(&job(&model, &scratch));

    let art = [FIRST, FIRST + 1, FIRST + 2];
    let (toy, cafe) = ([FIRST + 3], [FIRST + 4, FIRST + 5]);
    let alone = |ids: &[u32]| [&[END - 1][..], ids, &[END]].concat();
    assert_eq!(plan.ids("art"), alone(&art));
    assert_eq!(plan.ids(" ART "), alone(&art), "prompts are lower-cased first");
    assert_eq!(plan.ids("art,art"), alone(&[&art[..], &plain.ids(",")[1..2], &art].concat()));
    assert_eq!(plan.ids("<cat-toy>"), alone(&toy));
    assert_eq!(plan.ids("x<CAT-TOY>"), alone(&[&plain.ids("x")[1..2], &toy[..]].concat()));
    assert_eq!(plan.ids("café"), alone(&cafe));
    // Beyond ASCII a word is looked for as it is written, and never inside another one.
    for text in [
        "party", "artist", "art2", "art_", "_art", "heart", "kart", "cafés", "Café", "ärt", "artä",
        "<cat-toy",
    ] {
        assert_eq!(plan.ids(text), plain.ids(text), "{text}");
    }
    assert_eq!(plan.ids("art's"), alone(&[&art[..], &plain.ids("'s")[1..2]].concat()));

    // What comes out is what the same rows of the model's own table give.
    let reference = with_rows(&tower, &[&automatic, &single, &several], &scratch.path().join("rows"));
    let reference = compiled(&job(&reference, &scratch));
    for prompt in ["art", "a cat of art and <cat-toy> in the café", "café"] {
        let ids = plan.plan().tokenizer().encode(prompt).ids().to_vec();
        let ours = plan.encode(prompt);
        assert_eq!(ours, reference.encode_ids(&ids), "{prompt}");
        assert!(ours != plain.encode(prompt), "{prompt}");
    }
}

#[test]
fn the_first_end_token_is_pooled_and_words_are_cut_at_the_end() {
    let scratch = Scratch::new();
    let tower = like_h();
    let model = write_component(&scratch.path().join("model"), &tower);
    let vectors = Named::arbitrary("emb_params", &[50, 128]);
    let file = write(&scratch.path().join("many.safetensors"), std::slice::from_ref(&vectors));
    let plan = compiled(&with_words(&model, &[("many", &file)], &scratch));
    // The second one has no room for its last vectors: as many as fit are there, and the end token.
    let ids = plan.ids("many many");
    let expected: Vec<u32> =
        [END - 1].into_iter().chain(FIRST..FIRST + 50).chain(FIRST..FIRST + 25).chain([END]).collect();
    assert_eq!(ids, expected);
    assert!(plan.plan().tokenizer().encode("many many").is_truncated());
    let reference = with_rows(&tower, &[&vectors], &scratch.path().join("rows"));
    let reference = compiled(&job(&reference, &scratch));
    for prompt in ["many many", "many", "a many b"] {
        let ids = plan.plan().tokenizer().encode(prompt).ids().to_vec();
        // The model pools at the end token, which is not the highest id any more.
        let (hidden, pooled) = plan.encode(prompt);
        assert_eq!((hidden, pooled), reference.encode_ids(&ids), "{prompt}");
    }
}

#[test]
fn a_word_for_two_encoders() {
    let scratch = Scratch::new();
    let (l, g) = (like_l(), like_big_g());
    let folder = scratch.path().join("xl");
    write_component(&folder.join("text_encoder"), &l);
    write_component(&folder.join("text_encoder_2"), &g);
    let (for_l, for_g) = (Named::arbitrary("clip_l", &[2, 64]), Named::arbitrary("clip_g", &[2, 1280]));
    let file = write(&scratch.path().join("style.safetensors"), &[for_l.clone(), for_g.clone()]);
    let choice = preset(Preset::Sdxl);
    let plan = compiled(&with_choice(with_words(&folder, &[("style", &file)], &scratch), choice));
    assert_eq!(plan.ids("style"), [END - 1, FIRST, FIRST + 1, END]);
    with_rows(&l, &[&for_l], &folder.join("text_encoder"));
    with_rows(&g, &[&for_g], &folder.join("text_encoder_2"));
    let reference = compiled(&with_choice(job(&folder, &scratch), choice));
    let ids = plan.ids("style");
    assert_eq!(plan.encode_ids(&ids), reference.encode_ids(&ids));
}

#[test]
fn vectors_that_do_not_fit_are_refused() {
    let scratch = Scratch::new();
    let model = write_component(&scratch.path().join("model"), &like_l());
    let file = |name: &str, tensors: &[Named]| write(&scratch.path().join(name), tensors);
    let wide = file("wide.safetensors", &[Named::arbitrary("emb_params", &[2, 768])]);
    let error = refused(&with_words(&model, &[("wide", &wide)], &scratch));
    assert!(
        error.contains("wide.safetensors") && error.contains("768") && error.contains("has 64"),
        "{error}"
    );

    let good = file("good.safetensors", &[Named::arbitrary("emb_params", &[2, 64])]);
    let twice = refused(&with_words(&model, &[("art", &good), ("Art", &good)], &scratch));
    assert!(twice.contains("\"art\""), "{twice}");
    let long = "x".repeat(57);
    assert!(refused(&with_words(&model, &[(&long, &good)], &scratch)).contains("57 bytes"));
    assert!(refused(&with_words(&model, &[("<|endoftext|>", &good)], &scratch)).contains("<|endoftext|>"));

    for (tensors, said) in [
        (vec![Named::arbitrary("a", &[2, 64]), Named::arbitrary("b", &[2, 64])], "not a textual inversion"),
        (vec![Named::arbitrary("emb_params", &[76, 64])], "1 to 75"),
        (vec![Named::arbitrary("emb_params", &[0, 64])], "1 to 75"),
        (vec![Named::arbitrary("emb_params", &[1, 2, 64])], "[vectors, width]"),
        (vec![Named::f32("emb_params", &[1, 2], &[f32::NAN, 0.0])], "NaN"),
        (vec![Named::arbitrary("clip_l", &[1, 64]), Named::arbitrary("clip_l_out", &[1, 64])], "clip_l_out"),
        (
            vec![Named::arbitrary("clip_l", &[1, 64]), Named::arbitrary("emb_params", &[1, 64])],
            "two words in one",
        ),
    ] {
        let path = file("bad.safetensors", &tensors);
        let error = format!("{:#}", Inversion::read("bad", &path).unwrap_err());
        assert!(error.contains(said) && error.contains("bad.safetensors"), "{said}: {error}");
    }
    let pickle = scratch.write("old.pt", b"PK\x03\x04data.pkl");
    assert!(format!("{:#}", Inversion::read("old", &pickle).unwrap_err()).contains("safetensors"));
}

/// A1111's vectors as they are nested in its own files, and a T5's beside them.
#[test]
fn what_else_is_in_a_file_is_told() {
    let scratch = Scratch::new();
    let vectors = Named::arbitrary("string_to_param.*", &[2, 64]);
    let file = write(&scratch.path().join("art.safetensors"), std::slice::from_ref(&vectors));
    assert!(Inversion::read("art", &file).unwrap().notes.is_empty());
    let others = [vectors.called("clip_l"), Named::arbitrary("t5xxl", &[2, 4096])];
    let file = write(&scratch.path().join("art.safetensors"), &others);
    let notes = Inversion::read("art", &file).unwrap().notes;
    assert!(
        notes.len() == 1 && notes[0].contains("t5xxl") && notes[0].contains("art.safetensors"),
        "{notes:?}"
    );
}

#[test]
fn the_equals_sign_counts_behind_which_a_file_is() {
    let scratch = Scratch::new();
    let file = scratch.write("a.safetensors", b"");
    let odd = scratch.write("step=500.safetensors", b"");
    let (file, odd) = (file.display().to_string(), odd.display().to_string());
    for (text, name, path) in [
        (format!("art={file}"), "art", &file),
        (format!(" art ={file}"), "art", &file),
        (format!("a=b={file}"), "a=b", &file),
        (format!("=={file}"), "=", &file),
        (format!("art={odd}"), "art", &odd),
        (format!("a=b={odd}"), "a=b", &odd),
        // With one sign there is no doubt, file or not.
        ("art=none.safetensors".into(), "art", &"none.safetensors".into()),
    ] {
        assert_eq!(name_and_file(&text).unwrap(), (name.to_owned(), PathBuf::from(path)), "{text}");
    }
    let error = |text: &str| name_and_file(text).unwrap_err().to_string();
    for text in ["art", "=file", "art=", " =file"] {
        assert!(error(text).contains("NAME=FILE"), "{text}");
    }
    let none = error("a=b=none.safetensors");
    assert!(none.contains(r#""a=b" in "none.safetensors""#) && none.contains(r#""a" in "b=none"#), "{none}");
    let run = |embedding: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cliptext"));
        command
            .args(["compile", "model", "-o", "x.plan", "--embedding", embedding])
            .current_dir(scratch.path());
        let run = command.output().unwrap();
        (run.status.code(), String::from_utf8(run.stderr).unwrap())
    };
    // On the command line it is a matter of usage; both readings are files here.
    scratch.write("y=x", b"");
    scratch.write("x", b"");
    let (code, told) = run("w=y=x");
    assert!(code == Some(2) && told.contains("rename one"), "{told}");
    assert_eq!(run("a=b=none.safetensors").0, Some(2));
}
