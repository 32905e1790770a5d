//! Decibels: how they are worked out, put in order and written as JSON.

use std::cmp::Ordering;
use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A signal-to-noise ratio in dB. In JSON it is a number, or where JSON has none for it `"inf"`, `"-inf"` or `"NaN"`,
/// which Rust's `f64` and Python's `float` read.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Decibels(pub f64);

impl Decibels {
    /// `10 log10(signal / noise)` of two sums of squares; infinite where there is no noise, whatever the signal.
    pub fn of(signal: f64, noise: f64) -> Self {
        Decibels(if noise == 0.0 { f64::INFINITY } else { 10.0 * (signal / noise).log10() })
    }

    /// The order from the worst to the best: what is not a number is worse than every number.
    pub fn worst_first(&self, other: &Self) -> Ordering {
        other.0.is_nan().cmp(&self.0.is_nan()).then(self.0.total_cmp(&other.0))
    }
}

impl PartialEq<f64> for Decibels {
    fn eq(&self, other: &f64) -> bool {
        self.0 == *other
    }
}

impl PartialOrd<f64> for Decibels {
    fn partial_cmp(&self, other: &f64) -> Option<Ordering> {
        self.0.partial_cmp(other)
    }
}

impl fmt::Display for Decibels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Decibels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() {
            serializer.serialize_f64(self.0)
        } else {
            serializer.serialize_str(&self.0.to_string())
        }
    }
}

impl<'de> Deserialize<'de> for Decibels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Stored {
            Number(f64),
            Text(String),
        }
        match Stored::deserialize(deserializer)? {
            Stored::Number(value) => Ok(Decibels(value)),
            Stored::Text(text) => text.parse().map(Decibels).map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_infinitely_close_and_no_number_stays_none() {
        assert_eq!(Decibels::of(100.0, 1.0), 20.0);
        assert_eq!(Decibels::of(0.0, 0.0), f64::INFINITY);
        assert_eq!(Decibels::of(0.0, 1.0), f64::NEG_INFINITY);
        assert!(Decibels::of(f64::INFINITY, f64::INFINITY).0.is_nan());
        assert!(Decibels::of(1.0, f64::NAN).0.is_nan());
    }

    #[test]
    fn what_is_no_number_is_the_worst_whatever_its_sign() {
        let mut all = [1.0, f64::NAN, f64::NEG_INFINITY, -f64::NAN, f64::INFINITY].map(Decibels);
        all.sort_by(Decibels::worst_first);
        assert!(all[0].0.is_nan() && all[1].0.is_nan());
        assert_eq!(all[2..], [f64::NEG_INFINITY, 1.0, f64::INFINITY].map(Decibels));
    }

    #[test]
    fn json_keeps_what_json_has_no_number_for() {
        for (value, text) in [
            (12.5, "12.5"),
            (20.0, "20.0"),
            (f64::INFINITY, "\"inf\""),
            (f64::NEG_INFINITY, "\"-inf\""),
            (f64::NAN, "\"NaN\""),
        ] {
            assert_eq!(serde_json::to_string(&Decibels(value)).unwrap(), text);
            let back: Decibels = serde_json::from_str(text).unwrap();
            assert!(back == value || back.0.is_nan() && value.is_nan(), "{text}");
        }
        assert!(serde_json::from_str::<Decibels>("\"much\"").is_err());
        assert!(serde_json::from_str::<Decibels>("null").is_err());
    }
}
