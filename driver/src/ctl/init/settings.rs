//! The settings of a config's text, line by line: enough to compare two configs and to see what is named there. psid
//! alone decides what a config means.

use std::collections::{BTreeMap, BTreeSet};

/// The packaged config, which sets nothing that a host needs.
const TEMPLATE: &str = include_str!("../../../../contrib/config/psi.toml");
/// `psid init --seal-with` writes this line.
const FOLLOWS_THE_KEY: &str = "cache.seal_with";

/// The settings of a config.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    tables: BTreeSet<String>,
    /// `TABLE.KEY` and the value as it is written.
    values: BTreeMap<String, String>,
}

impl Settings {
    pub(super) fn of(text: &str) -> Self {
        let (mut table, mut found) = (String::new(), Self::default());
        for line in text.lines().map(without_comment) {
            if let Some(heading) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                heading.trim().clone_into(&mut table);
                found.tables.insert(table.clone());
            } else if let Some((key, value)) = line.split_once('=') {
                found.values.insert(format!("{table}.{}", key.trim()), value.trim().to_owned());
            } else if !line.is_empty() {
                // A value of several lines.
                found.values.insert(format!("{table}: {line}"), String::new());
            }
        }
        found
    }

    /// A setting's string.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        unquoted(self.values.get(key)?)
    }

    /// The names of the credentials that are named.
    pub(super) fn credentials(&self) -> Vec<&str> {
        let named = self.values.iter().filter(|(key, _)| key.ends_with("_credential"));
        named.filter_map(|(_, value)| unquoted(value)).collect()
    }

    /// The names of the tables right below another one: projects, workloads.
    pub(super) fn below(&self, table: &str) -> Vec<&str> {
        let prefix = format!("{table}.");
        let names = self.tables.iter().filter_map(|name| name.strip_prefix(&prefix));
        names
            .filter_map(|name| unquoted(name).or((!name.contains(['.', '"'])).then_some(name)))
            .collect()
    }

    /// The first setting in which two configs differ, as the other one has it.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        if let Some(table) = self.tables.symmetric_difference(&other.tables).next() {
            let has = if other.tables.contains(table) { "" } else { "no " };
            return Some(format!("{has}[{table}]"));
        }
        let keys = self.values.keys().chain(other.values.keys());
        let differs = |key: &&String| self.values.get(*key) != other.values.get(*key);
        let key = keys.filter(|key| *key != FOLLOWS_THE_KEY).find(differs)?;
        Some(
            other
                .values
                .get(key)
                .map_or_else(|| format!("no {key}"), |value| format!("{key} = {value}")),
        )
    }
}

fn unquoted(value: &str) -> Option<&str> {
    let text = value.strip_prefix('"')?.strip_suffix('"')?;
    (!text.contains('"')).then_some(text)
}

/// Whether a config is the packaged one, in which nothing was set.
pub(super) fn is_template(text: &str) -> bool {
    let settings = Settings::of(text);
    settings == Settings::default() || settings == Settings::of(TEMPLATE)
}

/// The line without its comment and surrounding blanks.
fn without_comment(line: &str) -> &str {
    let (mut in_string, mut escaped) = (false, false);
    for (at, character) in line.char_indices() {
        match character {
            '#' if !in_string => return line[..at].trim(),
            '"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = character == '\\' && !escaped;
    }
    line.trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "# x = 1\n[cache]\nbackend = \"tpm\" # a comment\n[providers.infisical.auth]\n\
        client_secret_credential = \"a # b\"\n[providers.infisical.projects.p]\nid = \"1\"\n\
        [workloads.\"my-app\"]\nsecrets = [\n  { project = \"p\" },\n]\n";

    #[test]
    fn settings_are_read_without_comments() {
        let settings = Settings::of(CONFIG);
        assert_eq!(settings.text("cache.backend"), Some("tpm"));
        assert_eq!(settings.text("cache.seal_with"), None);
        assert_eq!(settings.credentials(), ["a # b"]);
        assert_eq!(settings.below("providers.infisical.projects"), ["p"]);
        assert_eq!(settings.below("workloads"), ["my-app"]);
    }

    #[test]
    fn difference_ignores_comments_order_and_the_key_s_seal() {
        let one = Settings::of(CONFIG);
        let commented = CONFIG.replace("[cache]\n", "[cache]\n# more\nseal_with = \"host\"\n");
        assert_eq!(one.difference(&Settings::of(&commented)), None);
        let other = CONFIG.replace("\"tpm\"", "\"hsm\"");
        assert_eq!(
            one.difference(&Settings::of(&other)).as_deref(),
            Some("cache.backend = \"hsm\"")
        );
        assert_eq!(
            Settings::of(&other).difference(&Settings::of("")).as_deref(),
            Some("no [cache]")
        );
    }

    #[test]
    fn template_is_recognised_until_something_is_set() {
        assert!(is_template(TEMPLATE) && is_template("") && is_template("# nothing\n\n"));
        assert!(is_template(&TEMPLATE.replace("# Whether values are cached", "# Mine")));
        assert!(!is_template(&TEMPLATE.replace("#:backend", "backend")));
        assert!(!is_template("[cache]\nbackend = \"tpm\"\n"));
    }
}
