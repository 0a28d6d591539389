//! The shim's trace: the changes of the disk, one after the other.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

use super::shim;
use psi_harness::Instance;

/// One change, or the try of one.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// What was called: create, open, write, fsync, rename, link, unlink, mkdir, date and so on.
    pub(super) name: String,
    /// What it was called on, below the instance's folder.
    pub(super) path: PathBuf,
    /// The second path, the offset, the time.
    pub(super) other: String,
    /// What a write wrote.
    pub(super) data: Vec<u8>,
    /// Whether it succeeded.
    pub(super) ok: bool,
}

/// The trace of the psids of an instance, in order.
pub(super) fn read(instance: &Instance) -> Vec<Call> {
    let text = fs::read_to_string(shim::trace(instance)).unwrap_or_default();
    text.lines().map(|line| parse(line, instance.folder())).collect()
}

fn parse(line: &str, folder: &Path) -> Call {
    let fields: Vec<_> = line.split('\t').collect();
    let [_, name, path, other, data, errno] = fields[..] else { panic!("no trace: {line}") };
    let below = |path: &str| {
        let path = Path::new(path);
        path.strip_prefix(folder).unwrap_or(path).to_owned()
    };
    Call {
        name: name.into(),
        path: below(path),
        other: below(other).display().to_string(),
        data: HEXLOWER.decode(data.as_bytes()).unwrap(),
        ok: errno == "0",
    }
}

/// As a person names it. Times are left out: they are another one in each run.
impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let path = without_time(&self.path.display().to_string());
        let path = if path.is_empty() { "." } else { &path };
        write!(f, "{} {path}", self.name)?;
        match self.name.as_str() {
            "rename" | "link" => write!(f, " -> {}", without_time(&self.other)),
            _ => Ok(()),
        }
    }
}

/// `cache.enc.bad-1795469892` is `cache.enc.bad-TIME`.
pub(super) fn without_time(text: &str) -> String {
    let mut words = text.to_owned();
    for mark in [".bad-", ".old-"] {
        let parts: Vec<_> = words.split(mark).collect();
        let rest = |part: &&str| part.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned();
        let rest: Vec<_> = parts[1..].iter().map(rest).collect();
        words = std::iter::once(parts[0].to_owned())
            .chain(rest)
            .collect::<Vec<_>>()
            .join(&format!("{mark}TIME"));
    }
    words
}
