//! The fuzz targets, one module each. Each accepts any bytes and panics if one of its properties
//! does not hold.
//!
//! The targets run briefly in `cargo test` (`tests/short.rs`), and for any time, guided by
//! coverage, in `make fuzz` (`../libfuzzer`).

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a panic is a finding of the fuzzer"
)]

mod answers;
mod config;
mod driver;
mod env_file;
mod envelope;
mod fixture;
mod grpc;
mod header;
mod id;
mod legacy;
mod mapping;
mod recovery;
mod registration;
mod template;

use std::path::{Path, PathBuf};

/// Called with one input after the other.
pub type Body = Box<dyn FnMut(&[u8]) + Send>;

/// One target.
pub struct Target {
    /// The name of its module and of its directory of seeds.
    pub name: &'static str,
    /// Prepares it.
    pub open: fn() -> Body,
    /// The number of mutations in the short run, as many as take about a second; 0 for a target
    /// that cannot run in a test's process.
    pub short: u32,
}

/// Every target.
pub const TARGETS: [Target; 13] = [
    Target { name: "answers", open: answers::open, short: 300 },
    Target { name: "config", open: config::open, short: 3_000 },
    // `tests/psictl/frames.rs` is its short run, with the program itself.
    Target { name: "driver", open: driver::open, short: 0 },
    Target { name: "env-file", open: env_file::open, short: 20_000 },
    Target { name: "envelope", open: envelope::open, short: 6_000 },
    Target { name: "grpc", open: grpc::open, short: 800 },
    Target { name: "header", open: header::open, short: 20_000 },
    Target { name: "id", open: id::open, short: 20_000 },
    Target { name: "legacy", open: legacy::open, short: 3_000 },
    Target { name: "mapping", open: mapping::open, short: 2_500 },
    Target { name: "recovery", open: recovery::open, short: 4_000 },
    Target { name: "registration", open: registration::open, short: 4_000 },
    Target { name: "template", open: template::open, short: 20_000 },
];

impl Target {
    /// The target of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Its seeds.
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        psi_mutation::files(&directory().join("seeds").join(self.name)).unwrap()
    }

    /// The words of its dictionary.
    pub fn words(&self) -> Vec<Vec<u8>> {
        let path = directory().join("dictionaries").join(self.name);
        std::fs::read_to_string(path).map(|text| psi_mutation::words(&text)).unwrap_or_default()
    }
}

/// `tests/fuzz`
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every file of `tests/vectors`.
pub fn vectors() -> Vec<Vec<u8>> {
    psi_mutation::files(&directory().with_file_name("vectors")).unwrap()
}

/// The first byte chooses the use of the rest.
fn choice(input: &[u8]) -> (u8, &[u8]) {
    input.split_first().map_or((0, input), |(first, rest)| (*first, rest))
}

/// A message fits into one line, and into the header that carries it to psi-driver.
fn assert_words(words: &str) {
    assert!(!words.is_empty());
    assert!(!words.contains(char::is_control), "{words:?}");
    assert!(words.len() <= 4_096, "{} bytes: {}…", words.len(), &words[..300]);
}
