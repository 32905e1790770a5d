//! `encode --cache`: what was encoded before is answered without the plan, bit for bit, from a folder that is bounded and may
//! fail.

mod common;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use cliptext::pack::Pack;
use cliptext::plan::format::Header;
use cliptext::{AlignedBytes, PlanHash};
use common::{BUILT_IN, Folder, ONE_TOWER, fails, fixture, ok, run};

/// A run that succeeds and says nothing.
fn quiet(args: &[&str]) {
    let output = run(args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "{args:?}: {error}");
}

/// What a run that succeeds says on standard error.
fn told(args: &[&str]) -> String {
    let output = run(args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {error}");
    error
}

fn entries(cache: &str) -> Vec<String> {
    let found = std::fs::read_dir(cache).unwrap();
    let mut names: Vec<_> = found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A copy of the demonstration plan of which nothing is left but the front, in a file of its length.
fn front_only(folder: &Folder) -> String {
    let mut plan = std::fs::read(ONE_TOWER).unwrap();
    let body = Header::read(&plan).unwrap().body() as usize;
    plan[body..].fill(0);
    folder.write("front.plan", &plan)
}

#[test]
fn what_was_encoded_is_answered_without_the_plan_bit_for_bit() {
    let folder = Folder::new("cache-hit");
    let cache = folder.path("cache");
    let empty_plan = front_only(&folder);
    let long = "word ".repeat(100);
    for (index, args) in [
        &["a running dog", "-o", "x.npy", "--pooled", "p.npy"][..],
        &["a running dog", "", "a cat", "-o", "x.npy"],
        &["a cat", "--negative", "so blurry", "-o", "x.npy", "--order", "negative-first"],
        &["a cat", "a dog", "--negative", "so blurry", "-o", "x.safetensors"],
        &["a cat", "--no-pad", "-o", "x.json"],
        &["a cat", "a running dog", "--no-pad", "--negative", "a dog", "-o", "{n}.json"],
        &[&long, "-o", "x.npy"],
        &["a running dog"],
        &["a (running:1.3) dog", "-o", "x.npy", "--pooled", "p.npy"],
        &["a (running:1.3) dog", "a cat", "--weights", "comfy", "-o", "x.npy"],
        &[
            "a (running:1.3) dog BREAK x",
            "--negative",
            "[blurry]",
            "--weights",
            "a1111",
            "--chunks",
            "2",
            "-o",
            "x.json",
        ],
        &[&long, "a, b", "--chunks", "2", "--comma-backtrack", "-o", "x.safetensors"],
    ]
    .into_iter()
    .enumerate()
    {
        let run = |plan: &str, name: &str, cached: bool| {
            let place = folder.path(&format!("{index}-{name}"));
            std::fs::create_dir(&place).unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_cliptext-run"));
            command.current_dir(&place).args(["encode", plan]).args(args);
            if cached {
                command.args(["--cache", &cache]);
            }
            let output = command.output().unwrap();
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
            let files: Vec<_> = entries(&place)
                .iter()
                .map(|name| std::fs::read(Path::new(&place).join(name)).unwrap())
                .collect();
            (files, output.stdout, String::from_utf8(output.stderr).unwrap())
        };
        let computed = run(ONE_TOWER, "computed", false);
        assert!(run(ONE_TOWER, "kept", true) == computed, "{args:?}");
        // Also the warning of what is cut.
        assert!(run(&empty_plan, "answered", true) == computed, "{args:?}");
    }
    // How many chunks the longest needs is known with the plan alone; then they share the entries of so many.
    let auto = [
        "encode",
        ONE_TOWER,
        &long,
        "a, b",
        "--chunks",
        "auto",
        "--comma-backtrack",
        "--cache",
        &cache,
        "-o",
    ];
    let before = entries(&cache).len();
    told(&[&auto[..], &[&folder.path("auto.npy")]].concat());
    assert_eq!(entries(&cache).len(), before);
    // Another prompt needs the plan.
    let error = fails(&["encode", &empty_plan, "a bird", "--cache", &cache], 1);
    assert!(error.contains("damaged"), "{error}");
}

#[test]
fn an_entry_is_of_a_prompt_a_plan_and_options() {
    let folder = Folder::new("cache-key");
    let cache = folder.path("cache");
    let (two_towers, output) = (fixture("two-towers.plan"), folder.path("x.npy"));
    let distinct: [&[&str]; 11] = [
        &[ONE_TOWER, "a cat"],
        &[ONE_TOWER, "a cat "],
        &[ONE_TOWER, "A cat"],
        &[ONE_TOWER, ""],
        &[ONE_TOWER, "a cat", "--no-pad"],
        &[ONE_TOWER, "a cat", "--weights", "a1111"],
        &[ONE_TOWER, "a cat", "--weights", "comfy"],
        &[ONE_TOWER, "a cat", "--chunks", "2"],
        &[ONE_TOWER, "a cat", "--chunks", "3"],
        &[ONE_TOWER, "a cat", "--chunks", "3", "--comma-backtrack", "7"],
        &[&two_towers, "a cat"],
    ];
    for (index, args) in distinct.into_iter().enumerate() {
        let args = [&["encode", "--cache", &cache, "-o", &output], args].concat();
        quiet(&args);
        assert_eq!(entries(&cache).len(), index + 1);
        quiet(&args);
    }
    // Threads, kernels and the place of a prompt change no bit.
    for same in [&["a cat", "--kernel", "scalar", "--threads", "1"][..], &["", "--negative", "a cat"]] {
        quiet(&[&["encode", ONE_TOWER, "--cache", &cache, "-o", &folder.path("x.npy")], same].concat());
    }
    assert_eq!(entries(&cache).len(), distinct.len());
    // Each says what it is of.
    let hash = PlanHash::of_front(&std::fs::read(ONE_TOWER).unwrap()).unwrap();
    let of_demo = entries(&cache).into_iter().filter(|name| {
        let bytes = AlignedBytes::copy_of(&std::fs::read(Path::new(&cache).join(name)).unwrap());
        let pack = Pack::load(&bytes).unwrap();
        let entry = pack.entry(0).unwrap();
        assert!(["a cat", "a cat ", "A cat", ""].contains(&entry.prompt()));
        assert!(pack.manifest().producer.ends_with(env!("CARGO_PKG_VERSION")));
        pack.manifest().plan_hash() == hash
    });
    assert_eq!(of_demo.count(), distinct.len() - 1);
}

#[test]
fn a_plan_out_of_a_pipe_is_answered_too() {
    let folder = Folder::new("cache-pipe");
    let (cache, one, other) = (folder.path("cache"), folder.path("1.npy"), folder.path("2.npy"));
    quiet(&["encode", ONE_TOWER, "a cat", "--cache", &cache, "-o", &one]);
    let plan = front_only(&folder);
    let mut child = Command::new(env!("CARGO_BIN_EXE_cliptext-run"))
        .args(["encode", "/dev/stdin", "a cat", "--cache", &cache, "-o", &other])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), &std::fs::read(plan).unwrap()).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(std::fs::read(one).unwrap() == std::fs::read(other).unwrap());
    // The built-in plan is its file.
    let third = folder.path("3.npy");
    quiet(&["encode", BUILT_IN, "a cat", "--cache", &cache, "-o", &third]);
    let said = told(&["encode", "--prompt", "a cat", "--cache", &cache, "-o", &third]);
    assert!(said.contains("built-in") && entries(&cache).len() == 2, "{said}");
}

