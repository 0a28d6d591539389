//! The four commands that podman runs. They are permanent: podman copies them into every secret when it creates
//! it. So they contain no socket, token, flag or timeout. `exec` saves one shell process for each lookup.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use psi_common::{Exit, Paths};

use crate::error::CliError;

/// The usual path of psi-driver.
const PROGRAM: &str = "/usr/bin/psi-driver";
/// In the order of the drop-in.
const VERBS: [&str; 4] = ["lookup", "store", "delete", "list"];

/// The commands that run one psi-driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commands {
    program: String,
}

impl Commands {
    /// The commands that run the psi-driver at `program`; without it, at the path in podman's drop-in.
    pub(crate) fn of(program: Option<&Path>, paths: &Paths) -> Result<Self, CliError> {
        let Some(program) = program else {
            let installed = fs::read_to_string(&paths.podman_drop_in).ok();
            let installed = installed.as_deref().and_then(program_in).filter(|path| is_plain(path));
            return Ok(Self { program: installed.unwrap_or(PROGRAM).to_owned() });
        };
        let plain = program.to_str().filter(|path| is_plain(path)).ok_or_else(|| {
            CliError::new(
                Exit::Usage,
                format!(
                    "--program {} is not an absolute path of plain characters",
                    program.display()
                ),
                "podman passes it to sh: use only letters, digits and ._-+/",
            )
        })?;
        Ok(Self { program: plain.to_owned() })
    }

    /// The program that they run.
    pub(crate) fn program(&self) -> &Path {
        Path::new(&self.program)
    }

    /// Each verb with its command.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, String)> {
        VERBS.into_iter().map(|verb| (verb, format!("exec {} {verb}", self.program)))
    }

    /// The command of a lookup.
    pub(crate) fn lookup(&self) -> String {
        format!("exec {} lookup", self.program)
    }

    /// The driver options of a secret, as podman keeps them.
    pub(crate) fn options(&self) -> BTreeMap<String, String> {
        self.all().map(|(verb, command)| (verb.to_owned(), command)).collect()
    }

    /// The driver options of a secret that is always a literal.
    pub(crate) fn literal_options(&self) -> BTreeMap<String, String> {
        let mut options = self.options();
        options.insert("store".to_owned(), format!("exec {} store --literal", self.program));
        options
    }

    /// Whether a secret's driver options are these commands.
    pub(crate) fn matches(&self, options: &BTreeMap<String, String>) -> bool {
        *options == self.options() || *options == self.literal_options()
    }

    /// Podman's drop-in that makes them its default.
    pub(crate) fn drop_in(&self) -> String {
        let mut text = String::from(
            "# Written by `psictl install`. Podman copies these commands into each secret it creates.\n\
             [secrets]\ndriver = \"shell\"\n[secrets.opts]\n",
        );
        for (verb, command) in self.all() {
            text.push_str(&format!("{verb:6} = \"{command}\"\n"));
        }
        text
    }
}

/// The program in a drop-in as [`Commands::drop_in`] writes it.
fn program_in(drop_in: &str) -> Option<&str> {
    drop_in
        .lines()
        .find_map(|line| line.strip_prefix("lookup = \"exec ")?.strip_suffix(" lookup\""))
}

/// Whether `sh`, TOML and podman's command line take the path as it is.
fn is_plain(path: &str) -> bool {
    path.starts_with('/')
        && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/+".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The packaged drop-in and the written one are equal.
    #[test]
    fn drop_in_equals_the_packaged_one() {
        let packaged = include_str!("../../../../contrib/containers.conf.d/50-psi.conf");
        let commands = Commands { program: PROGRAM.into() };
        assert_eq!(commands.drop_in(), packaged);
        assert_eq!(program_in(packaged), Some(PROGRAM));
        for verb in VERBS {
            assert!(packaged.contains(&format!("= \"exec /usr/bin/psi-driver {verb}\"\n")));
        }
    }

    #[test]
    fn literal_options_match_and_differ_in_one_word() {
        let commands = Commands { program: PROGRAM.into() };
        let literal = commands.literal_options();
        assert_eq!(literal["store"], "exec /usr/bin/psi-driver store --literal");
        assert!(commands.matches(&literal) && commands.matches(&commands.options()));
        let mut other = commands.options();
        other.insert("delete".into(), "exec /usr/bin/psi-driver delete --force".into());
        assert!(!commands.matches(&other));
    }

    #[test]
    fn is_plain_rejects_what_a_shell_would_change() {
        assert!(is_plain("/usr/local/bin/psi-driver"));
        for path in ["psi-driver", "/a b/psi-driver", "/a;rm", "/a\"b", "/a$b", "/a\nb", "/a,b"] {
            assert!(!is_plain(path), "{path}");
        }
    }
}
