//! Checks the server and the logins for an admin's command, and puts each error into a sentence of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use psi_common::{CheckProblem, CheckedLogin, CheckedServer};

use super::auth::{LoginError, Method, TokenSource, span};
use super::client::Probe;
use super::{Infisical, Project};
use crate::model::clock::{Now, Timestamp};
use crate::model::reference::shown;
use crate::provider::{CheckedIdentity, ProviderCheck, ProviderError, Source};

const DAY: Duration = Duration::from_secs(86_400);
/// What fixes an identity that another trial does not.
const RETRY: &str = "once that is right, or to try it once more, add --retry";

impl Infisical {
    /// Probes the server and logs in once with each identity; nothing is tried at a server that does not answer.
    pub(super) async fn check(&self, retry: bool, now: Now) -> ProviderCheck {
        let mut server = CheckedServer::default();
        let api = match &self.api {
            Ok(api) => api,
            Err(why) => {
                let remedy = "correct [providers.infisical]";
                server.problem = Some(CheckProblem::to_correct(why.to_string(), remedy));
                return self.without_logins(server);
            }
        };
        api.base().clone_into(&mut server.url);
        match api.probe().await.map_err(ProviderError::from) {
            Ok(probe) => add_facts(&mut server, probe, now.advanced().wall),
            Err(error) => {
                server.problem = Some(server_problem(&error));
                return self.without_logins(server);
            }
        }
        let mut identities = Vec::new();
        for (tokens, projects) in self.projects_by_identity() {
            let login = tokens.log_in_now(api, retry).await;
            let problem = login.err().map(|error| login_problem(tokens.method(), &error));
            let mut checked = identity(tokens, projects, problem);
            let expiry = tokens.method().expiry();
            checked.login.credential = expiry.map(|expiry| expiry.checked(now.advanced().wall));
            identities.push(checked);
        }
        ProviderCheck { server: Some(server), identities }
    }

    fn without_logins(&self, server: CheckedServer) -> ProviderCheck {
        let identities = self.projects_by_identity().into_iter();
        let identities =
            identities.map(|(tokens, projects)| identity(tokens, projects, server.problem.clone()));
        ProviderCheck { identities: identities.collect(), server: Some(server) }
    }

    /// Each identity once, with the names of its projects.
    fn projects_by_identity(&self) -> Vec<(&TokenSource, Vec<String>)> {
        let mut all: BTreeMap<&str, (&TokenSource, Vec<String>)> = BTreeMap::new();
        for (name, project) in &self.projects {
            let tokens = &*project.tokens;
            let (_, names) = all.entry(tokens.identity()).or_insert((tokens, Vec::new()));
            names.push(name.clone());
        }
        let mut all: Vec<_> = all.into_values().collect();
        all.iter_mut().for_each(|(_, names)| names.sort_unstable());
        all
    }

    /// The error of a listing as a sentence, with what fixes it.
    pub(super) fn explain_source(&self, source: &Source, error: &ProviderError) -> CheckProblem {
        let Some(project) = self.projects.get(&source.project) else {
            return CheckProblem::to_correct(error.to_string(), "correct the config");
        };
        let place = Place { name: &source.project, project, path: &source.path };
        match error {
            ProviderError::NotFound(why) => place.not_found(why),
            ProviderError::Denied(why) => place.denied(why),
            ProviderError::Unauthenticated { why, wait: None } => CheckProblem::to_correct(
                format!("the login succeeds, but Infisical refuses its token ({why})"),
                "check the identity's membership of the organization and its trusted IP addresses",
            ),
            // A static token is its own login, and proves itself here.
            ProviderError::Unauthenticated { why, wait: Some(_) }
                if !project.tokens.method().has_login() =>
            {
                CheckProblem::to_correct(why.as_str(), RETRY)
            }
            // A static token is refused by its first request. The error names the remedy after the server's words.
            ProviderError::Unauthenticated { why, wait: Some(_) } => match why.split_once("); ") {
                Some((what, remedy)) => CheckProblem::to_correct(format!("{what})"), remedy),
                None => CheckProblem::to_correct(why.as_str(), ""),
            },
            ProviderError::Misbehaved(why) => {
                CheckProblem::to_correct(why.as_str(), "correct the source in the config")
            }
            ProviderError::Throttled { wait, .. } => {
                CheckProblem::transient(error.to_string(), format!("try again in {}", span(*wait)))
            }
            error => server_problem(error),
        }
    }
}

fn identity(
    tokens: &TokenSource,
    projects: Vec<String>,
    problem: Option<CheckProblem>,
) -> CheckedIdentity {
    let login = CheckedLogin {
        identity: tokens.method().identity(),
        projects,
        ok: problem.is_none(),
        problem,
        ..CheckedLogin::default()
    };
    CheckedIdentity { subject: tokens.identity().to_owned(), login }
}

