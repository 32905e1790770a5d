use super::Tensors;
use cliptext_test_support::Scratch;

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn refused(bytes: &[u8]) -> String {
    let scratch = Scratch::new();
    let path = scratch.write("model.safetensors", bytes);
    let error = format!("{:#}", Tensors::open(&path).expect_err("an error"));
    assert!(error.contains("model.safetensors"), "{error}");
    error
}

#[test]
fn headers_that_lie_are_refused() {
    let two = |a: &str, b: &str| {
        format!(
            r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":{a}}},"b":{{"dtype":"F32","shape":[2],"data_offsets":{b}}}}}"#
        )
    };
    let good = file(&two("[0,8]", "[8,16]"), &[0; 16]);
    let scratch = Scratch::new();
    assert!(Tensors::open(&scratch.write("good.safetensors", &good)).is_ok());
    // (offsets of a and b, bytes of data, what the message says)
    for (a, b, data, said) in [
        ("[0,8]", "[4,12]", 12, "overlaps"),
        ("[0,8]", "[0,8]", 8, "overlaps"),
        ("[0,8]", "[12,20]", 20, "hole"),
        ("[0,8]", "[8,16]", 15, "cut off"),
        ("[0,8]", "[8,16]", 17, "appended"),
        ("[8,0]", "[8,16]", 16, "lies"),
        ("[0,8]", "[8,12]", 12, "lies"),
        ("[0,8]", "[18446744073709551608,18446744073709551615]", 16, "lies"),
    ] {
        let error = refused(&file(&two(a, b), &vec![0; data]));
        assert!(error.contains(said), "{a} {b}: {error}");
    }
    let huge = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,8]}}"#;
    assert!(refused(&file(huge, &[0; 8])).contains("overflows"));
}

#[test]
fn headers_that_cannot_be_one_are_refused() {
    for (bytes, said) in [
        (vec![], "empty"),
        (vec![1, 2, 3], "3 bytes"),
        (file("[1, 2]", &[]), "no header"),
        (file("{\"a\":", &[]), "not a sound"),
        (file("{\"a\": 1}  ", b"  "), "not a sound"),
        ([&u64::MAX.to_le_bytes()[..], b"{}"].concat(), "no model's has"),
        ([&(100u64 << 20).to_le_bytes()[..], b"{}"].concat(), "no model's has"),
        ([&1000u64.to_le_bytes()[..], b"{\"a\""].concat(), "cut off"),
        (b"PK\x03\x04rest of it".to_vec(), "convert"),
        (b"\x80\x02}q\x00".to_vec(), "convert"),
        (b"GGUF\x03\0\0\0".to_vec(), "GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "git lfs pull"),
        (b"<!doctype html>".to_vec(), "web page"),
        (b"cliptext\x01\0\0\0".to_vec(), "plan"),
    ] {
        let error = refused(&bytes);
        assert!(error.contains(said), "{said}: {error}");
    }
}

/// Protocols 2 to 5 of a pickle begin as headers of 640 to 1408 bytes do.
#[test]
fn a_header_whose_length_reads_as_a_pickle_is_none() {
    let scratch = Scratch::new();
    let tensor = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    for length in [0x0280, 0x0380, 0x0480, 0x0580, 0x1_0280] {
        let header = format!("{tensor}{}", " ".repeat(length - tensor.len()));
        let path = scratch.write("model.safetensors", &file(&header, &[0; 4]));
        let tensors = Tensors::open(&path).unwrap_or_else(|error| panic!("{length}: {error:#}"));
        assert_eq!(tensors.floats("a").unwrap(), [0.0]);
    }
}

#[test]
fn sixteen_bits_are_widened_exactly_and_other_types_refused() {
    let header = r#"{"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[4,6]},"i":{"dtype":"I64","shape":[1],"data_offsets":[6,14]},"n":{"dtype":"F16","shape":[1],"data_offsets":[14,16]}}"#;
    let data = [0x00, 0x3c, 0x01, 0x00, 0x80, 0x3f, 1, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x7e];
    let scratch = Scratch::new();
    let tensors = Tensors::open(&scratch.write("m.safetensors", &file(header, &data))).unwrap();
    assert_eq!(tensors.floats("h").unwrap(), [1.0, 2f32.powi(-24)]);
    assert_eq!(tensors.floats("b").unwrap(), [1.0]);
    assert!(format!("{:#}", tensors.floats("i").unwrap_err()).contains("I64"));
    assert!(format!("{:#}", tensors.floats("n").unwrap_err()).contains("NaN"));
    assert!(tensors.floats("x").is_err() && tensors.matrix("h").is_err());
}

#[test]
fn shards_must_be_what_their_index_says() {
    let scratch = Scratch::new();
    let shard = |name: &str| {
        file(&format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#), &[0; 4])
    };
    scratch.write("one.safetensors", &shard("a"));
    scratch.write("two.safetensors", &shard("b"));
    let open = |map: &str| {
        let index = format!(r#"{{"metadata":{{"total_size":8}},"weight_map":{map}}}"#);
        Tensors::open(&scratch.write("model.safetensors.index.json", index.as_bytes()))
    };
    let tensors = open(r#"{"a":"one.safetensors","b":"two.safetensors"}"#).unwrap();
    assert_eq!(tensors.names().collect::<Vec<_>>(), ["a", "b"]);
    for (map, said) in [
        (r#"{"a":"two.safetensors","b":"one.safetensors"}"#, "is not in"),
        (r#"{"a":"one.safetensors","c":"two.safetensors"}"#, "is not in"),
        (r#"{"a":"../one.safetensors"}"#, "beside the index"),
        (r#"{"a":"three.safetensors"}"#, "three.safetensors"),
        ("3", "weight_map"),
    ] {
        let error = format!("{:#}", open(map).unwrap_err());
        assert!(error.contains(said), "{error}");
    }
    scratch.write("two.safetensors", &shard("a"));
    let error = format!("{:#}", open(r#"{"a":"one.safetensors","b":"two.safetensors"}"#).unwrap_err());
    assert!(error.contains("another shard"), "{error}");
}

#[test]
fn a_file_that_is_cut_while_it_is_open_is_an_error() {
    let scratch = Scratch::new();
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let path = scratch.write("model.safetensors", &file(header, &[0; 8]));
    let tensors = Tensors::open(&path).unwrap();
    assert_eq!(tensors.floats("a").unwrap(), [0.0, 0.0]);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(header.len() as u64 + 12).unwrap();
    let error = format!("{:#}", tensors.floats("a").unwrap_err());
    assert!(error.contains("model.safetensors") && error.contains("changed meanwhile"), "{error}");
}

#[test]
fn what_all_names_begin_with() {
    let scratch = Scratch::new();
    let shared = |names: &[&str]| {
        let entries: Vec<String> = names
            .iter()
            .map(|name| format!(r#""{name}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#))
            .collect();
        let bytes = file(&format!("{{{}}}", entries.join(",")), &[]);
        Tensors::open(&scratch.write("m.safetensors", &bytes)).unwrap().shared_prefix().to_owned()
    };
    assert_eq!(shared(&["module.text.a", "module.visual.a", "module.textual"]), "module.");
    assert_eq!(shared(&["a.b.c", "a.b.d", "a.bc"]), "a.");
    assert_eq!(shared(&["a", "b.c"]), "");
    assert_eq!(shared(&["a.b"]), "a.");
    assert_eq!(shared(&[]), "");
}
