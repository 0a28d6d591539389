//! Where the log goes: the journal under systemd, else stderr as text or JSON. One line a record.

use std::io::IsTerminal;
use std::os::linux::fs::MetadataExt;

use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The journal when stderr is the journal's, else text
    Auto,
    /// Text on stderr
    Text,
    /// One JSON object a line on stderr
    Json,
}

/// How much is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verbosity {
    /// What stopped working
    Error,
    /// And what an admin should look at
    Warn,
    /// And what happens once in a while
    Info,
    /// And what happens all the time
    Debug,
}

/// Starts the log. Panics are logged by their place alone: their words may quote a value.
pub(crate) fn start(format: Format, verbosity: Verbosity, journal_stream: Option<&str>) {
    let level = match verbosity {
        Verbosity::Error => Level::ERROR,
        Verbosity::Warn => Level::WARN,
        Verbosity::Info => Level::INFO,
        Verbosity::Debug => Level::DEBUG,
    };
    // Our own records only: what a library prints at debug may hold a request's body.
    let ours = Targets::new().with_target("psi_daemon", level).with_target("psid", level);
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
    // A second start, as in tests, keeps the first log.
    let _ = tracing_subscriber::registry().with(layer.with_filter(ours)).try_init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!("a defect of psid at {place} ended a call or a task; please report it");
    }));
}

/// Whether stderr is the stream that systemd named in `JOURNAL_STREAM` (`device:inode`).
fn is_stderr(journal_stream: Option<&str>) -> bool {
    let stderr = std::fs::metadata("/proc/self/fd/2")
        .map(|meta| format!("{}:{}", meta.st_dev(), meta.st_ino()));
    matches!((journal_stream, stderr), (Some(named), Ok(stderr)) if named == stderr)
}
