//! Checks of text that crosses a boundary: from a provider, from podman, over the socket.
//!
//! Each program calls these before it writes, passes on, executes or prints such text. psid is the
//! network-facing process, psictl runs as root: neither relies on the other's check.

mod printable;

pub use printable::{excerpt, printable, printable_lines};

/// The longest name of a podman secret since podman 4.6.
const MAX_SECRET_NAME: usize = 253;
/// The longest key that Infisical's server stores; it answers a longer one with an error 500.
const MAX_KEY: usize = 2_600;
/// The longest path of a provider's directory, and the longest name of a project.
const MAX_PATH: usize = 4_096;
/// systemd's UNIT_NAME_MAX.
const MAX_UNIT: usize = 255;
/// Linux's NAME_MAX, which limits a credential's file.
const MAX_FILE_NAME: usize = 255;

/// The unit types of systemd.unit(5).
const UNIT_TYPES: [&str; 11] = [
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "slice",
    "scope",
];

/// A text that a check rejected. The message is one short line without control characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} '{shown}' {why}")]
pub struct InvalidText {
    kind: &'static str,
    shown: String,
    why: &'static str,
}

/// Checks the name of a podman secret that psi creates: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, which every podman
/// accepts and which needs no quotes in a shell, a unit or a command line.
pub fn secret_name(text: &str) -> Result<(), InvalidText> {
    let reject = rejection("the secret name", text);
    if text.len() > MAX_SECRET_NAME {
        return reject("is longer than 253 bytes");
    }
    if is_plain_name(text) {
        return Ok(());
    }
    reject(
        "has a character that is not a letter, a digit or one of _.-, or does not begin with a letter or digit",
    )
}

/// Checks the name of a podman secret of any origin: podman ≥ 4.7 accepts all characters but `,`, `/`, `=` and NUL.
pub fn foreign_secret_name(text: &str) -> Result<(), InvalidText> {
    let reject = rejection("the secret name", text);
    if text.is_empty() {
        return reject("is empty");
    }
    if text.len() > MAX_SECRET_NAME {
        return reject("is longer than 253 bytes");
    }
    if text.contains([',', '/', '=']) {
        return reject("contains a comma, a slash or an equals sign");
    }
    without_controls("the secret name", text)
}

/// Checks a key of a provider: any text that is one segment of a URL and one line of a report.
pub fn key(text: &str) -> Result<(), InvalidText> {
    let reject = rejection("the key", text);
    if text.is_empty() {
        return reject("is empty");
    }
    if text.len() > MAX_KEY {
        return reject("is longer than 2600 bytes");
    }
    if matches!(text, "." | "..") {
        return reject("is a dot segment");
    }
    without_controls("the key", text)
}

/// Checks the name of a project, as in the config.
pub fn project(text: &str) -> Result<(), InvalidText> {
    let reject = rejection("the project", text);
    if text.is_empty() {
        return reject("is empty");
    }
    if text.len() > MAX_PATH {
        return reject("is longer than 4096 bytes");
    }
    if matches!(text, "." | "..") {
        return reject("is a dot segment");
    }
    without_controls("the project", text)
}

/// Checks the path of a provider's directory: absolute, without `.` and `..` as segments.
pub fn path(text: &str) -> Result<(), InvalidText> {
    let reject = rejection("the path", text);
    if !text.starts_with('/') {
        return reject("does not begin with /");
    }
    if text.len() > MAX_PATH {
        return reject("is longer than 4096 bytes");
    }
    if text.split('/').any(|segment| matches!(segment, "." | "..")) {
        return reject("contains a dot segment");
    }
    without_controls("the path", text)
}

/// Checks the full name of a systemd unit, as systemd's `unit_name_is_valid` does.
pub fn unit(text: &str) -> Result<(), InvalidText> {
    let reject = rejection("the unit", text);
    if text.len() > MAX_UNIT {
        return reject("is longer than 255 bytes");
    }
    let Some((stem, kind)) = text.rsplit_once('.') else {
        return reject("has no unit type, as in network-online.target");
    };
    if !UNIT_TYPES.contains(&kind) {
        return reject("has no unit type that systemd knows");
    }
    if stem.is_empty() || stem.starts_with('@') {
        return reject("has no name before its type");
    }
    if !stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte)) {
        return reject("has a character that systemd does not accept");
    }
    Ok(())
}

