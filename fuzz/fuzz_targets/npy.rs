//! Any bytes as an `.npy` file: refused, or values as many as the shape says, which are written and read again.
#![no_main]

use cliptext_files::floats::Float;
use cliptext_files::npy::{self, Values};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(array) = npy::parse(data) else { return };
    assert!(npy::is_npy(data));
    let expected: usize = array.shape.iter().product();
    match &array.values {
        Values::Integer(values) => assert_eq!(values.len(), expected),
        Values::F32(values) => {
            assert_eq!(values.len(), expected);
            if array.shape.len() > 3 {
                return;
            }
            let mut file = npy::header(Float::F32, &array.shape);
            file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            let again = npy::parse(&file).expect("what was written is read");
            let Values::F32(read) = again.values else { panic!("floats") };
            assert_eq!(again.shape, array.shape);
            assert!(read.iter().zip(values).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
});
