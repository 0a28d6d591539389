//! The key, and the credentials that the config names: whether they open, and what they are bound to.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use psi_common::{BackendTag, Finding};

use crate::config::{Config, Pkcs11Pin, SecretLocation};
use crate::keys::TpmKey;
use crate::keys::credential::{Credential, SealOptions, SealWith};
use crate::runtime::build::{self, Environment};

/// What a sealed file is bound to decides what a thief of the disk gets.
pub(super) async fn key(config: &Config, surroundings: &Environment) -> Vec<Finding> {
    if !config.cache.enabled {
        return vec![
            Finding::warning(
                "the cache is off: a container starts only while its provider answers",
                "set enabled = true in [cache] of the config",
            )
            .of("cache-off"),
        ];
    }
    match config.cache.backend {
        None => {
            vec![Finding::warning(
            "there is no key backend: nothing outlives a reboot, and no literal can be stored",
            "set backend in [cache] of the config, and run `psictl cache init`",
        )
        .of("key")]
        }
        // `hsm preflight` goes through it step by step.
        Some(BackendTag::Hsm) => Vec::new(),
        Some(BackendTag::Tpm) => tpm_key(&build::tpm(&config.cache, surroundings)).await,
    }
}

async fn tpm_key(key: &TpmKey) -> Vec<Finding> {
    let mut findings = Vec::new();
    // One cause, in the words that psid has for it.
    if let Err(error) = key.check().await {
        findings.push(Finding::error(error.problem.what, error.problem.remedy).of("key"));
    }
    let credential = &key.credential;
    let remedy = "`psictl cache rekey --seal-with tpm2`";
    findings.extend(binding(credential, remedy).map(|finding| match key.seal_with() {
        SealWith::Tpm2 => finding,
        // The config says that it is meant to be so.
        SealWith::Host | SealWith::Any => {
            Finding::note(finding.problem.what, finding.problem.remedy).of("not-bound-to-tpm")
        }
    }));
    findings
}

/// Whether a sealed file is of use to whoever has the disk and not the TPM.
fn binding(credential: &Credential, remedy: &str) -> Option<Finding> {
    let path = credential.sealed.display();
    let sealed = fs::read(&credential.sealed).ok()?;
    let remedy = if credential.creds.is_user() {
        // A user's own commands could not do it.
        "have root do it, see Rootless in the README"
    } else {
        remedy
    };
    let seal = SealOptions::of(&sealed);
    if SealWith::Tpm2.accepts(seal.as_ref()) {
        return None;
    }
    let what = match seal.map(|seal| seal.with_key).as_deref() {
        Some("host") => {
            format!(
                "{path} is not bound to the TPM: its key is on the same disk, in /var/lib/systemd"
            )
        }
        Some(_) => format!("{path} is sealed to nothing: whoever has the file can open it"),
        None => format!("{path} does not tell what it is sealed to: it may be bound to no TPM"),
    };
    Some(Finding::warning(what, format!("seal it to the TPM: {remedy}")).of("not-bound-to-tpm"))
}

/// Every credential and every secret file that the config names.
pub(super) async fn credentials(config: &Config, surroundings: &Environment) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut credentials = Vec::new();
    let mut files = Vec::new();
    let projects = config.infisical.iter().flat_map(|infisical| infisical.projects.values());
    for project in projects {
        match project.auth.secret() {
            Some(SecretLocation::Credential(name)) => credentials.push(name),
            Some(SecretLocation::File(path)) => files.push(path),
            Some(SecretLocation::Inline(_)) | None => {}
        }
    }
    match config.pkcs11.as_ref().map(|hsm| &hsm.pin) {
        Some(Pkcs11Pin::Credential(name)) => credentials.push(name),
        Some(Pkcs11Pin::File(path)) => files.push(path),
        None => {}
    }
    credentials.sort_unstable();
    credentials.dedup();
    for name in credentials {
        let sealed = surroundings.beside_config(name);
        findings.extend(credential(&sealed, &surroundings.paths.state).await);
    }
    files.sort_unstable();
    files.dedup();
    let in_clear = files.into_iter().filter_map(|path| file(path));
    findings.extend(in_clear.map(|finding| finding.of("secret-in-file")));
    findings
}

async fn credential(credential: &Credential, state: &Path) -> Vec<Finding> {
    let (name, path) = (&credential.name, credential.sealed.display());
    let seal = credential.command();
    let unread = match credential.read().await {
        Ok(Some(_)) => None,
        Ok(None) => Some(Finding::warning(
            format!("the credential {name} is not in {path}"),
            format!("seal it there, `{seal}`, unless a drop-in of psid.service delivers it"),
        )),
        Err(error) => {
            let fault = credential.fault(&error).await;
            let again = format!("seal it again: `{seal}`");
            Some(Finding::error(
                format!("the credential {name} does not open: {}", fault.what),
                fault.remedy(&again, &again),
            ))
        }
    };
    let unread = unread.map(|finding| finding.of("credential"));
    let hidden = hidden(&credential.sealed, state);
    unread.into_iter().chain(hidden).chain(binding(credential, &format!("`{seal}`"))).collect()
}

/// Whether psid cannot read a sealed file that root made, under a umask of 027, say.
fn hidden(sealed: &Path, state: &Path) -> Option<Finding> {
    let file = fs::metadata(sealed).ok()?;
    // Whose the state folder is, that is psid.
    let psid = fs::metadata(state).ok()?;
    let (uid, gid) = (psid.uid(), psid.gid());
    (!may_read(file.mode(), (file.uid(), file.gid()), (uid, gid))).then(|| {
        Finding::error(
            format!("psid, which is uid {uid}, may not read {}", sealed.display()),
            format!("`chmod 0644 {}`: it is sealed", sealed.display()),
        )
        .of("credential-unreadable")
    })
}

/// As the kernel judges: the first that fits counts.
fn may_read(mode: u32, owner: (u32, u32), who: (u32, u32)) -> bool {
    match who {
        (0, _) => true,
        (uid, _) if uid == owner.0 => mode & 0o400 != 0,
        (_, gid) if gid == owner.1 => mode & 0o040 != 0,
        _ => mode & 0o004 != 0,
    }
}

/// A secret in a file, in clear.
fn file(path: &Path) -> Option<Finding> {
    let shown = path.display();
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) => {
            return Some(Finding::error(format!("{shown}: {error}"), "put it there again"));
        }
    };
    let mode = meta.permissions().mode() & 0o077;
    if mode == 0 {
        return Some(Finding::note(
            format!("{shown} holds a secret in clear"),
            "a credential that `psictl seal` makes does not",
        ));
    }
    Some(Finding::warning(
        format!("{shown} holds a secret in clear, and others than its owner may read it"),
        format!("`chmod 600 {shown}`"),
    ))
}

#[cfg(test)]
mod tests {
    use super::may_read;

    #[test]
    fn who_may_read_a_file_is_judged_as_the_kernel_does() {
        let (root, psid) = ((0, 0), (64, 65));
        assert!(may_read(0o644, root, psid));
        assert!(!may_read(0o640, root, psid), "root's umask was 027");
        assert!(may_read(0o640, (0, 65), psid));
        assert!(!may_read(0o604, (0, 65), psid), "the group comes first");
        assert!(may_read(0o400, (64, 0), psid));
        assert!(!may_read(0o044, (64, 0), psid));
        assert!(may_read(0o600, (7, 7), (0, 0)));
    }
}
