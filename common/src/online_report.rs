//! The report of `psid check --online` and `psictl login`: the server, each login and each source. Both programs
//! print it, so that it reads the same with and without a daemon.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::{Exit, Problem, check};

/// The number of keys that are named one by one.
const MAX_KEYS: usize = 10;

/// What the configured providers answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OnlineReport {
    /// Each provider's server.
    pub servers: Vec<CheckedServer>,
    /// Each identity.
    pub logins: Vec<CheckedLogin>,
    /// Each source of a workload, and the top directory of each project that no workload names.
    pub sources: Vec<CheckedSource>,
}

/// A provider's server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckedServer {
    /// The provider's name in the config.
    pub provider: String,
    /// Its URL.
    pub url: String,
    /// How many seconds this host's clock is ahead of the server's; negative: behind. `None`: not known.
    pub clock_ahead_seconds: Option<i64>,
    /// How many days the server's certificate is still valid; negative: it has expired. `None`: no TLS.
    pub certificate_days_left: Option<i64>,
    /// Why it cannot be used.
    pub problem: Option<CheckProblem>,
}

/// The login of one identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckedLogin {
    /// The provider's name in the config.
    pub provider: String,
    /// The method and the identity's id.
    pub identity: String,
    /// The projects of the config that it reads, by name.
    pub projects: Vec<String>,
    /// Whether it logged in.
    pub ok: bool,
    /// Why it did not.
    pub problem: Option<CheckProblem>,
    /// Its credential, if it expires.
    pub credential: Option<CheckedCredential>,
}

/// A credential that expires.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckedCredential {
    /// Which one expires in how long.
    pub what: String,
    /// When it expires, in milliseconds since 1970 UTC.
    pub expires_ms: u64,
    /// What replaces it; empty while that is not due.
    pub remedy: String,
}

/// A source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckedSource {
    /// The provider's name in the config.
    pub provider: String,
    /// The project's name in the config.
    pub project: String,
    /// The directory.
    pub path: String,
    /// Whether the directories below it are included.
    pub recursive: bool,
    /// The workloads that name it.
    pub workloads: Vec<String>,
    /// Whether it was listed.
    pub ok: bool,
    /// How many secrets it has, those that are left out included.
    pub keys: u64,
    /// The secrets that no container can have.
    pub left_out: Vec<LeftOut>,
    /// What is allowed and unlikely to be meant; one sentence each.
    pub warnings: Vec<String>,
    /// Why it was not listed.
    pub problem: Option<CheckProblem>,
}

/// A secret that is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Its key at the provider.
    pub key: String,
    /// Why; what fixes it.
    pub why: String,
}

/// A problem, and whether waiting fixes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckProblem {
    /// What happened, with its cause; what fixes it.
    #[serde(flatten)]
    pub problem: Problem,
    /// Whether it may pass by itself. An admin must correct any other one.
    pub try_later: bool,
}

impl CheckProblem {
    /// A problem that an admin must correct.
    pub fn to_correct(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: Problem::new(what, remedy), try_later: false }
    }

    /// A problem that may pass by itself.
    pub fn transient(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: Problem::new(what, remedy), try_later: true }
    }
}

impl OnlineReport {
    /// The exit status: 65 if an admin must correct something, 75 if something may pass by itself, 1 if secrets
    /// are left out.
    pub fn exit(&self) -> Exit {
        let problems: Vec<&CheckProblem> = self.problems().collect();
        if problems.iter().any(|problem| !problem.try_later) {
            Exit::BadInput
        } else if !problems.is_empty() {
            Exit::TryLater
        } else if self.sources.iter().any(|source| !source.left_out.is_empty()) {
            Exit::Drift
        } else {
            Exit::Ok
        }
    }

    /// One line of what is wrong: the first problem that decides the exit status. `None` if nothing is.
    pub fn summary(&self) -> Option<Problem> {
        let exit = self.exit();
        let decides = |problem: &&CheckProblem| problem.try_later == (exit == Exit::TryLater);
        if let Some(first) = self.problems().find(decides) {
            return Some(first.problem.clone());
        }
        let left_out: usize = self.sources.iter().map(|source| source.left_out.len()).sum();
        let noun = if left_out == 1 { "secret is" } else { "secrets are" };
        (left_out > 0)
            .then(|| Problem::new(format!("{left_out} {noun} left out"), "see the lines above"))
    }