/// Checks the name of a workload, which is the name of a quadlet unit and begins its secrets' names; one
/// `@` at the end names a template.
pub fn workload(text: &str) -> Result<(), InvalidText> {
    let name = text.strip_suffix('@').unwrap_or(text);
    if name.len() <= MAX_SECRET_NAME && is_plain_name(name) {
        return Ok(());
    }
    rejection("the workload", text)(
        "is not letters, digits and _.- that begin with a letter or digit, and @ at the end for a template",
    )
}

/// Checks the name of an environment variable: `[A-Za-z_][A-Za-z0-9_]*`.
pub fn variable(text: &str) -> Result<(), InvalidText> {
    let part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if text.bytes().all(part) && text.bytes().next().is_some_and(|first| !first.is_ascii_digit()) {
        return Ok(());
    }
    rejection("the variable", text)(
        "is not letters, digits and underscores that do not begin with a digit",
    )
}

/// Checks the name of a file that needs no quotes in a shell, a unit or a command line: `[a-zA-Z0-9_.-]+`, not
/// a dot segment.
pub fn file_name(text: &str) -> Result<(), InvalidText> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let is_dots = matches!(text, "." | "..");
    if !text.is_empty() && text.len() <= MAX_FILE_NAME && text.bytes().all(plain) && !is_dots {
        return Ok(());
    }
    rejection("the file name", text)("is not letters, digits and _.-, at most 255 of them")
}

/// Checks where a container has the file of a secret: a path, absolute or below `/run/secrets`, that needs no quotes in a
/// unit, and no comma, at which podman splits its option. Podman accepts `..` in it.
pub fn mount_target(text: &str) -> Result<(), InvalidText> {
    let reject = rejection("the target", text);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-/@+:=".contains(&byte);
    if text.is_empty() {
        return reject("is empty");
    }
    if text.len() > MAX_PATH - 1 || text.split('/').any(|part| part.len() > MAX_FILE_NAME) {
        return reject("is longer than Linux allows");
    }
    if !text.bytes().all(plain) {
        return reject("has a character that is not a letter, a digit or one of _.-/@+:=");
    }
    if matches!(text.rsplit('/').next(), Some("" | "." | "..")) {
        return reject("names a directory, not a file");
    }
    Ok(())
}

/// Checks the mode of a secret's file: podman sets the nine bits of permissions only.
pub fn mount_mode(mode: u32) -> Result<(), InvalidText> {
    if mode <= 0o777 {
        return Ok(());
    }
    rejection("the mode", &format!("{mode:04o}"))(
        "has other bits than permissions, which podman leaves out; use at most 0777",
    )
}

/// Checks the uid or gid of a secret's file. As an argument of chown(2), the last number means no change.
pub fn mount_owner(id: u32) -> Result<(), InvalidText> {
    if id != u32::MAX {
        return Ok(());
    }
    rejection("the owner", "4294967295")("is no uid and no gid")
}

/// Checks the name of a systemd credential, which is a file's name below the credentials directory.
pub fn credential(text: &str) -> Result<(), InvalidText> {
    if text.len() <= MAX_FILE_NAME && is_plain_name(text) {
        return Ok(());
    }
    rejection("the credential", text)(
        "is not letters, digits and _.- that begin with a letter or digit, at most 255 of them",
    )
}

/// Checks that other text is one line without control characters.
pub fn without_controls(kind: &'static str, text: &str) -> Result<(), InvalidText> {
    if text.contains(char::is_control) {
        return rejection(kind, text)("contains a control character");
    }
    Ok(())
}

fn is_plain_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

fn rejection<'a>(
    kind: &'static str,
    text: &'a str,
) -> impl Fn(&'static str) -> Result<(), InvalidText> + 'a {
    move |why| Err(InvalidText { kind, shown: excerpt(text), why })
}

impl InvalidText {
    /// The reason without the text, for a text that must not be shown.
    pub fn why(&self) -> &'static str {
        self.why
    }
}

#[cfg(test)]
mod tests;