fn add_facts(server: &mut CheckedServer, probe: Probe, now: Timestamp) {
    let apart = |then: Timestamp| {
        let millis = |time: Timestamp| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        millis(now).saturating_sub(millis(then))
    };
    server.clock_ahead_seconds = probe.clock.map(|clock| apart(clock) / 1_000);
    let day = i64::try_from(DAY.as_millis()).unwrap_or(i64::MAX);
    server.certificate_days_left = probe.certificate_end.map(|end| (-apart(end)).div_euclid(day));
}

/// The error of a server that does not answer as Infisical does.
fn server_problem(error: &ProviderError) -> CheckProblem {
    let why = error.to_string();
    let certificate = [
        (
            "UnknownIssuer",
            "if that is Infisical's, set ca_cert in [providers.infisical] to the certificate of its CA",
        ),
        ("not valid for name", "correct the host's name in api_url of [providers.infisical]"),
        ("NotValidForName", "correct the host's name in api_url of [providers.infisical]"),
        ("Expired", "renew the server's certificate; if it is valid, set this host's clock"),
        ("expired", "renew the server's certificate; if it is valid, set this host's clock"),
        ("NotValidYet", "set this host's clock with `timedatectl`"),
        ("not valid yet", "set this host's clock with `timedatectl`"),
    ];
    if why.contains("certificate") {
        let known = certificate.iter().find(|(words, _)| why.contains(words));
        let remedy = known.map_or("check the server's certificate", |(_, remedy)| remedy);
        return CheckProblem::to_correct(why, remedy);
    }
    match error {
        // Not what a gateway answers for a server that is out.
        ProviderError::Failed(_) if why.starts_with("something ") => {
            CheckProblem::to_correct(why, "correct api_url in [providers.infisical]")
        }
        ProviderError::Unreachable(_) if why.contains("check api_url") => {
            CheckProblem::to_correct(why, "correct api_url in [providers.infisical]")
        }
        ProviderError::Unreachable(_) | ProviderError::TimedOut(_) => CheckProblem::transient(
            why,
            "check api_url in [providers.infisical], and this host's network and name resolution",
        ),
        _ => CheckProblem::transient(why, "try again when Infisical is back"),
    }
}

/// The error of a login as a sentence, with what fixes it.
fn login_problem(method: &dyn Method, error: &LoginError) -> CheckProblem {
    let identity = method.identity();
    match error {
        LoginError::NoCredential(error) => {
            let what = format!("there is no credential to log in with as {identity}: {error}");
            match error.wait {
                Some(wait) => CheckProblem::transient(what, format!("try again in {}", span(wait))),
                None if method.is_local() => {
                    CheckProblem::to_correct(what, method.missing_remedy())
                }
                None => CheckProblem::to_correct(what, "check this host's role at its cloud"),
            }
        }
        LoginError::Refused { refusal, is_remembered } => {
            let why = &refusal.why;
            let cause =
                login_cause(why).map_or_else(|| why.clone(), |cause| format!("{cause} ({why})"));
            let before = if *is_remembered { "refused" } else { "refuses" };
            let what = format!("Infisical {before} the login as {identity}: {cause}");
            let left = refusal.wait_left.map(span);
            match (refusal.any_secret, is_remembered) {
                (true, _) => CheckProblem::transient(
                    what,
                    format!("try again in {}", left.unwrap_or_else(|| "5 min".into())),
                ),
                (false, false) => CheckProblem::to_correct(what, method.remedy()),
                (false, true) => CheckProblem::to_correct(
                    format!(
                        "{what}; it is not tried again meanwhile, for refused logins lock the identity"
                    ),
                    format!("{}; {RETRY}", method.remedy()),
                ),
            }
        }
        LoginError::Transient(why) => {
            let what = format!("the login as {identity} failed: {why}");
            CheckProblem::transient(what, "try again when Infisical is back")
        }
        LoginError::Other(error) => server_problem(error),
    }
}

/// What the server's words about a refused login mean.
fn login_cause(why: &str) -> Option<&'static str> {
    [
        ("Invalid credentials", "the client id or the client secret is wrong"),
        ("expired client secret", "the client secret has expired"),
        ("client secret usage limit", "the client secret was used as often as it may be"),
        (
            "not allowed to access this resource from the current",
            "this host's address is not among the trusted IP addresses",
        ),
    ]
    .into_iter()
    .find_map(|(words, cause)| why.contains(words).then_some(cause))
}

/// A directory of a project.
struct Place<'a> {
    name: &'a str,
    project: &'a Project,
    path: &'a str,
}

