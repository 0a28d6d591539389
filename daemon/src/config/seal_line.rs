//! Writes the line `seal_with = "…"` of `[cache]` into a config file: comments, the order and all other lines
//! stay as they are.

use std::path::{Path, PathBuf};

use super::{Config, ConfigError};
use crate::keys::credential::SealWith;

/// The line was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealLineError {
    /// The config is not valid.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The table is written in another notation than `[cache]` and one line for each key.
    #[error("its [cache] is not written line by line in {}", .0.display())]
    Notation(PathBuf),
}

/// The config's text with this `seal_with`. It is unchanged if it has that value already, which is `default`
/// without a line.
pub(crate) fn with_seal_line(
    text: &str,
    path: &Path,
    demand: SealWith,
    default: SealWith,
) -> Result<String, SealLineError> {
    let seal_with = |text: &str| Config::parse(text, path).map(|config| config.cache.seal_with);
    let present = seal_with(text)?;
    if present.unwrap_or(default) == demand {
        return Ok(text.to_owned());
    }
    let changed = changed(text, &format!("seal_with = \"{}\"", demand.name()));
    match seal_with(&changed) {
        Ok(Some(now)) if now == demand => Ok(changed),
        _ => Err(SealLineError::Notation(path.to_owned())),
    }
}

fn changed(text: &str, line: &str) -> String {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let Some(heading) = lines.iter().position(|line| key_of(line) == "[cache]") else {
        let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        return format!("{text}{gap}\n[cache]\n{line}\n");
    };
    let length =
        lines[heading + 1..].iter().take_while(|line| !line.trim_start().starts_with('[')).count();
    let table = heading + 1..heading + 1 + length;
    let find = |key: &str| {
        table.clone().find(|at| key_of(lines[*at]).split('=').next().map(str::trim) == Some(key))
    };
    let new = format!("{line}\n");
    match (find("seal_with"), find("backend")) {
        (Some(at), _) => {
            let comment =
                lines[at].find('#').map(|start| format!("{line}  {}", &lines[at][start..]));
            let new = comment.unwrap_or(new);
            lines[at] = &new;
            lines.concat()
        }
        (None, before) => {
            let at = before.unwrap_or(heading);
            let before = lines[at].to_owned() + if lines[at].ends_with('\n') { "" } else { "\n" };
            let both = before + &new;
            lines[at] = &both;
            lines.concat()
        }
    }
}

/// A line without its comment and surrounding blanks.
fn key_of(line: &str) -> &str {
    line.split('#').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str, demand: SealWith) -> Result<String, SealLineError> {
        with_seal_line(text, Path::new("config.toml"), demand, SealWith::Tpm2)
    }

    #[test]
    fn line_is_added_once_and_others_stay() {
        let text = "# mine\n[cache] # the cache\nbackend = \"tpm\" # sealed\nrefresh_interval = \"2h\"\n\n[workloads]\n# none\n";
        let host = "# mine\n[cache] # the cache\nbackend = \"tpm\" # sealed\nseal_with = \"host\"\nrefresh_interval = \"2h\"\n\n[workloads]\n# none\n";
        assert_eq!(with(text, SealWith::Host).unwrap(), host);
        assert_eq!(with(host, SealWith::Host).unwrap(), host);
        assert_eq!(with(text, SealWith::Tpm2).unwrap(), text, "the default takes no line");
        let any = with(host, SealWith::Any).unwrap();
        assert_eq!(any, host.replace("\"host\"", "\"any\""));
        let back = with(&any, SealWith::Tpm2).unwrap();
        assert_eq!(back, host.replace("\"host\"", "\"tpm2\""));
    }

    #[test]
    fn comment_on_the_line_stays() {
        let text = "[cache]\nseal_with = \"host\" # no TPM here\n";
        assert_eq!(
            with(text, SealWith::Any).unwrap(),
            "[cache]\nseal_with = \"any\"  # no TPM here\n"
        );
    }

    #[test]
    fn missing_table_is_added() {
        for (text, changed) in [
            ("", "\n[cache]\nseal_with = \"host\"\n"),
            ("# nothing", "# nothing\n\n[cache]\nseal_with = \"host\"\n"),
            ("[cache]", "[cache]\nseal_with = \"host\"\n"),
            (
                "[cache]\r\nenabled = true\r\n",
                "[cache]\r\nseal_with = \"host\"\nenabled = true\r\n",
            ),
        ] {
            assert_eq!(with(text, SealWith::Host).unwrap(), changed);
        }
    }

    /// The same table in another notation is not changed, and no key is written into another table.
    #[test]
    fn other_notations_are_refused() {
        for text in ["cache = { enabled = true }\n", "cache.enabled = true\n"] {
            assert!(with(text, SealWith::Host).is_err(), "{text}");
        }
        let text = "#:[cache]\n[workloads] # [cache]\n";
        let changed = with(text, SealWith::Host).unwrap();
        assert!(
            changed.starts_with(text) && changed.ends_with("\n[cache]\nseal_with = \"host\"\n")
        );
    }

    #[test]
    fn invalid_config_is_refused() {
        assert!(
            with("[cache]\nunknown = 1\n", SealWith::Host)
                .unwrap_err()
                .to_string()
                .contains("unknown")
        );
    }
}
