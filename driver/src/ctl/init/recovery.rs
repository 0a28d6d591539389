//! The recovery key of a new key: to a file that is made first, or to a terminal where it is typed back.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use psi_common::{Exit, SecretBytes};

use super::psid_child::InMemory;
use super::terminal::Terminal;
use crate::ctl::args::KeyArgs;
use crate::error::CliError;
use crate::stdio;

/// How often a recovery key is asked for.
const MAX_TRIES: usize = 8;

/// Where the recovery key goes.
pub(super) enum RecoveryPlace<'a> {
    /// There is to be none.
    Omitted,
    /// To this new file.
    ToFile(PathBuf),
    /// To the terminal, from memory.
    Shown(&'a Terminal, InMemory),
}

impl<'a> RecoveryPlace<'a> {
    /// Prepares its place, so that a key is never created whose recovery key has none.
    pub(super) fn prepare(
        options: &KeyArgs,
        terminal: Option<&'a Terminal>,
    ) -> Result<Self, CliError> {
        if options.no_recovery_key {
            return Ok(Self::Omitted);
        }
        if let Some(file) = &options.recovery_key_file {
            create(file)?;
            let absolute = std::path::absolute(file).unwrap_or_else(|_| file.clone());
            return Ok(Self::ToFile(absolute));
        }
        match terminal {
            Some(terminal) => {
                let memory = InMemory::new().map_err(|cause| {
                    CliError::io("a file in RAM for the recovery key", &cause, "run it again")
                })?;
                Ok(Self::Shown(terminal, memory))
            }
            None => Err(no_place()),
        }
    }

    /// The options of `psid init`.
    pub(super) fn args(&self) -> Vec<String> {
        match self {
            Self::Omitted => vec!["--no-recovery-key".into()],
            Self::ToFile(file) => vec![format!("--recovery-key-file={}", file.display())],
            Self::Shown(_, memory) => {
                vec![format!("--recovery-key-file={}", memory.path().display())]
            }
        }
    }

    /// Removes what was prepared: no key was created.
    pub(super) fn discard(self) {
        if let Self::ToFile(file) = self {
            let _ = std::fs::remove_file(file);
        }
    }

    /// Hands it over to the admin: what was done with it.
    pub(super) fn hand_over(self) -> Result<String, CliError> {
        match self {
            Self::Omitted => Ok("no recovery key; `psictl cache recovery-key` creates one".into()),
            Self::ToFile(file) => {
                Ok(format!("the recovery key is in {}; move it off this host", file.display()))
            }
            Self::Shown(terminal, memory) => {
                let key = memory.into_secret().map_err(|cause| lost(&cause.to_string()))?;
                typed_back(terminal, &key)?;
                Ok("the recovery key was typed back".into())
            }
        }
    }
}

/// The error that nothing says where the recovery key goes.
pub(super) fn no_place() -> CliError {
    CliError::new(
        Exit::Usage,
        "the recovery key has no place: there is no terminal to show it at",
        "add --recovery-key-file FILE, or --no-recovery-key",
    )
}

fn create(file: &Path) -> Result<(), CliError> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    created.map(|_| ()).map_err(|cause| {
        let doing = format!("creating {}", file.display());
        let remedy = match cause.kind() {
            ErrorKind::AlreadyExists => "name a new file: it may hold another recovery key",
            _ => "name a file in a directory that exists",
        };
        CliError::io(&doing, &cause, remedy).with_exit(Exit::BadInput)
    })
}

fn typed_back(terminal: &Terminal, key: &SecretBytes) -> Result<(), CliError> {
    let text = String::from_utf8_lossy(key.expose_secret());
    terminal.show(&format!(
        "\n  The recovery key, shown only now. Keep it off this host: after a change of board or firmware,\n  \
         `psictl cache recover` opens the cache and the literals with it.\n\n      {text}\n\n  \
         Type it back, to be sure that you have it. (Ctrl-C leaves it: `psictl cache recovery-key` creates\n  \
         another one.)\n"
    ));
    for _ in 0..MAX_TRIES {
        terminal.show("Recovery key: ");
        match difference(&stdio::read_line()?, key) {
            None => return Ok(()),
            Some(why) => terminal.show(&format!("  {why}\n")),
        }
    }
    Err(lost("it was not typed back"))
}

fn lost(why: &str) -> CliError {
    CliError::new(
        Exit::BadInput,
        format!("the key of the cache was created, and nobody has its recovery key: {why}"),
        "run `psictl init` again, then `psictl cache recovery-key`, which creates another one",
    )
}

/// Where a typed key differs from the shown one; `None` if it does not. Blanks, hyphens and case are ignored, as
/// `psictl cache recover` ignores them.
fn difference(typed: &SecretBytes, shown: &SecretBytes) -> Option<String> {
    let letters = |key: &SecretBytes| {
        let kept = key.expose_secret().iter().filter(|byte| byte.is_ascii_alphanumeric());
        SecretBytes::new(kept.map(u8::to_ascii_lowercase).collect())
    };
    let (typed, shown) = (letters(typed), letters(shown));
    if typed.same_as(&shown) {
        return None;
    }
    let (is, should) = (typed.len(), shown.len());
    if is != should {
        return Some(format!("that has {is} letters, and the recovery key has {should}"));
    }
    let equal = typed.expose_secret().iter().zip(shown.expose_secret()).take_while(|(a, b)| a == b);
    Some(format!("the group {} of the letters is another one", equal.count() / 8 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> SecretBytes {
        SecretBytes::new(text.as_bytes().to_vec())
    }

    #[test]
    fn difference_ignores_how_it_is_written() {
        let shown = bytes("cbdefghi-jklnrtuv");
        assert_eq!(difference(&bytes("CBDE FGHI jklnrtuv"), &shown), None);
        let short = difference(&bytes("cbdefghi"), &shown);
        assert_eq!(short.as_deref(), Some("that has 8 letters, and the recovery key has 16"));
        let other = difference(&bytes("cbdefghi-jklnrtuu"), &shown);
        assert_eq!(other.as_deref(), Some("the group 2 of the letters is another one"));
    }

    #[test]
    fn prepare_never_takes_a_file_that_exists() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        let options = KeyArgs { recovery_key_file: Some(file.clone()), ..KeyArgs::default() };
        let prepared = RecoveryPlace::prepare(&options, None).unwrap();
        assert_eq!(prepared.args(), [format!("--recovery-key-file={}", file.display())]);
        assert!(file.exists());
        let again = RecoveryPlace::prepare(&options, None).err().unwrap();
        assert_eq!(again.exit(), Exit::BadInput);
        prepared.discard();
        assert!(!file.exists());
        let none = RecoveryPlace::prepare(&KeyArgs::default(), None).err().unwrap();
        assert_eq!(none.exit(), Exit::Usage);
    }
}
