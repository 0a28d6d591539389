//! Findings about the key and the credentials of the config: whether they open, and what they are sealed to.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use psi_common::{BackendTag, Finding};

use crate::config::{Config, Pkcs11Pin, SecretLocation};
use crate::keys::TpmKey;
use crate::keys::credential::{Credential, SealOptions, SealWith};
use crate::runtime::build::{self, Environment};

/// The findings about the cache's key.
pub(super) async fn key(config: &Config, environment: &Environment) -> Vec<Finding> {
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
            "there is no key backend: no value outlives a reboot, and no literal can be stored",
            "set backend in [cache] of the config, and run `psictl cache init`",
        )
        .of("key")]
        }
        // `psictl hsm preflight` checks it step by step.
        Some(BackendTag::Hsm) => Vec::new(),
        Some(BackendTag::Tpm) => tpm_key(&build::tpm(&config.cache, environment)).await,
    }
}

async fn tpm_key(key: &TpmKey) -> Vec<Finding> {
    let mut findings = Vec::new();
    // The message of the running psid, so that psictl groups the two. A key that is not in its place yet is reported as
    // an interrupted init.
    let is_missing = !key.credential.sealed.exists() && key.next_key().is_some();
    if let Err(error) = key.check().await
        && !is_missing
    {
        findings.push(Finding::error(error.problem.what, error.problem.remedy).of("key"));
    }
    let credential = &key.credential;
    let remedy = "`psictl cache rekey --seal-with tpm2`";
    findings.extend(binding(credential, remedy).map(|finding| match key.seal_with() {
        SealWith::Tpm2 => finding,
        // The config allows it.
        SealWith::Host | SealWith::Any => {
            Finding::note(finding.problem.what, finding.problem.remedy).of("not-bound-to-tpm")
        }
    }));
    findings
}

/// The finding that a sealed file opens without the TPM, for example on a stolen disk.
fn binding(credential: &Credential, remedy: &str) -> Option<Finding> {
    let path = credential.sealed.display();
    let sealed = fs::read(&credential.sealed).ok()?;
    let remedy = if credential.creds.is_user() {
        // A user cannot seal a credential to the TPM.
        "root does it, see Rootless in the README"
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
        Some(_) => format!("{path} is sealed to nothing: every user who can read it can open it"),
        None => format!("{path} does not show what it is sealed to, which may not be the TPM"),
    };
    Some(Finding::warning(what, format!("seal it to the TPM: {remedy}")).of("not-bound-to-tpm"))
}

/// The findings about each credential and each secret file of the config.
pub(super) async fn credentials(config: &Config, environment: &Environment) -> Vec<Finding> {
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
        let sealed = environment.beside_config(name);
        findings.extend(credential(&sealed, &environment.paths.state).await);
    }
    files.sort_unstable();
    files.dedup();
    let in_plaintext = files.into_iter().filter_map(|path| file(path));
    findings.extend(in_plaintext.map(|finding| finding.of("secret-in-file")));
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
    let unreadable = unreadable(&credential.sealed, state);
    unread.into_iter().chain(unreadable).chain(binding(credential, &format!("`{seal}`"))).collect()
}

/// The finding that psid's user cannot read a sealed file, for example one that root made with umask 027.
fn unreadable(sealed: &Path, state: &Path) -> Option<Finding> {
    let file = fs::metadata(sealed).ok()?;
    // The state directory belongs to psid's user.
    let psid = fs::metadata(state).ok()?;
    let (uid, gid) = (psid.uid(), psid.gid());
    (!may_read(file.mode(), (file.uid(), file.gid()), (uid, gid))).then(|| {
        Finding::error(
            format!("psid (uid {uid}) cannot read {}", sealed.display()),
            format!("run `chmod 0644 {}`; the file is encrypted", sealed.display()),
        )
        .of("credential-unreadable")
    })
}

/// Whether a process may read a file, as the kernel decides: the first matching class of owner, group and others
/// counts.
fn may_read(mode: u32, owner: (u32, u32), process: (u32, u32)) -> bool {
    match process {
        (0, _) => true,
        (uid, _) if uid == owner.0 => mode & 0o400 != 0,
        (_, gid) if gid == owner.1 => mode & 0o040 != 0,
        _ => mode & 0o004 != 0,
    }
}

/// The finding about a secret file in plaintext.
fn file(path: &Path) -> Option<Finding> {
    let shown = path.display();
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) => {
            return Some(Finding::error(format!("{shown}: {error}"), "restore the file"));
        }
    };
    let mode = meta.permissions().mode() & 0o077;
    if mode == 0 {
        return Some(Finding::note(
            format!("{shown} holds a secret in plaintext"),
            "use a credential that `psictl seal` makes instead",
        ));
    }
    Some(Finding::warning(
        format!("{shown} holds a secret in plaintext, and users other than its owner may read it"),
        format!("`chmod 600 {shown}`"),
    ))
}

#[cfg(test)]
mod tests {
    use super::may_read;

    #[test]
    fn may_read_follows_the_kernel() {
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
