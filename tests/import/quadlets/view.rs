//! What a container of a unit gets, by the command that quadlet generates.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use psi_harness::run_quadlet;

use super::Unit;

/// The variables, the env-files' variables and the secrets of a generated unit.
pub(super) struct View {
    pub(super) values: BTreeMap<String, String>,
    /// Names, and files, of which systemd alone has the value.
    pub(super) open: BTreeSet<String>,
}

/// A secret's value in these tests.
pub(super) fn secret_value(name: &str) -> String {
    format!("the secret {name}")
}

impl View {
    /// The view of the quadlet at hand; or the reason why it generates no unit.
    pub(super) fn of(unit: &Unit) -> Result<Self, String> {
        let outcome = run_quadlet(unit.directory());
        let name = unit.path.file_stem().unwrap().to_str().unwrap();
        let generated = outcome.stdout_text();
        let mark = format!("---{name}.service---");
        let mut lines = generated.lines().skip_while(|line| *line != mark);
        let Some(start) = lines.find_map(|line| line.strip_prefix("ExecStart=")) else {
            let file = unit.path.file_name().unwrap().to_str().unwrap();
            let about = |line: &&str| line.contains("converting") && line.contains(file);
            let line = outcome.stderr.lines().find(about).unwrap_or(&outcome.stderr);
            return Err(line.split_once(": ").map_or(line, |(_, why)| why).to_owned());
        };
        let mut view = Self { values: BTreeMap::new(), open: BTreeSet::new() };
        let words = words(start);
        // In podman's order: variables override files, and secrets override both.
        for (option, put) in [
            ("--env-file", Self::put_file as fn(&mut Self, &str)),
            ("--env", Self::put_variable),
            ("--secret", Self::put_secret),
        ] {
            let pairs = words.windows(2).filter(|pair| pair[0] == option);
            pairs.for_each(|pair| put(&mut view, &pair[1]));
        }
        Ok(view)
    }

    fn put_file(&mut self, path: &str) {
        match expanded(path) {
            None => _ = self.open.insert(path.to_owned()),
            Some(path) => {
                for line in fs::read_to_string(path).unwrap().lines() {
                    let (name, value) = line.split_once('=').unwrap();
                    self.values.insert(name.to_owned(), value.to_owned());
                }
            }
        }
    }

    fn put_variable(&mut self, word: &str) {
        let (name, value) = word.split_once('=').unwrap_or((word, "${OF_SYSTEMD}"));
        self.put(name, expanded(value));
    }

    fn put_secret(&mut self, spec: &str) {
        let Some(plain) = expanded(spec).filter(|plain| plain == spec) else {
            self.open.insert(spec.to_owned());
            return;
        };
        let name = plain.split(',').next().unwrap();
        let target = plain.split(',').find_map(|part| part.strip_prefix("target="));
        let key = target.unwrap_or(name).rsplit('/').next().unwrap();
        self.put(key, Some(secret_value(name)));
    }

    fn put(&mut self, name: &str, value: Option<String>) {
        match value {
            Some(value) => {
                self.values.insert(name.to_owned(), value);
            }
            None => {
                self.values.remove(name);
                self.open.insert(name.to_owned());
            }
        }
    }

    /// The keys whose imported value is not this one, or that only one of the two has.
    pub(super) fn differences(&self, imported: &BTreeMap<String, String>) -> BTreeSet<String> {
        let keys: BTreeSet<&String> = self.values.keys().chain(imported.keys()).collect();
        let differing = keys.into_iter().filter(|key| self.values.get(*key) != imported.get(*key));
        differing.cloned().collect()
    }

    #[track_caller]
    pub(super) fn assert_same(
        &self,
        imported: &BTreeMap<String, String>,
        is_whole: bool,
        unit: &str,
    ) {
        let differing = self.differences(imported);
        assert!(differing.is_empty(), "{unit}: {differing:?}: {imported:?}, {:?}", self.values);
        assert_eq!(is_whole, self.open.is_empty(), "{unit}: {:?}", self.open);
    }
}

/// The text as systemd expands it; `None` with a specifier or a variable.
fn expanded(text: &str) -> Option<String> {
    let rest = text.replace("%%", "").replace("$$", "");
    let is_open = rest.contains('%') || rest.contains("${");
    (!is_open).then(|| text.replace("%%", "%").replace("$$", "$"))
}

/// The words of a command line as systemd splits it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut bytes) = (Vec::new(), None, None, Vec::new());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' if quote.is_none() => {
                if word.take().is_some() {
                    words.push(String::from_utf8(std::mem::take(&mut bytes)).unwrap());
                }
                continue;
            }
            '"' | '\'' if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            '\\' => bytes.extend(escape(&mut chars)),
            c => bytes.extend(c.to_string().bytes()),
        }
        word = Some(());
    }
    if word.is_some() {
        words.push(String::from_utf8(bytes).unwrap());
    }
    words
}

fn escape(chars: &mut std::str::Chars) -> Vec<u8> {
    let number = |text: String, base| vec![u8::from_str_radix(&text, base).unwrap()];
    match chars.next().unwrap() {
        'a' => vec![7],
        'b' => vec![8],
        'f' => vec![12],
        'n' => vec![b'\n'],
        'r' => vec![b'\r'],
        's' => vec![b' '],
        't' => vec![b'\t'],
        'v' => vec![11],
        'x' => number(chars.take(2).collect(), 16),
        digit @ '0'..='7' => number(std::iter::once(digit).chain(chars.take(2)).collect(), 8),
        other => other.to_string().into_bytes(),
    }
}
