//! What the hub says that a repository holds.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use anyhow::Result;
use serde::Deserialize;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::name;

/// Bytes hashed at a time.
const BUFFER: usize = 256 << 10;

/// A repository's files at one commit, as `GET /api/models/…?blobs=true` tells them.
#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    /// The commit.
    #[serde(rename = "sha")]
    pub commit: String,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    /// Git's name of what the repository holds: of a large file that is only a pointer.
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    sha256: Option<String>,
}

impl Listing {
    /// Paths of the files; one that could lead out of the cache's folder is none.
    pub(super) fn files(&self) -> Vec<String> {
        let paths = self.siblings.iter().map(|sibling| &sibling.rfilename);
        paths.filter(|path| name::steps("file", path).is_ok()).cloned().collect()
    }

    /// The hash of a file's contents, if the hub says it.
    pub(super) fn hash(&self, file: &str) -> Option<Hash> {
        let sibling = self.siblings.iter().find(|sibling| sibling.rfilename == file)?;
        match &sibling.lfs {
            Some(lfs) => Hash::sha256(lfs.sha256.as_deref()?),
            None => Some(Hash::GitBlob(hex(sibling.blob_id.as_deref()?, 40)?)),
        }
    }
}

/// A hash of a file's contents, in lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    /// Of the bytes.
    Sha256(String),
    /// SHA-1 of `blob LENGTH`, a NUL and the bytes, as git names the contents of a file.
    GitBlob(String),
}

impl Hash {
    /// A SHA-256, if `text` is one: what the hub gives as the ETag of a large file.
    pub(super) fn sha256(text: &str) -> Option<Self> {
        hex(text, 64).map(Hash::Sha256)
    }

    /// What it is called.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Hash::Sha256(_) => "SHA-256",
            Hash::GitBlob(_) => "git hash",
        }
    }

    /// Whether it is the hash of this file.
    pub(super) fn is_of(&self, file: &mut File) -> Result<bool> {
        Ok(match self {
            Hash::Sha256(known) => digest(Sha256::new(), file)? == *known,
            Hash::GitBlob(known) => {
                let header = format!("blob {}\0", file.metadata()?.len());
                digest(Sha1::new().chain_update(header), file)? == *known
            }
        })
    }
}

/// `text` in lower case, if it is so many hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<String> {
    let is_hex = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| text.to_ascii_lowercase())
}

fn digest(mut hash: impl Digest, file: &mut File) -> Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hash.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn hashes_are_those_of_git_and_sha256sum() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello\n").unwrap();
        // `git hash-object` and `sha256sum` of the same file.
        let git = Hash::GitBlob("ce013625030ba8dba906f756967f9e9ca394464a".into());
        let sha256 = "5891B5B522D5DF086D0FF0B110FBD9D21BB4FC7163AF34D08286A2E846F6BE03";
        assert!(git.is_of(&mut file).unwrap() && Hash::sha256(sha256).unwrap().is_of(&mut file).unwrap());
        file.write_all(b"!").unwrap();
        assert!(!git.is_of(&mut file).unwrap() && !Hash::sha256(sha256).unwrap().is_of(&mut file).unwrap());
        assert_eq!(Hash::sha256("5891b5"), None);
    }

    #[test]
    fn a_large_file_has_the_hash_of_its_contents_and_not_of_its_pointer() {
        let (git, sha256) = ("a".repeat(40), "b".repeat(64));
        let listing: Listing = serde_json::from_value(serde_json::json!({
            "sha": "c", "siblings": [
                { "rfilename": "small", "blobId": git, "size": 1 },
                { "rfilename": "large", "blobId": git, "lfs": { "sha256": sha256, "pointerSize": 1 } },
                { "rfilename": "unknown" },
                { "rfilename": "odd", "blobId": "../x" },
                { "rfilename": "../out", "blobId": git },
            ]
        }))
        .unwrap();
        assert_eq!(listing.files(), ["small", "large", "unknown", "odd"]);
        assert_eq!(listing.hash("small"), Some(Hash::GitBlob(git)));
        assert_eq!(listing.hash("large"), Some(Hash::Sha256(sha256)));
        assert_eq!((listing.hash("unknown"), listing.hash("odd"), listing.hash("none")), (None, None, None));
    }
}
