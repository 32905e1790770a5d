//! LoRAs that carry the words they were trained with, as A1111 and OneTrainer bundle them.

use cliptext_compiler::edit::words::Inversion;
use cliptext_compiler::preset::Preset;

use super::*;

const FIRST: u32 = VOCABULARY as u32;

#[test]
fn bundled_words_are_added() {
    let scratch = Scratch::new();
    let model = write_component(&scratch.path().join("model"), &like_l());
    let vectors = Named::arbitrary("emb_params", &[2, 64]);
    let alone = write(&scratch.path().join("art.safetensors"), std::slice::from_ref(&vectors));
    let plain = write(&scratch.path().join("plain.safetensors"), &lora(&CHANGES, None, kohya("lora_te_")));
    // The same LoRA, and the word by --embedding.
    let edits =
        Edits { inversions: vec![Inversion::read("art", &alone).unwrap()], loras: vec![read(&plain, 0.5)] };
    let expected = compiled(&with_edits(job(&model, &scratch), edits));
    for tensor in ["emb_params", "string_to_param.*", "clip_l", "<art>"] {
        let mut tensors = lora(&CHANGES, None, kohya("lora_te_"));
        tensors.push(vectors.clone().called(format!("bundle_emb.art.{tensor}")));
        let file = write(&scratch.path().join("bundle.safetensors"), &tensors);
        let plan = compiled(&with(&model, &[(&file, 0.5)], &scratch));
        assert_eq!(plan.ids("art")[1..3], [FIRST, FIRST + 1], "{tensor}");
        assert!(plan.bytes() == expected.bytes(), "{tensor}");
        assert!(read(&file, 0.5).notes.iter().any(|note| note.contains("\"art\"")), "it is told");
    }
}

#[test]
fn bundled_words_for_two_encoders() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("xl");
    write_component(&folder.join("text_encoder"), &like_l());
    write_component(&folder.join("text_encoder_2"), &like_big_g());
    let (l, g) = (Named::arbitrary("clip_l", &[1, 64]), Named::arbitrary("clip_g", &[1, 1280]));
    let alone = write(&scratch.path().join("art.safetensors"), &[l.clone(), g.clone()]);
    let t5 = Named::arbitrary("bundle_emb.art.t5", &[1, 4096]);
    let tensors = [l.called("bundle_emb.art.clip_l"), g.called("bundle_emb.art.clip_g"), t5];
    let file = write(&scratch.path().join("bundle.safetensors"), &tensors);
    let choice = preset(Preset::Sdxl);
    let edits = Edits { inversions: vec![Inversion::read("art", &alone).unwrap()], loras: vec![] };
    let expected = compiled(&with_choice(with_edits(job(&folder, &scratch), edits), choice));
    let plan = compiled(&with_choice(with(&folder, &[(&file, 1.0)], &scratch), choice));
    assert!(plan.bytes() == expected.bytes());
    let words = read(&file, 1.0).words;
    assert!(words[0].notes[0].contains("bundle_emb.art.t5"), "{:?}", words[0].notes);
}

#[test]
fn bundles_that_can_t_be_read_are_refused() {
    let scratch = Scratch::new();
    let vectors = |key: &str| Named::arbitrary(key, &[1, 64]);
    for (tensors, said) in [
        (vec![vectors("bundle_emb.art")], "bundle_emb.art"),
        (vec![vectors("bundle_emb.art.clip_l"), vectors("bundle_emb.art.clip_l_out")], "output"),
        (vec![vectors("bundle_emb.art.one"), vectors("bundle_emb.art.two")], "not a textual inversion"),
        (vec![Named::arbitrary("bundle_emb.art.clip_l", &[76, 64])], "1 to 75"),
    ] {
        let error = refusal(&tensors, &scratch);
        assert!(error.contains(said), "{said}: {error}");
    }
}

/// AI-Toolkit saves the vectors that it trained beside a LoRA without their word.
#[test]
fn a_word_without_its_name_is_told_and_can_be_given_one() {
    let scratch = Scratch::new();
    let model = write_component(&scratch.path().join("model"), &like_l());
    let mut tensors = lora(&CHANGES, None, kohya("lora_te_"));
    let vectors = Named::arbitrary("emb_params", &[2, 64]);
    tensors.push(vectors.clone());
    let file = write(&scratch.path().join("both.safetensors"), &tensors);
    let told = read(&file, 1.0).notes;
    assert!(told.len() == 1 && told[0].contains("emb_params") && told[0].contains("--embedding"), "{told:?}");
    let alone = write(&scratch.path().join("art.safetensors"), std::slice::from_ref(&vectors));
    let [both, alone] = [&file, &alone].map(|file| Inversion::read("art", file).unwrap());
    assert!(both.notes[0].len() < 1000 && both.notes[0].contains("more"), "{:?}", both.notes);
    let plan = |word| {
        let edits = Edits { inversions: vec![word], loras: vec![] };
        compiled(&with_edits(job(&model, &scratch), edits)).bytes().to_vec()
    };
    assert!(plan(both) == plan(alone));
}
