//! The log: the journal under systemd, else stderr as text or JSON. One line per record.

use std::io::IsTerminal;
use std::os::linux::fs::MetadataExt;

use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The journal if stderr is connected to it, else text
    Auto,
    /// Text on stderr
    Text,
    /// JSON on stderr, one object per line
    Json,
}

/// The lowest level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verbosity {
    /// Errors only
    Error,
    /// Errors and warnings
    Warn,
    /// Also informational messages
    Info,
    /// Also debug messages
    Debug,
}

/// Starts the log. A panic is logged with its location only: its message may contain a secret.
pub(crate) fn start(format: Format, verbosity: Verbosity, journal_stream: Option<&str>) {
    let level = match verbosity {
        Verbosity::Error => Level::ERROR,
        Verbosity::Warn => Level::WARN,
        Verbosity::Info => Level::INFO,
        Verbosity::Debug => Level::DEBUG,
    };
    // Only records of psid: debug messages of a library may contain a request body.
    let own = Targets::new().with_target("psi_daemon", level).with_target("psid", level);
    // The trail is no diagnosis: it is logged at each verbosity.
    let own = own.with_target("psi_daemon::trail", level.max(Level::INFO));
    let journal = match format {
        Format::Auto if is_stderr(journal_stream) => tracing_journald::layer().ok(),
        _ => None,
    };
    let layer = match (journal, format) {
        (Some(journal), _) => journal
            .with_syslog_identifier("psid".into())
            .with_field_prefix(Some("PSI".into()))
            .boxed(),
        (None, Format::Json) => fmt::layer().json().with_writer(std::io::stderr).boxed(),
        (None, _) => {
            let ansi = std::io::stderr().is_terminal();
            fmt::layer().with_target(false).with_ansi(ansi).with_writer(std::io::stderr).boxed()
        }
    };
    // A second start, as in tests, has no effect.
    let _ = tracing_subscriber::registry().with(layer.with_filter(own)).try_init();
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!("internal error (panic) at {location}; please report it");
    }));
}

/// Whether stderr is the stream that systemd names in `JOURNAL_STREAM` (`device:inode`).
fn is_stderr(journal_stream: Option<&str>) -> bool {
    let stderr = std::fs::metadata("/proc/self/fd/2")
        .map(|meta| format!("{}:{}", meta.st_dev(), meta.st_ino()));
    matches!((journal_stream, stderr), (Some(named), Ok(stderr)) if named == stderr)
}
