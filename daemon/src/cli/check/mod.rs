//! `psid check`: whether psid could use a config, as its user and behind its unit's sandbox; with `--online`, what the
//! providers answer.

mod as_psid;
mod files;
mod on_change;
mod online;
mod unit;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;

use psi_common::{Exit, OnlineReport, Paths, Problem, SecretBytes};
use serde_json::{Value, json};

use super::print;
use crate::cli::error::CommandError;
use crate::config::{Config, ConfigError};
use crate::runtime::build::Environment;
use crate::runtime::users::find_users;
use crate::sys::descriptor;
pub(super) use as_psid::Checked;
use as_psid::PsidUser;

/// The longest config and the longest secret.
const MAX_BYTES: u64 = 1 << 20;
/// The config of the system's psid.
const SYSTEM_CONFIG: &str = "/etc/psi/config.toml";

/// The options of `psid check`.
#[derive(clap::Args)]
pub(super) struct CheckOptions {
    /// Also log in with each identity and list each source; nothing is registered and no value is shown
    #[arg(long)]
    online: bool,
    /// Read the secret of the login from this descriptor, instead of where the config names it
    #[arg(long, value_name = "N", requires = "online")]
    secret_fd: Option<RawFd>,
    /// Read the user PIN of the PKCS#11 token from this descriptor, instead of where the config names it
    #[arg(long, value_name = "N", requires = "online")]
    pin_fd: Option<RawFd>,
    /// Check this provider of the config only
    #[arg(long, value_name = "NAME", requires = "online")]
    provider: Option<String>,
    /// Retry a refused login once now; too many refused logins lock the identity for every host
    #[arg(long, requires = "online")]
    retry: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `psid check` does before the process opens a descriptor, starts a thread or locks its memory.
#[derive(Default)]
pub(super) struct Prepared {
    /// The config, where it is not psid's own.
    config: Option<io::Result<File>>,
    /// The secret of the login.
    secret: Option<io::Result<File>>,
    /// The PIN of the token.
    pin: Option<io::Result<File>>,
    /// The user that this process became.
    user: Option<PsidUser>,
}

/// What was found.
#[derive(Default)]
struct Report {
    /// The config file, for messages.
    config: String,
    /// What psid could not use, and what fixes it.
    problems: Vec<Problem>,
    /// What is allowed but unsafe or unlikely to be meant.
    warnings: Vec<String>,
    /// What the providers answered, if they were asked.
    online: Option<OnlineReport>,
}

impl Prepared {
    /// Takes the descriptors that the command line names.
    pub(super) fn take_descriptors(&mut self, options: &CheckOptions, config: Option<&Path>) {
        self.config = config.and_then(descriptor::number_in).map(descriptor::inherited);
        self.secret = options.secret_fd.map(descriptor::inherited);
        self.pin = options.pin_fd.map(descriptor::inherited);
    }

