//! psi-driver's command line, parsed by hand: clap takes several times as long as the whole call.

use std::ffi::OsString;

use psi_common::SecretId;
use psi_proto::v1::StoreKind;

/// A verb of psi-driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Lookup,
    Store(StoreKind),
    Delete,
    List,
    Get { name: String },
    Health,
}

impl Verb {
    /// Parses the arguments, the program's name first. `None`: psictl handles them, which has the full command
    /// line and the usage errors.
    pub(crate) fn parse(args: &[OsString]) -> Option<Self> {
        let args: Vec<&str> =
            args.get(1..)?.iter().map(|arg| arg.to_str()).collect::<Option<_>>()?;
        match args[..] {
            ["lookup"] => Some(Self::Lookup),
            ["store"] => Some(Self::Store(StoreKind::Unspecified)),
            ["store", "--literal"] => Some(Self::Store(StoreKind::Literal)),
            ["store", "--reference"] => Some(Self::Store(StoreKind::Reference)),
            ["delete"] => Some(Self::Delete),
            ["list"] => Some(Self::List),
            ["get", name] if !name.starts_with('-') => Some(Self::Get { name: name.to_owned() }),
            ["health"] => Some(Self::Health),
            _ => None,
        }
    }

    /// The verb's name in messages: with the secret's id or name, where it has one.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::Lookup => with_id("lookup"),
            Self::Store(_) => with_id("store"),
            Self::Delete => with_id("delete"),
            Self::List => "list".into(),
            Self::Get { name } => format!("get {}", shown(name)),
            Self::Health => "health".into(),
        }
    }

    /// Whether the argument may be a podman name, which psid may not know.
    pub(crate) fn may_be_podman_name(&self) -> bool {
        matches!(self, Self::Get { name } if !name.starts_with('{') && name.parse::<SecretId>().is_err())
    }
}

/// Whether the arguments ask for psi-driver's version.
pub(crate) fn is_version(args: &[OsString]) -> bool {
    matches!(args, [_, flag] if flag == "--version" || flag == "-V")
}

fn with_id(verb: &str) -> String {
    match secret_id() {
        Some(id) if !id.is_empty() => {
            let id: String =
                id.to_string_lossy().chars().take(40).flat_map(char::escape_default).collect();
            format!("{verb} {id}")
        }
        _ => verb.to_owned(),
    }
}

/// The first argument, for a message.
pub(crate) fn first_word(args: &[OsString]) -> String {
    args.get(1).map_or_else(|| "no command".to_owned(), |arg| shown(&arg.to_string_lossy()))
}

/// A user's text on one line.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}

/// `SECRET_ID`, the one variable of podman's contract.
#[expect(clippy::disallowed_methods, reason = "the one place that reads SECRET_ID")]
pub(crate) fn secret_id() -> Option<OsString> {
    std::env::var_os("SECRET_ID")
}
