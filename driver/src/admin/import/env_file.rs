//! Env-files, by podman's rules (`ParseFile` in pkg/env/env.go, the same from podman 4.0 to 6.1): a line is a
//! name, `=` and all of the rest; blanks before the name go, nothing else does; `#` begins a comment line.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use psi_common::{Exit, SecretBytes};

use super::entries::Entries;
use crate::failure::Failure;

/// No env-file is larger.
const LARGEST: u64 = 64 << 20;

/// A line that podman refuses, with the whole file; by its number, for the line may be a secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    number: usize,
    why: &'static str,
}

/// Reads files one after the other.
pub(super) fn read_all(files: &[PathBuf]) -> Result<Entries, Failure> {
    let mut entries = Entries::default();
    for file in files {
        read(file, &mut entries)?;
    }
    Ok(entries)
}

/// Reads one file.
pub(super) fn read(path: &Path, entries: &mut Entries) -> Result<(), Failure> {
    let text = contents(path)?;
    parse(text.expose_secret(), path, entries).map_err(|BadLine { number, why }| {
        let path = path.display();
        Failure::new(
            Exit::BadInput,
            format!("line {number} of {path} {why}"),
            "podman does not take the file either; correct it",
        )
    })
}

/// A file's bytes, or stdin's.
pub(super) fn contents(path: &Path) -> Result<SecretBytes, Failure> {
    let failed =
        |cause| Failure::io(&format!("reading {}", path.display()), &cause, "check the path");
    let mut text = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(LARGEST).read_to_end(&mut text)
    } else {
        let file = File::open(path).map_err(failed)?;
        // The whole buffer at once: growing would leave copies of secrets behind.
        let length = file.metadata().map_or(0, |about| about.len().min(LARGEST));
        text.reserve_exact(usize::try_from(length).unwrap_or_default() + 1);
        file.take(LARGEST).read_to_end(&mut text)
    };
    read.map_err(failed)?;
    Ok(SecretBytes::new(text))
}

fn parse(text: &[u8], path: &Path, entries: &mut Entries) -> Result<(), BadLine> {
    for (index, line) in lines(text).enumerate() {
        let number = index + 1;
        let bad = |why| BadLine { number, why };
        let line = without_blanks(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let Some(at) = line.iter().position(|byte| *byte == b'=') else {
            entries.warn(format!(
                "line {number} of {} names a variable of podman's own environment, and is left out",
                path.display()
            ));
            continue;
        };
        let (name, value) = (&line[..at], &line[at + 1..]);
        if name.is_empty() {
            return Err(bad("has no name before its ="));
        }
        let name = std::str::from_utf8(name).map_err(|_| bad("has a name that is no UTF-8"))?;
        if is_quoted(value) {
            let name = name.escape_debug();
            entries.warn(format!(
                "the value of {name} is in quotes, which podman takes for a part of it, and so does this"
            ));
        }
        entries.put(name.to_owned(), SecretBytes::new(value.to_vec()));
    }
    Ok(())
}

/// As Go's `bufio.ScanLines` has them: without the newline, and without one carriage return before it.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn without_blanks(line: &[u8]) -> &[u8] {
    let blanks = line.iter().take_while(|byte| b" \t".contains(byte)).count();
    &line[blanks..]
}

fn is_quoted(value: &[u8]) -> bool {
    let ends = |quote| value.len() > 1 && value.starts_with(&[quote]) && value.ends_with(&[quote]);
    ends(b'"') || ends(b'\'')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Pairs = Vec<(String, Vec<u8>)>;

    fn parsed(text: &[u8]) -> Result<(Pairs, Vec<String>), BadLine> {
        let mut entries = Entries::default();
        parse(text, Path::new("f"), &mut entries)?;
        let list = entries.list.into_iter();
        Ok((list.map(|one| (one.key, one.value.into_exposed())).collect(), entries.warnings))
    }

    fn pairs(pairs: &[(&str, &str)]) -> Pairs {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    /// Of pkg/env/env_test.go, and what the rules say.
    #[test]
    fn a_value_is_all_that_follows() {
        let text = b"apple=red\n  facebook=red#blue\n\n# c=1\n \t#d=2\ngoogle=\na=b=c\nb= x \r\n\
            q=\"two words\"\nexport E=1\napple=green\nlast=no newline";
        let (found, warnings) = parsed(text).unwrap();
        assert_eq!(
            found,
            pairs(&[
                ("apple", "green"),
                ("facebook", "red#blue"),
                ("google", ""),
                ("a", "b=c"),
                ("b", " x "),
                ("q", "\"two words\""),
                ("export E", "1"),
                ("last", "no newline"),
            ])
        );
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings[0].contains("of q is in quotes")
                && warnings[1].contains("apple is there twice")
        );
    }

    #[test]
    fn what_podman_refuses_is_refused_by_its_number() {
        assert_eq!(parsed(b"A=1\n=hunter2\n").unwrap_err().number, 2);
        assert_eq!(parsed(b"=").unwrap_err().number, 1);
        assert_eq!(parsed(b"\xff=1").unwrap_err().why, "has a name that is no UTF-8");
        let (found, warnings) = parsed(b"PASSED\nALL*\nA=1").unwrap();
        assert_eq!(found, pairs(&[("A", "1")]));
        assert!(warnings[0].contains("line 1") && warnings[1].contains("line 2"), "{warnings:?}");
        assert!(!warnings[0].contains("PASSED"), "it may be a secret on a line of its own");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            pairs in prop::collection::btree_map("[^\0-\x20#=][^\n\r=]{0,8}", prop::collection::vec(any::<u8>(), 0..20), 0..8),
            crlf in any::<bool>(),
        ) {
            let end: &[u8] = if crlf { b"\r\n" } else { b"\n" };
            let mut text = Vec::new();
            let mut expected = Vec::new();
            for (name, value) in pairs {
                let value: Vec<u8> = value.into_iter().filter(|byte| !b"\n\r".contains(byte)).collect();
                text.extend([b" \t".as_slice(), name.as_bytes(), b"=", &value, end].concat());
                expected.push((name, value));
            }
            prop_assert_eq!(parsed(&text).unwrap().0, expected);
        }

        #[test]
        fn reading_is_total(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parsed(&text);
        }
    }
}
