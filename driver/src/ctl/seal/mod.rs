//! `psictl seal NAME`: seals a credential of psid's with systemd-creds(1).
//!
//! `how` chooses the flags, by systemd's version and what the TPM can do; `systemd_creds` runs the program.

mod how;
mod support;
mod systemd_creds;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use psi_common::{Exit, Paths, Scope, SecretBytes, check};

use super::{files, keys};
use crate::ctl::args::SealCredentialOptions;
use crate::error::CliError;
use crate::stdio;

pub(super) use how::{SealFlags, SealWish, candidates};
pub(super) use support::TpmSupport;
pub(super) use systemd_creds::{SystemdCreds, USER_SCOPE_SINCE};

/// The credential that `psictl cache init` makes.
const CACHE_KEY: &str = "psi-cache-key";

pub(crate) fn run(paths: &Paths, options: &SealCredentialOptions) -> Result<(), CliError> {
    let name = &options.name;
    is_credential_name(name)?;
    let is_root = nix::unistd::geteuid().is_root();
    if options.user && is_root {
        return Err(CliError::new(
            Exit::Usage,
            "--user seals for the user that runs it, and this is root",
            format!("`runuser -u USER -- psictl seal {name}`, or leave the flag out"),
        ));
    }
    let creds = SystemdCreds::of_this_process()?;
    let wish = SealWish { with_key: options.seal_with, pcrs: options.tpm2_pcrs.clone() };
    let secret = secret(name)?;
    let (sealed, flags) = seal(&creds, name, &secret, &wish)?;
    let target = path(paths, name);
    write(&target, &sealed)?;
    stdio::write_text(&format!("sealed {name} in {} {flags}\n", target.display()))?;
    if !is_named(&paths.config, name) {
        let what =
            format!("no key of {} that ends in _credential names it", paths.config.display());
        let next = format!("write {} = \"{name}\" there, see psi.toml(5)", usual_key(name));
        crate::ctl::note(&format!("seal {name}"), &format!("{what}; {next}"));
    }
    Ok(())
}

/// The file of a credential, beside the config.
pub(super) fn path(paths: &Paths, name: &str) -> PathBuf {
    paths.config.with_file_name(format!("{name}.cred"))
}

/// Seals a secret, and verifies that it opens: with the first flags that do both.
pub(super) fn seal(
    creds: &SystemdCreds,
    name: &str,
    secret: &SecretBytes,
    wish: &SealWish,
) -> Result<(SecretBytes, SealFlags), CliError> {
    let mut last = None;
    for flags in candidates(creds.version(), creds.scope(), wish) {
        match creds.seal(name, secret, &flags) {
            Ok(sealed) => return Ok((sealed, flags)),
            Err(why) => last = Some((why, flags)),
        }
    }
    let Some((why, flags)) = last else { return Err(creds.no_user_scope()) };
    let needs_tpm = flags.needs_tpm();
    let support = if needs_tpm { creds.tpm_support() } else { TpmSupport::Unknown };
    let what = format!(
        "sealing {name} {flags}: {why}{}",
        if needs_tpm { support.suffix() } else { String::new() }
    );
    let remedy = if needs_tpm {
        support.remedy(&why)
    } else {
        "`systemd-creds setup` makes the host's key".into()
    };
    Err(CliError::new(Exit::Io, what, format!("nothing was written; {remedy}")))
}

/// Writes a sealed credential, which any user may read.
pub(super) fn write(target: &Path, sealed: &SecretBytes) -> Result<(), CliError> {
    let text = String::from_utf8_lossy(sealed.expose_secret());
    files::replace(target, &text).map_err(|cause| {
        let doing = format!("writing {}", target.display());
        CliError::io(&doing, &cause, "free space there, or run it as the owner of that directory")
    })
}

/// Reads stdin to its end; at a terminal, one line without an echo.
fn secret(name: &str) -> Result<SecretBytes, CliError> {
    if std::io::stdin().is_terminal() {
        return keys::read_secret_line(&format!("value of {name}"), "value");
    }
    stdio::read_value()
}

/// The name becomes an argument of systemd-creds and a file name.
fn is_credential_name(name: &str) -> Result<(), CliError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let shown = check::printable(name).into_owned();
    if name == CACHE_KEY {
        let what = format!("{CACHE_KEY} is the key of the cache");
        return Err(CliError::new(Exit::BadInput, what, "`psictl cache init` makes and seals it"));
    }
    if name.is_empty()
        || name.len() > 200
        || !name.bytes().all(plain)
        || name.starts_with(['.', '-'])
    {
        return Err(CliError::new(
            Exit::BadInput,
            format!("'{shown}' cannot be the name of a credential"),
            "use letters, digits and ._-, as in `psictl seal infisical-client-secret`",
        ));
    }
    Ok(())
}

/// The key of the config that usually names the credential.
fn usual_key(name: &str) -> &'static str {
    match name {
        name if name.contains("pin") => "pin_credential",
        name if name.contains("token") => "token_credential",
        name if name.contains("key") => "key_credential",
        _ => "client_secret_credential",
    }
}

/// Whether a line of the config names the credential. A config that cannot be read names it, for all that is known.
fn is_named(config: &Path, name: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(config) else { return true };
    let quoted = format!("\"{name}\"");
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .any(|line| line.contains("_credential") && line.contains(&quoted))
}

/// Whether the credentials are the system's.
fn is_system(scope: Scope) -> bool {
    scope == Scope::System
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credential_names_are_file_names_of_plain_characters() {
        for name in ["infisical-client-secret", "hsm-pin", "a.b_c"] {
            assert!(is_credential_name(name).is_ok(), "{name}");
        }
        for name in ["", "../x", "a/b", "a b", "-x", ".x", "psi-cache-key", &"x".repeat(201)] {
            assert!(is_credential_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn usual_key_follows_the_name() {
        for (name, key) in [
            ("infisical-client-secret", "client_secret_credential"),
            ("infisical-token", "token_credential"),
            ("infisical-client-key", "key_credential"),
            ("hsm-pin", "pin_credential"),
        ] {
            assert_eq!(usual_key(name), key);
        }
    }

    #[test]
    fn is_named_reads_settings_and_no_comments() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.toml");
        assert!(is_named(&config, "a"));
        std::fs::write(&config, "#x_credential = \"b\"\n client_secret_credential = \"a\"\n")
            .unwrap();
        assert!(is_named(&config, "a") && !is_named(&config, "b"));
    }
}
