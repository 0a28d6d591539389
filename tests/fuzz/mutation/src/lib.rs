//! Makes inputs from seeds by small random changes; a number determines the inputs.
//!
//! It uses nothing of psi, so that the black-box tests may use it too.

mod dictionary;
pub mod frames;

use std::fs;
use std::io;
use std::path::Path;

use fastrand::Rng;

pub use dictionary::words;

/// Longer inputs are cut: they are slower and test nothing more.
const LONGEST: usize = 16 << 10;
/// The numbers at which lengths and counts tend to go wrong.
const EDGES: [u8; 8] = [0, 1, 0x0f, 0x10, 0x7f, 0x80, 0xfe, 0xff];

/// Makes one input after the other.
pub struct Mutator {
    rng: Rng,
    seeds: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

impl Mutator {
    /// Starts from `seeds`, at least one, with `words` to insert.
    pub fn new(number: u64, seeds: Vec<Vec<u8>>, words: Vec<Vec<u8>>) -> Self {
        assert!(!seeds.is_empty(), "nothing to change");
        Self { rng: Rng::with_seed(number), seeds, words }
    }

    /// The next input: a seed with one to eight changes.
    pub fn input(&mut self) -> Vec<u8> {
        let mut input = self.seed();
        for _ in 0..1 << self.rng.u32(0..4) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn seed(&mut self) -> Vec<u8> {
        self.seeds[self.rng.usize(..self.seeds.len())].clone()
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.rng.usize(..=input.len());
        let span = self.rng.usize(..=(input.len() - at).min(64));
        match self.rng.u32(0..8) {
            0 => self.replace(input, at, |rng, byte| byte ^ (1 << rng.u32(0..8))),
            1 => self.replace(input, at, |rng, _| rng.u8(..)),
            2 => self.replace(input, at, |rng, _| EDGES[rng.usize(..EDGES.len())]),
            3 => input.truncate(at),
            4 => drop(input.drain(at..at + span)),
            5 => {
                let copy = input[at..at + span].to_vec();
                input.splice(at..at, copy);
            }
            6 => self.put_word(input, at),
            _ => self.splice(input, at),
        }
    }

    fn replace(&mut self, input: &mut [u8], at: usize, by: impl Fn(&mut Rng, u8) -> u8) {
        if let Some(byte) = input.get_mut(at) {
            *byte = by(&mut self.rng, *byte);
        }
    }

    /// Writes a word over the present bytes, or between them.
    fn put_word(&mut self, input: &mut Vec<u8>, at: usize) {
        if self.words.is_empty() {
            return;
        }
        let word = &self.words[self.rng.usize(..self.words.len())];
        let over = if self.rng.bool() { word.len().min(input.len() - at) } else { 0 };
        input.splice(at..at + over, word.iter().copied());
    }

    /// Replaces the end by that of another seed.
    fn splice(&mut self, input: &mut Vec<u8>, at: usize) {
        let other = self.seed();
        input.truncate(at);
        input.extend_from_slice(&other[self.rng.usize(..=other.len())..]);
    }
}

/// Every file of a directory and of those below it, in the order of their names.
pub fn files(directory: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut paths: Vec<_> = fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(fs::read(&path)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutator(number: u64) -> Mutator {
        Mutator::new(number, vec![vec![b'a'; 100], b"other".to_vec()], vec![b"WORD".to_vec()])
    }

    fn inputs(number: u64) -> Vec<Vec<u8>> {
        let mut mutator = mutator(number);
        (0..500).map(|_| mutator.input()).collect()
    }

    #[test]
    fn mutations_are_deterministic_by_seed() {
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
    }

    #[test]
    fn every_kind_of_mutation_occurs() {
        let inputs = inputs(1);
        let has = |what: &str, is: &dyn Fn(&[u8]) -> bool| {
            assert!(inputs.iter().any(|input| is(input)), "{what}");
        };
        has("shorter", &|input| input.len() < 100 && input.iter().all(|byte| *byte == b'a'));
        has("longer", &|input| input.len() > 100 && input.iter().all(|byte| *byte == b'a'));
        has("a word", &|input| input.windows(4).any(|part| part == b"WORD"));
        has("a splice", &|input| input.starts_with(b"aa") && input.ends_with(b"er"));
        has("a byte", &|input| input.len() == 100 && !input.iter().all(|byte| *byte == b'a'));
    }
}
