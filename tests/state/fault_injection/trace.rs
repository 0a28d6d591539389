//! The shim's trace: the changes of the disk in order.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

use super::shim;
use psi_harness::Instance;

/// A change, or a failed attempt.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// The call: create, open, write, fsync, rename, link, unlink, mkdir, date and so on.
    pub(super) name: String,
    /// Its path below the instance's directory.
    pub(super) path: PathBuf,
    /// The second path, the offset or the time.
    pub(super) other: String,
    /// The data of a write.
    pub(super) data: Vec<u8>,
    /// Whether it succeeded.
    pub(super) ok: bool,
}

/// The trace of the psids of an instance, in order.
pub(super) fn read(instance: &Instance) -> Vec<Call> {
    let text = fs::read_to_string(shim::trace(instance)).unwrap_or_default();
    text.lines().map(|line| parse(line, instance.directory())).collect()
}

fn parse(line: &str, directory: &Path) -> Call {
    let fields: Vec<_> = line.split('\t').collect();
    let [_, name, path, other, data, errno] = fields[..] else { panic!("no trace: {line}") };
    let below = |path: &str| {
        let path = Path::new(path);
        path.strip_prefix(directory).unwrap_or(path).to_owned()
    };
    Call {
        name: name.into(),
        path: below(path),
        other: below(other).display().to_string(),
        data: HEXLOWER.decode(data.as_bytes()).unwrap(),
        ok: errno == "0",
    }
}

/// The call for people. Times are left out, because they differ in each run.
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
