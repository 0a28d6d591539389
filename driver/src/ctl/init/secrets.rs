//! The secrets of the config's credentials: from a file or stdin, the one that is sealed already, or from a terminal.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use psi_common::{Exit, SecretBytes};

use super::checks::is_absolute;
use super::config_text::{ACCESS_TOKEN, CLIENT_KEY, CLIENT_SECRET, PIN};
use super::terminal::Terminal;
use crate::ctl::args::SetUpHostOptions;
use crate::error::CliError;
use crate::stdio;

/// Far more than a client secret, a PIN or a private key.
const MAX_SECRET: u64 = 32 << 10;

/// A credential that `psictl init` seals.
pub(super) struct KnownSecret {
    /// Its name.
    pub(super) name: &'static str,
    /// The flag that names its file.
    pub(super) flag: &'static str,
    /// The secret, for messages.
    what: &'static str,
    question: Question,
}

/// What a terminal is asked for.
#[derive(Clone, Copy)]
enum Question {
    /// The secret, without an echo.
    Secret(&'static str),
    /// The path of its file: it has several lines.
    File(&'static str),
}

/// The credentials.
pub(super) const KNOWN: [KnownSecret; 4] = [
    KnownSecret {
        name: CLIENT_SECRET,
        flag: "--client-secret-file",
        what: "the client secret",
        question: Question::Secret("Client secret"),
    },
    KnownSecret {
        name: ACCESS_TOKEN,
        flag: "--access-token-file",
        what: "the access token",
        question: Question::Secret("Access token"),
    },
    KnownSecret {
        name: CLIENT_KEY,
        flag: "--private-key-file",
        what: "the private key",
        question: Question::File("File of the certificate's private key in PEM, which is sealed"),
    },
    KnownSecret {
        name: PIN,
        flag: "--pin-file",
        what: "the PIN",
        question: Question::Secret("User PIN of the token"),
    },
];

impl KnownSecret {
    /// The file that a flag names.
    pub(super) fn file<'a>(&self, options: &'a SetUpHostOptions) -> Option<&'a Path> {
        let (provider, key) = (&options.provider, &options.key);
        let file = match self.name {
            CLIENT_SECRET => &provider.client_secret_file,
            ACCESS_TOKEN => &provider.access_token_file,
            CLIENT_KEY => &provider.private_key_file,
            _ => &key.pin_file,
        };
        file.as_deref()
    }

    /// The secret. `sealed` is the one that is sealed already.
    pub(super) fn read(
        &self,
        file: Option<&Path>,
        sealed: Option<SecretBytes>,
        terminal: Option<&Terminal>,
    ) -> Result<SecretBytes, CliError> {
        let Self { name, flag, what, .. } = self;
        let given = match (file, sealed, terminal) {
            (Some(file), _, _) => read_file(file)?,
            (None, Some(sealed), None) => return Ok(sealed),
            (None, sealed, Some(terminal)) => match (self.ask(terminal, sealed.is_some())?, sealed)
            {
                (Some(typed), _) => typed,
                (None, Some(sealed)) => return Ok(sealed),
                (None, None) => SecretBytes::new(Vec::new()),
            },
            (None, None, None) => {
                return Err(CliError::new(
                    Exit::Usage,
                    format!("{flag} is missing, and there is no terminal to ask at"),
                    format!("give a file of mode 0600, or - for stdin: it is sealed as {name}"),
                ));
            }
        };
        let trimmed = given.expose_secret().trim_ascii_end();
        if trimmed.is_empty() {
            let remedy = format!("write it to the file of {flag}");
            return Err(CliError::new(Exit::BadInput, format!("{what} is empty"), remedy));
        }
        Ok(SecretBytes::new(trimmed.to_vec()))
    }

    fn ask(&self, terminal: &Terminal, is_sealed: bool) -> Result<Option<SecretBytes>, CliError> {
        let hint = if is_sealed { " (empty: the one that is sealed already)" } else { "" };
        match self.question {
            Question::Secret(question) => {
                terminal.ask_secret(&format!("{question}{hint}"), is_sealed)
            }
            Question::File(question) => {
                let is_answer = |path: &str| match path {
                    "" if is_sealed => Ok(()),
                    path => is_absolute(path),
                };
                let default = is_sealed.then_some("");
                let path = terminal.ask(&format!("{question}{hint}"), default, is_answer)?;
                (!path.is_empty()).then(|| read_file(Path::new(&path))).transpose()
            }
        }
    }
}

fn read_file(file: &Path) -> Result<SecretBytes, CliError> {
    if file == Path::new("-") {
        return stdio::read_value();
    }
    let failed = |cause| {
        let doing = format!("reading {}", file.display());
        CliError::io(&doing, &cause, "name the file that holds the secret")
            .with_exit(Exit::BadInput)
    };
    let opened = File::open(file).map_err(failed)?;
    let mut bytes = Vec::with_capacity(usize::try_from(MAX_SECRET).unwrap_or_default() + 1);
    opened.take(MAX_SECRET).read_to_end(&mut bytes).map_err(failed)?;
    Ok(SecretBytes::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_read_without_its_line_end() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        let ask = || KNOWN[0].read(Some(&file), None, None);
        assert_eq!(ask().unwrap_err().exit(), Exit::BadInput);
        std::fs::write(&file, "s3cret\r\n").unwrap();
        assert_eq!(ask().unwrap().expose_secret(), b"s3cret");
        std::fs::write(&file, "\n").unwrap();
        assert!(ask().unwrap_err().to_string().contains("the client secret is empty"));
    }

    #[test]
    fn missing_secret_names_its_flag() {
        for known in &KNOWN {
            let error = known.read(None, None, None).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage);
            assert!(error.to_string().starts_with(known.flag), "{error}");
        }
    }
}