    /// Becomes the user of the system's psid, if this is root's check of the system's config or of a candidate for
    /// it.
    pub(super) fn become_psids_user(
        &mut self,
        options: &CheckOptions,
        environment: &mut Environment,
    ) -> Result<(), CommandError> {
        let Some(user) = PsidUser::of(environment) else { return Ok(()) };
        // Without its helper, only root can open credentials.
        let helper = environment.paths.socket.with_file_name("creds.sock");
        let is_given = options.secret_fd.is_some() || options.pin_fd.is_some();
        if options.online && !is_given && !helper.exists() {
            return Ok(());
        }
        let path = &environment.paths.config;
        if self.config.is_none() && path != Path::new(SYSTEM_CONFIG) {
            // A candidate may be root's alone.
            self.config = Some(File::open(path));
        }
        user.become_it(environment).map_err(|error| {
            let what = format!("psid cannot become the user {}: {}", user.name(), error.desc());
            CommandError::io(what, "run it as root")
        })?;
        self.user = Some(user);
        Ok(())
    }
}

/// Checks the config, and prints what was found.
pub(super) async fn run(
    mut environment: Environment,
    options: &CheckOptions,
    prepared: Prepared,
) -> Result<(), CommandError> {
    let Prepared { config, secret, pin, user } = prepared;
    let path = environment.paths.config.clone();
    let mut report = Report { config: path.display().to_string(), ..Report::default() };
    report.online = options.online.then(OnlineReport::default);
    let config = match config {
        Some(file) => Config::from_bytes(read(file), &path),
        None => Config::read(&path),
    };
    let user = user.as_ref();
    match config {
        Ok(config) => {
            report.warnings.clone_from(&config.warnings);
            report.warnings.extend(find_users(&config.workloads, &BTreeMap::new()).await);
            report.problems = problems(&config, &environment.paths, user);
            if options.online {
                environment.given_secret = given_secret("--secret-fd", secret)?;
                environment.given_pin = given_secret("--pin-fd", pin)?;
                match online::check(&config, &environment, options).await {
                    Ok(online) => report.online = Some(online),
                    Err(problem) => report.problems.push(problem),
                }
            }
        }
        Err(error) => report.problems.push(unusable(&error, &path, user)),
    }
    if let Some(user) = user {
        report.add_unit(user, &environment);
    }
    print(&if options.json { report.to_json() } else { report.to_text() });
    for problem in report.problems.iter().skip(1) {
        super::print_error(&format!("psid: {problem}"));
    }
    match report.failure() {
        Some((exit, problem)) => Err(CommandError { exit, problem }),
        None => Ok(()),
    }
}

/// What psid could not use of a config that it can read.
fn problems(config: &Config, paths: &Paths, user: Option<&PsidUser>) -> Vec<Problem> {
    let objections = config.objections.iter().map(Problem::without_remedy);
    let unit = user.map(|user| &user.unit);
    let reloads = on_change::problems(config, &paths.quadlets);
    objections.chain(files::problems(config, &paths.config, unit)).chain(reloads).collect()
}

fn unusable(error: &ConfigError, path: &Path, user: Option<&PsidUser>) -> Problem {
    let is_denied = || File::open(path).is_err_and(|why| why.kind() == ErrorKind::PermissionDenied);
    match user {
        Some(user) if error.line.is_none() && is_denied() => {
            let (name, path) = (user.name(), path.display());
            Problem::new(
                format!("psid's user {name} cannot read {path}: {}", error.what),
                format!("`chown root:{name} {path} && chmod 0640 {path}`, and see its directory"),
            )
        }
        _ => Problem::without_remedy(error.to_string()),
    }
}

/// The report about the config and its files for `psid doctor`: by a `psid check` that becomes psid's user, where this
/// process is root's.
pub(super) async fn check_for_doctor(config: &Config, environment: &Environment) -> Checked {
    let paths = &environment.paths;
    let own =
        || Checked { problems: problems(config, paths, None), warnings: config.warnings.clone() };
    if PsidUser::of(environment).is_none() {
        return own();
    }
    as_psid::check_by_child(&paths.config).await.unwrap_or_else(own)
}

fn given_secret(
    flag: &str,
    file: Option<io::Result<File>>,
) -> Result<Option<Arc<SecretBytes>>, CommandError> {
    let Some(file) = file else { return Ok(None) };
    let secret = read(file).map_err(|error| CommandError {
        exit: Exit::Usage,
        problem: Problem::new(
            format!("{flag}: {error}"),
            "name a descriptor that is open for reading",
        ),
    })?;
    Ok(Some(Arc::new(SecretBytes::new(secret))))
}

fn read(file: io::Result<File>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Report {
    /// Adds what psid's unit makes of the config.
    fn add_unit(&mut self, user: &PsidUser, environment: &Environment) {
        let (unit, paths) = (&user.unit, &environment.paths);
        self.problems.extend(files::unwritable(&[&paths.state, &paths.run], unit));
        let of_unit = unit.config.as_deref().filter(|_| paths.config == Path::new(SYSTEM_CONFIG));
        if let Some(of_unit) = of_unit.filter(|of_unit| *of_unit != paths.config) {
            let (own, of_unit) = (paths.config.display(), of_unit.display());
            self.problems.push(Problem::new(
                format!("psid.service runs psid with {of_unit}, not with {own}"),
                format!("`psid --config {of_unit} check` checks that one"),
            ));
        }
        if unit.is_outdated {
            self.warnings.push(
                "systemd has not loaded the newest files of psid.service; `systemctl daemon-reload`".into(),
            );
        }
    }

    /// The exit status and the message, unless all is well.
    fn failure(&self) -> Option<(Exit, Problem)> {
        if let Some(first) = self.problems.first() {
            return Some((Exit::BadInput, first.clone()));
        }
        let online = self.online.as_ref()?;
        Some((online.exit(), online.summary()?))
    }

    fn to_json(&self) -> String {
        let online = self.online.as_ref().map_or_else(|| json!({}), |online| json!(online));
        let mut report = json!({
            "config": self.config,
            "well": self.failure().is_none(),
            "problems": self.problems,
            "warnings": self.warnings,
        });
        if let (Value::Object(report), Value::Object(online)) = (&mut report, online) {
            report.extend(online);
        }
        format!("{report:#}\n")
    }

    fn to_text(&self) -> String {
        let mut text: String =
            self.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
        if self.problems.is_empty() {
            text += &format!("{} is good\n", self.config);
        }
        if let Some(online) = &self.online {
            text += &online.to_string();
        }
        text
    }
}