#[test]
fn damaged_entries_are_told_and_made_again() {
    let folder = Folder::new("cache-damage");
    let (cache, first, again) = (folder.path("cache"), folder.path("1.npy"), folder.path("2.npy"));
    let encode = |to: &str| told(&["encode", ONE_TOWER, "a cat", "--cache", &cache, "-o", to]);
    encode(&first);
    let name = entries(&cache).remove(0);
    let path = Path::new(&cache).join(&name);
    let whole = std::fs::read(&path).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    // Of another prompt, by its own checksums whole.
    quiet(&["encode", ONE_TOWER, "a dog", "--cache", &cache, "-o", &again]);
    let other = entries(&cache).into_iter().find(|entry| *entry != name).unwrap();
    let foreign = std::fs::read(Path::new(&cache).join(other)).unwrap();
    for bytes in [
        flipped(0),
        flipped(100),
        flipped(300),
        flipped(whole.len() - 1),
        whole[..5000].to_vec(),
        vec![],
        foreign,
    ] {
        std::fs::write(&path, &bytes).unwrap();
        let said = encode(&again);
        assert!(
            said.contains(&name) && said.contains("encoded again") && said.lines().count() == 1,
            "{said}"
        );
        assert!(std::fs::read(&first).unwrap() == std::fs::read(&again).unwrap());
        assert!(std::fs::read(&path).unwrap() == whole, "it is replaced");
        assert_eq!(encode(&again), "");
    }
    assert_eq!(entries(&cache).len(), 2);
}