impl Place<'_> {
    fn not_found(&self, why: &str) -> CheckProblem {
        let Self { name, project, path } = self;
        let (id, environment) = (shown(&project.id), shown(&project.environment));
        let table = format!("[providers.infisical.projects.{name}]");
        if why.contains("Project with ID") {
            return CheckProblem::to_correct(
                format!("Infisical has no project with the id {id} ({why})"),
                format!("copy the id from the project's settings at Infisical to {table}"),
            );
        }
        if why.contains("Environment with slug") {
            return CheckProblem::to_correct(
                format!("the project {name} has no environment {environment} ({why})"),
                format!("correct environment in {table}: it is the slug, as prod"),
            );
        }
        let path = shown(path);
        CheckProblem::to_correct(
            format!(
                "the environment {environment} of the project {name} does not exist or has no directory {path} \
                 ({why})"
            ),
            format!(
                "correct the path, or environment in {table}, or create the directory at Infisical"
            ),
        )
    }

    fn denied(&self, why: &str) -> CheckProblem {
        let Self { name, project, path } = self;
        let identity = project.tokens.method().identity();
        if why.contains("ot a member of this project") || why.contains("ProjectMembershipNotFound")
        {
            return CheckProblem::to_correct(
                format!("the identity is no member of the project {name} ({why})"),
                format!(
                    "add {identity} to the project at Infisical, or correct id in \
                     [providers.infisical.projects.{name}]"
                ),
            );
        }
        if why.contains("selected organization") {
            return CheckProblem::to_correct(
                format!("the project {name} is in another organization than the identity ({why})"),
                format!(
                    "use an identity of that organization, or correct id in \
                         [providers.infisical.projects.{name}]"
                ),
            );
        }
        let (path, environment) = (shown(path), shown(&project.environment));
        CheckProblem::to_correct(
            format!(
                "the identity may not read {path} in {environment} of the project {name} ({why})"
            ),
            format!("give {identity} a role in the project that reads values there"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::infisical::auth::{LoginCredential, NoCredential};
    use crate::storage::failed_logins::FailedLogin;

    #[test]
    fn facts_count_days_and_seconds_from_now() {
        let now = Timestamp::from_millis(1_000_000_000_000);
        let mut server = CheckedServer::default();
        let probe = Probe {
            clock: Some(now.after(Duration::from_secs(90))),
            certificate_end: Some(now.after(DAY * 9 / 2)),
        };
        add_facts(&mut server, probe, now);
        assert_eq!(
            (server.clock_ahead_seconds, server.certificate_days_left),
            (Some(-90), Some(4))
        );
        let expired = Some(now.before(Duration::from_secs(1)));
        add_facts(&mut server, Probe { clock: None, certificate_end: expired }, now);
        assert_eq!((server.clock_ahead_seconds, server.certificate_days_left), (None, Some(-1)));
    }

    #[test]
    fn only_a_server_that_is_out_is_worth_waiting_for() {
        for (error, try_later) in [
            (ProviderError::Unreachable("no connection to h:443: refused".into()), true),
            (ProviderError::TimedOut("no answer from h:443 in time".into()), true),
            (ProviderError::Failed("a gateway in Infisical's place answers 502".into()), true),
            (
                ProviderError::Failed("something in Infisical's place answers 404: a proxy".into()),
                false,
            ),
            (ProviderError::Unreachable("invalid peer certificate: UnknownIssuer".into()), false),
            (ProviderError::Unreachable("h has neither …; check api_url".into()), false),
        ] {
            let problem = server_problem(&error);
            assert_eq!(problem.try_later, try_later, "{problem:?}");
            assert!(!problem.problem.remedy.is_empty());
        }
    }

    struct Always;

    #[async_trait::async_trait]
    impl Method for Always {
        fn is_local(&self) -> bool {
            true
        }

        fn identity(&self) -> String {
            "universal-auth client c".into()
        }

        fn remedy(&self) -> String {
            "seal another one".into()
        }

        async fn credential(&self) -> Result<LoginCredential, NoCredential> {
            Err(NoCredential { why: "none".into(), wait: None })
        }
    }

    #[test]
    fn each_refusal_of_a_login_has_its_sentence() {
        let refused = |why: &str, any_secret, is_remembered| {
            let wait_left = Some(Duration::from_secs(300));
            let refusal = FailedLogin { why: why.into(), wait_left, count: 1, any_secret };
            login_problem(&Always, &LoginError::Refused { refusal, is_remembered })
        };
        let wrong =
            refused("Infisical answers 401 UnauthorizedError: Invalid credentials", false, false);
        assert!(!wrong.try_later);
        assert_eq!(
            wrong.problem.to_string(),
            "Infisical refuses the login as universal-auth client c: the client id or the client secret is wrong \
             (Infisical answers 401 UnauthorizedError: Invalid credentials); seal another one"
        );
        let again = refused("Invalid credentials", false, true);
        assert!(!again.try_later && again.problem.remedy.contains("--retry"), "{again:?}");
        let locked = refused("temporarily locked", true, false);
        assert!(locked.try_later && locked.problem.remedy == "try again in 5 min", "{locked:?}");
        let error = NoCredential { why: "none".into(), wait: None };
        let missing = login_problem(&Always, &LoginError::NoCredential(error));
        assert!(!missing.try_later && missing.problem.remedy == "seal another one", "{missing:?}");
        assert!(login_problem(&Always, &LoginError::Transient("500".into())).try_later);
    }
}