    fn problems(&self) -> impl Iterator<Item = &CheckProblem> {
        let servers = self.servers.iter().filter_map(|server| server.problem.as_ref());
        let logins = self.logins.iter().filter_map(|login| login.problem.as_ref());
        let sources = self.sources.iter().filter_map(|source| source.problem.as_ref());
        servers.chain(logins).chain(sources)
    }
}

/// Lines for people, in the form of `psictl cache status`.
impl Display for OnlineReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut reported = Reported::default();
        for server in &self.servers {
            let about = match &server.problem {
                None => server.facts(),
                Some(problem) => reported.line(problem),
            };
            let name = if server.url.is_empty() { &server.provider } else { &server.url };
            line(f, "server", &format!("{name}: {about}"))?;
        }
        for login in &self.logins {
            let about = match (&login.problem, &login.credential) {
                (None, Some(valid)) if valid.remedy.is_empty() => {
                    format!("logged in; {}", valid.what)
                }
                (None, _) => "logged in".to_owned(),
                (Some(problem), _) => reported.line(problem),
            };
            let projects = match login.projects.as_slice() {
                [] => String::new(),
                projects => format!(" ({})", projects.join(", ")),
            };
            line(f, "login", &format!("{}{projects}: {about}", login.identity))?;
            let due = login.credential.iter().filter(|credential| !credential.remedy.is_empty());
            for CheckedCredential { what, remedy, .. } in due {
                line(f, "warning", &format!("{what}; {remedy}"))?;
            }
        }
        for source in &self.sources {
            let about = match &source.problem {
                None => source.facts(),
                Some(problem) => reported.line(problem),
            };
            line(f, "source", &format!("{source}: {about}"))?;
            for left_out in source.left_out.iter().take(MAX_KEYS) {
                line(f, "", &format!("left out: {}", left_out.why))?;
            }
            if let Some(more @ 1..) = source.left_out.len().checked_sub(MAX_KEYS) {
                line(f, "", &format!("left out: {more} more"))?;
            }
            for warning in &source.warnings {
                line(f, "warning", warning)?;
            }
        }
        Ok(())
    }
}

fn line(f: &mut Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    writeln!(f, "{label:<10} {}", check::printable(text))
}

/// The problems that were reported: the same one is not repeated for each source.
#[derive(Default)]
struct Reported(BTreeSet<String>);

impl Reported {
    fn line(&mut self, problem: &CheckProblem) -> String {
        let line = problem.problem.to_string();
        if self.0.insert(line.clone()) {
            format!("FAILED: {line}")
        } else {
            "FAILED: for the same reason".to_owned()
        }
    }
}

impl CheckedServer {
    fn facts(&self) -> String {
        let mut facts = "answers".to_owned();
        facts += &match self.clock_ahead_seconds {
            None => String::new(),
            Some(-1..=1) => "; its clock and this host's agree".to_owned(),
            Some(ahead @ 2..) => format!("; this host's clock is {ahead} s ahead of its clock"),
            Some(behind) => {
                let seconds = behind.unsigned_abs();
                format!("; this host's clock is {seconds} s behind its clock")
            }
        };
        facts += &match self.certificate_days_left {
            None => String::new(),
            Some(1) => "; its certificate expires in 1 day".to_owned(),
            Some(days @ 0..) => format!("; its certificate expires in {days} days"),
            Some(_) => "; its certificate has expired".to_owned(),
        };
        facts
    }
}

impl CheckedSource {
    fn facts(&self) -> String {
        let keys = match self.keys {
            1 => "1 key".to_owned(),
            keys => format!("{keys} keys"),
        };
        match self.workloads.as_slice() {
            [] => format!("{keys}; no workload names the project"),
            [workload] => format!("{keys}, for the workload {workload}"),
            workloads => format!("{keys}, for the workloads {}", workloads.join(", ")),
        }
    }
}