#[test]
fn the_cache_is_bounded_and_keeps_what_was_used_last() {
    let folder = Folder::new("cache-bound");
    let cache = folder.path("cache");
    let encode = |prompt: &str, size: &str| {
        quiet(&[
            "encode",
            ONE_TOWER,
            prompt,
            "--cache",
            &cache,
            "--cache-size",
            size,
            "-o",
            &folder.path("x.npy"),
        ]);
    };
    let used = || -> u64 {
        let sizes =
            entries(&cache).into_iter().map(|name| Path::new(&cache).join(name).metadata().unwrap().len());
        sizes.sum()
    };
    encode("keep", "64K");
    let one = used();
    // Files that are no entries are neither counted nor removed.
    let own = Path::new(&cache).join("notes.txt");
    std::fs::write(&own, vec![b'x'; 100_000]).unwrap();
    let kept =
        Path::new(&cache).join(entries(&cache).into_iter().find(|name| name.ends_with(".pack")).unwrap());
    for number in 0..20 {
        encode(&format!("prompt {number}"), "64K");
        encode("keep", "64K");
        assert!(used() - 100_000 <= 64 << 10, "{}", used());
    }
    assert!(kept.exists() && own.exists());
    assert!(entries(&cache).len() > 3, "no more than needed goes");
    // A smaller limit is kept from the next new entry on.
    encode("one more", &(one + 10).to_string());
    assert_eq!(used() - 100_000, one);
    // One that is too small for any is told, and nothing is kept.
    let said = told(&[
        "encode",
        ONE_TOWER,
        "and another",
        "--cache",
        &cache,
        "--cache-size",
        "1K",
        "-o",
        &folder.path("x.npy"),
    ]);
    assert!(said.contains("--cache-size is 1024") && said.contains("going on without it"), "{said}");
    assert_eq!(entries(&cache).len(), 2);
}

#[test]
fn what_killed_processes_left_goes_after_a_day() {
    let folder = Folder::new("cache-stale");
    let cache = folder.path("cache");
    std::fs::create_dir(&cache).unwrap();
    let old = SystemTime::now() - Duration::from_secs(25 * 60 * 60);
    for (name, is_old) in
        [(".cliptext-abcdefghijkl.tmp", true), (".cliptext-mnopqrstuvwx.tmp", false), ("old.tmp", true)]
    {
        let file = std::fs::File::create(Path::new(&cache).join(name)).unwrap();
        if is_old {
            file.set_modified(old).unwrap();
        }
    }
    quiet(&["encode", ONE_TOWER, "a cat", "--cache", &cache, "-o", &folder.path("x.npy")]);
    let names = entries(&cache);
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(!names.iter().any(|name| name.contains("abcdef")));
}

