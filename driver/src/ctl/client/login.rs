//! The call that checks the providers.

use psi_common::{
    CheckProblem, CheckedCredential, CheckedLogin, CheckedServer, CheckedSource, LeftOut,
    OnlineReport, Problem,
};
use psi_proto::v1::{
    ExpiringCredential, LeftOutSecret, LoginIdentity, LoginProblem, LoginRequest, LoginResponse,
    LoginServer, LoginSource,
};

use crate::client::{Client, nothing_to_check, texts};
use crate::error::CliError;

const PROVIDERS: &str = "/psi.v1.ProviderAdmin";

texts! {
    LeftOutSecret { key, why }
    LoginIdentity { provider, identity, projects, problem, credential }
    LoginProblem { what, remedy }
    LoginResponse { servers, logins, sources }
    LoginServer { provider, url, problem }
    LoginSource { provider, project, path, workloads, left_out, warnings, problem }
}

// Its names are printed, and used for nothing else.
nothing_to_check!(LoginResponse);

impl Client {
    /// Logs in with each identity and lists each source; registers nothing.
    pub(crate) fn login(&self, request: &LoginRequest) -> Result<OnlineReport, CliError> {
        self.call::<LoginResponse>(PROVIDERS, "Login", request).map(report)
    }
}

fn report(response: LoginResponse) -> OnlineReport {
    OnlineReport {
        servers: response.servers.into_iter().map(server).collect(),
        logins: response.logins.into_iter().map(login).collect(),
        sources: response.sources.into_iter().map(source).collect(),
    }
}

fn server(server: LoginServer) -> CheckedServer {
    CheckedServer {
        provider: server.provider,
        url: server.url,
        clock_ahead_seconds: server.clock_ahead_seconds,
        certificate_days_left: server.certificate_days_left,
        problem: server.problem.map(problem),
    }
}

fn login(login: LoginIdentity) -> CheckedLogin {
    let credential =
        login.credential.map(|ExpiringCredential { what, expires_ms, remedy, .. }| {
            CheckedCredential { what, expires_ms, remedy }
        });
    CheckedLogin {
        credential,
        provider: login.provider,
        identity: login.identity,
        projects: login.projects,
        ok: login.problem.is_none(),
        problem: login.problem.map(problem),
    }
}

fn source(source: LoginSource) -> CheckedSource {
    let named = source.left_out.len() as u64;
    let mut left_out: Vec<LeftOut> = source.left_out.into_iter().map(one_left_out).collect();
    if let Some(more @ 1..) = source.left_out_count.checked_sub(named) {
        left_out.push(LeftOut { key: String::new(), why: format!("{more} more") });
    }
    CheckedSource {
        provider: source.provider,
        project: source.project,
        path: source.path,
        recursive: source.recursive,
        workloads: source.workloads,
        ok: source.problem.is_none(),
        keys: source.keys,
        left_out,
        warnings: source.warnings,
        problem: source.problem.map(problem),
    }
}

fn one_left_out(LeftOutSecret { key, why }: LeftOutSecret) -> LeftOut {
    LeftOut { key, why }
}

fn problem(LoginProblem { what, remedy, try_later }: LoginProblem) -> CheckProblem {
    CheckProblem { problem: Problem { what, remedy }, try_later }
}