impl Display for CheckedSource {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.recursive {
            false => write!(f, "{}:{}", self.project, self.path),
            true => write!(f, "{}:{}/**", self.project, self.path.trim_end_matches('/')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str) -> CheckedSource {
        CheckedSource {
            project: "p".into(),
            path: path.into(),
            workloads: vec!["app".into()],
            ok: true,
            keys: 2,
            ..CheckedSource::default()
        }
    }

    fn failed(path: &str, problem: CheckProblem) -> CheckedSource {
        CheckedSource { ok: false, problem: Some(problem), ..source(path) }
    }

    fn report(sources: Vec<CheckedSource>) -> OnlineReport {
        OnlineReport { sources, ..OnlineReport::default() }
    }

    #[test]
    fn exit_status_tells_what_to_correct_from_what_to_wait_for() {
        let wrong = || failed("/a", CheckProblem::to_correct("no such directory", "correct it"));
        let out = || failed("/b", CheckProblem::transient("no answer", "try later"));
        let key = LeftOut { key: "a b".into(), why: "it is no name".into() };
        let odd = || CheckedSource { left_out: vec![key.clone()], ..source("/c") };
        for (sources, exit, summary) in [
            (vec![source("/")], Exit::Ok, None),
            (
                vec![source("/"), odd()],
                Exit::Drift,
                Some("1 secret is left out; see the lines above"),
            ),
            (vec![odd(), out()], Exit::TryLater, Some("no answer; try later")),
            (vec![out(), wrong(), odd()], Exit::BadInput, Some("no such directory; correct it")),
        ] {
            let report = report(sources);
            let found = report.summary().map(|problem| problem.to_string());
            assert_eq!((report.exit(), found.as_deref()), (exit, summary));
        }
    }

    #[test]
    fn text_has_one_printable_line_for_each_topic() {
        let problem = CheckProblem::to_correct("no\x1b[2J", "correct it");
        let mut whole = report(vec![
            CheckedSource {
                left_out: vec![LeftOut { key: "a".into(), why: "odd".into() }; 12],
                warnings: vec!["empty".into()],
                recursive: true,
                ..source("/")
            },
            failed("/a", problem.clone()),
            failed("/b", problem),
        ]);
        whole.servers.push(CheckedServer {
            url: "https://h".into(),
            clock_ahead_seconds: Some(-40),
            certificate_days_left: Some(1),
            ..CheckedServer::default()
        });
        whole.logins.push(CheckedLogin {
            identity: "universal-auth client c".into(),
            projects: vec!["p".into()],
            ok: true,
            ..CheckedLogin::default()
        });
        for (identity, remedy) in [("a", ""), ("b", "replace it")] {
            let what = format!("the token of {identity} expires in 9 days");
            let credential = Some(CheckedCredential { what, expires_ms: 1, remedy: remedy.into() });
            whole.logins.push(CheckedLogin {
                identity: identity.into(),
                ok: true,
                credential,
                ..CheckedLogin::default()
            });
        }
        let text = whole.to_string();
        assert!(!text.contains('\x1b'), "{text}");
        assert_eq!(text.matches("left out: odd\n").count(), 10, "{text}");
        for line in [
            "server     https://h: answers; this host's clock is 40 s behind its clock; its certificate expires in 1 day\n",
            "login      universal-auth client c (p): logged in\n",
            "login      a: logged in; the token of a expires in 9 days\n",
            "login      b: logged in\n",
            "warning    the token of b expires in 9 days; replace it\n",
            "source     p:/**: 2 keys, for the workload app\n",
            "left out: 2 more\n",
            "warning    empty\n",
            "source     p:/b: FAILED: for the same reason\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }

    #[test]
    fn json_has_problems_in_place() {
        let problem = CheckProblem::transient("no answer", "try later");
        let json = serde_json::to_value(report(vec![failed("/a", problem)])).unwrap();
        let problem = &json["sources"][0]["problem"];
        assert_eq!(problem["what"], "no answer");
        assert_eq!(
            (&problem["remedy"], &problem["try_later"]),
            (&"try later".into(), &true.into())
        );
        assert_eq!(json["sources"][0]["ok"], false);
    }
}
