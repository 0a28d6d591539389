//! References in unexpanded values: `${KEY}` names a secret of the same directory,
//! `${environment.directory.KEY}` a secret of another one.

use std::collections::{HashMap, HashSet};

/// The values of a listing as written, by directory and key, without imported ones.
pub(super) struct UnexpandedSecrets<'a>(HashMap<(&'a str, &'a str), &'a str>);

/// Whether a value may hold a reference.
pub(super) fn has_any(text: &str) -> bool {
    text.contains("${")
}

impl<'a> UnexpandedSecrets<'a> {
    /// From directories, keys and values.
    pub(super) fn new(secrets: impl Iterator<Item = (&'a str, &'a str, &'a str)>) -> Self {
        Self(secrets.map(|(path, key, text)| ((path, key), text)).collect())
    }

    /// Whether every reference without a directory names a secret of the value's own directory, recursively.
    /// An imported value has no directory here, so that no such reference resolves.
    pub(super) fn resolves_in(&self, path: Option<&'a str>, text: &'a str) -> bool {
        let (mut seen, mut texts) = (HashSet::new(), vec![text]);
        while let Some(text) = texts.pop() {
            for key in names_without_directory(text) {
                let Some(found) = path.and_then(|path| self.0.get(&(path, key))) else {
                    return false;
                };
                if seen.insert(key) {
                    texts.push(found);
                }
            }
        }
        true
    }
}

/// The names in `${…}` without a dot. The server ignores references with other characters.
fn names_without_directory(text: &str) -> impl Iterator<Item = &str> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || ['-', '_'].contains(&c);
    let inside = text.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
    inside
        .map(|(name, _)| name)
        .filter(move |name| !name.is_empty() && name.chars().all(is_of_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_resolve_in_the_own_directory() {
        let secrets = [
            ("/app", "HOST", "db"),
            ("/app", "URL", "x://${HOST}"),
            ("/app", "CIRCLE", "${CIRCLE}"),
            ("/app", "THROUGH", "${IMPORTED}"),
            ("/other", "ELSEWHERE", "1"),
        ];
        let unexpanded = UnexpandedSecrets::new(secrets.into_iter());
        for (text, resolves) in [
            ("${HOST}", true),
            ("a${URL}b${HOST}", true),
            ("${CIRCLE}", true),
            ("${prod.other.X}", true),
            ("${@project.prod.X}", true),
            ("${}", true),
            ("${a b}", true),
            ("${HOST", true),
            ("${THROUGH}", false),
            ("${IMPORTED}", false),
            ("${ELSEWHERE}", false),
            ("${HOST}${IMPORTED}", false),
            ("${prod.other.X}${IMPORTED}", false),
        ] {
            assert_eq!(unexpanded.resolves_in(Some("/app"), text), resolves, "{text}");
        }
        assert!(unexpanded.resolves_in(None, "${prod.other.X}"));
        assert!(!unexpanded.resolves_in(None, "${HOST}"));
    }
}
