//! `psi.v1.ProviderAdmin`

use std::sync::Arc;

use psi_common::{
    CheckProblem, CheckedLogin, CheckedServer, CheckedSource, LeftOut, OnlineReport, for_own_scope,
};
use psi_proto::v1::provider_admin_server::ProviderAdmin;
use psi_proto::v1::{
    LeftOutSecret, LoginIdentity, LoginProblem, LoginRequest, LoginResponse, LoginServer,
    LoginSource,
};
use tonic::{Request, Response, Status, async_trait};

use super::control::Control;
use super::report::credential;
use crate::model::clock;
use crate::workloads::{LoginCheckOptions, check_logins};

/// The number of secrets of a source that are named: all of them have to fit into one message.
const MAX_LEFT_OUT: usize = 1_000;

pub(super) struct Providers(pub(super) Arc<dyn Control>);

#[async_trait]
impl ProviderAdmin for Providers {
    async fn login(
        &self,
        request: Request<LoginRequest>,
    ) -> Result<Response<LoginResponse>, Status> {
        let LoginRequest { provider, retry } = request.into_inner();
        let upstreams = self.0.service().upstreams();
        let provider = (!provider.is_empty()).then_some(provider);
        let options = LoginCheckOptions { provider: provider.as_deref(), retry };
        let report = check_logins(&upstreams, options, clock::now()).await;
        if report.servers.is_empty() {
            let what = match provider {
                Some(name) => format!("psid's config has no [providers.{name}] with logins"),
                None => "psid's config has no provider with logins".into(),
            };
            let remedy = "add [providers.infisical], then `systemctl reload psid`";
            let message = format!("{what}; {remedy}");
            return Err(Status::failed_precondition(for_own_scope(&message)));
        }
        Ok(Response::new(to_proto(report)))
    }
}

fn to_proto(report: OnlineReport) -> LoginResponse {
    LoginResponse {
        servers: report.servers.into_iter().map(server).collect(),
        logins: report.logins.into_iter().map(login).collect(),
        sources: report.sources.into_iter().map(source).collect(),
    }
}

fn server(server: CheckedServer) -> LoginServer {
    LoginServer {
        provider: server.provider,
        url: server.url,
        clock_ahead_seconds: server.clock_ahead_seconds,
        certificate_days_left: server.certificate_days_left,
        problem: server.problem.map(problem),
    }
}

fn login(login: CheckedLogin) -> LoginIdentity {
    LoginIdentity {
        credential: login.credential.map(|checked| credential(&login.identity, checked)),
        provider: login.provider,
        identity: login.identity,
        projects: login.projects,
        problem: login.problem.map(problem),
    }
}

fn source(source: CheckedSource) -> LoginSource {
    LoginSource {
        provider: source.provider,
        project: source.project,
        path: source.path,
        recursive: source.recursive,
        workloads: source.workloads,
        keys: source.keys,
        left_out_count: source.left_out.len() as u64,
        left_out: source.left_out.into_iter().take(MAX_LEFT_OUT).map(left_out).collect(),
        warnings: source.warnings.into_iter().take(MAX_LEFT_OUT).collect(),
        problem: source.problem.map(problem),
    }
}

fn left_out(LeftOut { key, why }: LeftOut) -> LeftOutSecret {
    LeftOutSecret { key, why }
}

fn problem(CheckProblem { problem, try_later }: CheckProblem) -> LoginProblem {
    LoginProblem { what: problem.what, remedy: for_own_scope(&problem.remedy).into(), try_later }
}