#[test]
fn a_folder_that_fails_is_told_once_and_stops_nothing() {
    let folder = Folder::new("cache-fails");
    let (want, got) = (folder.path("want.npy"), folder.path("got.npy"));
    quiet(&["encode", ONE_TOWER, "a cat", "a dog", "-o", &want]);
    let file = folder.write("file", b"no folder");
    for cache in [file.clone(), format!("{file}/cache"), "/proc/no/such".into()] {
        let said = told(&["encode", ONE_TOWER, "a cat", "a dog", "--cache", &cache, "-o", &got]);
        assert!(said.contains(&cache) && said.contains("going on without it"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(std::fs::read(&want).unwrap() == std::fs::read(&got).unwrap());
    }
    // A folder is made for this user alone, with those above it.
    let deep = folder.path("a/b/cache");
    quiet(&["encode", ONE_TOWER, "a cat", "--cache", &deep, "-o", &got]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&deep).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[test]
fn processes_share_a_cache() {
    let folder = Folder::new("cache-shared");
    let cache = folder.path("cache");
    let prompts =
        folder.write("prompts.txt", (0..12).map(|n| format!("prompt {n}\n")).collect::<String>().as_bytes());
    let want = folder.path("want.npy");
    quiet(&["encode", ONE_TOWER, "--prompts", &prompts, "-o", &want]);
    let want = std::fs::read(want).unwrap();
    let start = |number: usize| {
        let output = folder.path(&format!("{number}.npy"));
        Command::new(env!("CARGO_BIN_EXE_cliptext-run"))
            // So small that they remove each other's entries.
            .args([
                "encode",
                ONE_TOWER,
                "--prompts",
                &prompts,
                "--cache",
                &cache,
                "--cache-size",
                "60K",
                "-o",
                &output,
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let processes: Vec<_> = (0..6).map(start).collect();
    for (number, process) in processes.into_iter().enumerate() {
        let Output { status, stderr, .. } = process.wait_with_output().unwrap();
        assert!(status.success() && stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
        assert!(std::fs::read(folder.path(&format!("{number}.npy"))).unwrap() == want);
    }
    assert!(entries(&cache).iter().all(|name| name.ends_with(".pack")), "{:?}", entries(&cache));
}

#[test]
fn command_lines_that_can_t_be_obeyed_are_refused() {
    let folder = Folder::new("cache-usage");
    let cache = folder.path("cache");
    assert!(fails(&["encode", ONE_TOWER, "x", "--cache-size", "1M"], 2).contains("--cache"));
    for size in ["0", "1T", "big"] {
        let error = fails(&["encode", ONE_TOWER, "x", "--cache", &cache, "--cache-size", size], 2);
        assert!(error.contains("such as 64M"), "{error}");
    }
    let labels = folder.write("labels.txt", b"cat\n");
    let error =
        fails(&["encode", ONE_TOWER, "--labels", &labels, "--cache", &cache, "-o", &folder.path("x.npy")], 2);
    assert!(error.contains("--cache") && error.contains("--labels"), "{error}");
    // What is wrong is told although the answer is there.
    quiet(&["encode", ONE_TOWER, "x", "--cache", &cache, "-o", &folder.path("x.npy")]);
    assert!(fails(&["encode", ONE_TOWER, "x", "--cache", &cache, "--kernel", "warp"], 2).contains("warp"));
    assert!(ok(&["encode", "--help"]).contains("--cache-size"));
    let cut = std::fs::read(ONE_TOWER).unwrap();
    let cut = folder.write("cut.plan", &cut[..cut.len() - 1]);
    assert!(fails(&["encode", &cut, "x", "--cache", &cache], 1).contains("cut short"));
    assert!(fails(&["encode", &folder.path("none.plan"), "x", "--cache", &cache], 1).contains("none.plan"));
}

/// A disk without room: the cache is left out, a pack is not written.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told() {
    let folder = Folder::new("cache-full");
    std::fs::create_dir(folder.path("disk")).unwrap();
    folder.write("named.txt", b"a cat\na dog\n");
    let inside = |script: &str| {
        let mounted = format!("mount -t tmpfs -o size=8k tmpfs disk || exit 99; {script}");
        let program = env!("CARGO_BIN_EXE_cliptext-run");
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", &mounted, program, ONE_TOWER]);
        command.current_dir(folder.path("")).output().ok().filter(|output| output.status.code() != Some(99))
    };
    let Some(output) = inside("true").filter(|output| output.status.success()) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    assert!(output.stderr.is_empty());
    let output = inside("$0 encode $1 'a cat' --cache disk/cache -o x.npy && ls -A disk/cache").unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{said}");
    assert!(
        said.contains("disk/cache: No space left on device") && said.contains("going on without it"),
        "{said}"
    );
    let want = folder.path("want.npy");
    quiet(&["encode", ONE_TOWER, "a cat", "-o", &want]);
    assert!(std::fs::read(want).unwrap() == std::fs::read(folder.path("x.npy")).unwrap());
    let output = inside("$0 pack $1 --prompts named.txt -o disk/x.pack; echo $?; ls -A disk").unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1\n");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("disk/x.pack: No space left on device") && said.contains("is not written"),
        "{said}"
    );
}
