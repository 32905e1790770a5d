//! Files that are read whole.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::path::Path;

/// Bytes of a file that is read whole, at the most: more than the largest tokenizer's, and little beside a model.
const MOST_BYTES: u64 = 64 << 20;

/// The bytes of a configuration, a tokenizer or another file that is never large.
///
/// # Errors
/// When the file can't be read, or is larger than any such file.
pub fn read_whole(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Counted while they come: of a pipe or a device nothing is known beforehand.
    File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        let why = format!("larger than {} MB, which no file of its kind is: give another", MOST_BYTES >> 20);
        return Err(Error::new(ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// [`read_whole`] of text.
///
/// # Errors
/// Those of [`read_whole`], and when it is not UTF-8.
pub fn read_whole_text(path: &Path) -> Result<String> {
    String::from_utf8(read_whole(path)?).map_err(|error| {
        Error::new(
            ErrorKind::InvalidData,
            format!("not UTF-8 from byte {}", error.utf8_error().valid_up_to()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_any_such_file_has_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, "é").unwrap();
        assert_eq!(read_whole_text(&path).unwrap(), "é");
        std::fs::write(&path, b"ab\xff").unwrap();
        assert_eq!(read_whole_text(&path).unwrap_err().to_string(), "not UTF-8 from byte 2");
        // Without a byte on the disk.
        File::create(&path).unwrap().set_len(MOST_BYTES).unwrap();
        assert_eq!(read_whole(&path).unwrap().len() as u64, MOST_BYTES);
        File::create(&path).unwrap().set_len(MOST_BYTES + 1).unwrap();
        assert!(read_whole(&path).unwrap_err().to_string().starts_with("larger than 64 MB"));
        #[cfg(unix)]
        assert!(read_whole(Path::new("/dev/zero")).unwrap_err().to_string().starts_with("larger than 64 MB"));
    }
}
