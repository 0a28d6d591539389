//! `psi.v1.CacheAdmin`

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use psi_common::{Problem, SecretBytes, for_own_scope};
use psi_proto::v1::cache_admin_server::CacheAdmin;
use psi_proto::v1::{
    DrillEvent, DrillRequest, InvalidateRequest, InvalidateResponse, MakeRecoveryKeyRequest,
    MakeRecoveryKeyResponse, RecoverRequest, RecoverResponse, RefreshEvent, RefreshRequest,
    RekeyRequest, RekeyResponse, Seal, StatusRequest, StatusResponse, VerifyResult,
    invalidate_request,
};
use tokio::task::JoinError;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, async_trait};

use super::caller::RecordedCall;
use super::control::Control;
use super::peer::{caller, require_admin, user_limits};
use super::report::{status_response, users_status_response};
use super::{drill, missing_key, secret_id, status};
use crate::crypto::recovery_key::RecoveryKey;
use crate::keys::SealOptions;
use crate::lookup::SecretSelector;
use crate::model::clock;
use crate::model::principal::Principal;
use crate::refresh::{Progress, RefreshScope, SourceResult};
use crate::trail::{Event, TrailSubject};

/// How long a status waits for the key; a monitor gives up after 3 s.
const KEY_OPENS: Duration = Duration::from_secs(1);

pub(super) struct Admin(pub(super) Arc<dyn Control>);

#[async_trait]
impl CacheAdmin for Admin {
    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let caller = caller(&request)?;
        let verify = request.into_inner().verify;
        if verify {
            require_admin(caller)?;
        }
        // Right after the start, the status waits for the key.
        self.0.service().wait_ready(clock::now().mono + KEY_OPENS).await;
        let mut answer = match caller {
            Principal::Admin => status_response(&*self.0, clock::now()).await,
            Principal::User(_) => users_status_response(&*self.0, caller, clock::now()).await,
        };
        if verify {
            answer.verify = Some(match self.0.verify_cache().await {
                Ok(detail) => VerifyResult { ok: true, detail },
                Err(problem) => VerifyResult { ok: false, detail: problem.to_string() },
            });
        }
        Ok(Response::new(answer))
    }

    type RefreshStream = Pin<Box<dyn Stream<Item = Result<RefreshEvent, Status>> + Send>>;

    async fn refresh(
        &self,
        request: Request<RefreshRequest>,
    ) -> Result<Response<Self::RefreshStream>, Status> {
        let RefreshRequest { accept_removals: accept, retry } = *request.get_ref();
        let caller = caller(&request)?;
        if accept || retry {
            require_admin(caller)?;
        }
        if let Some(limits) = user_limits(&request) {
            limits.check_refresh()?;
        }
        if retry {
            self.0.service().clear_backoff();
        }
        let scope = if accept { RefreshScope::AllAcceptingRemovals } else { scope_of(caller) };
        let mut progress = self.0.start_refresh(scope, clock::now());
        let visible = VisibleSources::of(&*self.0, caller);
        let (events, stream) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            let mut sent = 0;
            loop {
                let Progress { sources, done, ended } = progress.borrow_and_update().clone();
                let sources = visible.count(sources);
                for result in done[sent..].iter().filter(|result| visible.has(&result.source)) {
                    if events.send(Ok(event(result, sources))).await.is_err() {
                        return;
                    }
                }
                sent = done.len();
                if ended {
                    return;
                }
                if progress.changed().await.is_err() {
                    let _ = events
                        .send(Err(Status::internal(
                            "the refresh crashed; see `journalctl -u psid`",
                        )))
                        .await;
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(stream))))
    }

    type DrillStream = Pin<Box<dyn Stream<Item = Result<DrillEvent, Status>> + Send>>;

    async fn drill(
        &self,
        request: Request<DrillRequest>,
    ) -> Result<Response<Self::DrillStream>, Status> {
        let call = RecordedCall::of(self.0.trail(), &request);
        let begun = drill::run(&*self.0, request.get_ref().duration_ms, clock::now()).await;
        call.ended(Event::Drill, TrailSubject::None, &begun);
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(begun?))))
    }

    async fn invalidate(
        &self,
        request: Request<InvalidateRequest>,
    ) -> Result<Response<InvalidateResponse>, Status> {
        let wanted = match request.into_inner().key {
            Some(invalidate_request::Key::Id(id)) => SecretSelector::Id(secret_id(&id)?),
            Some(invalidate_request::Key::Name(name)) => SecretSelector::Name(name),
            None => return Err(missing_key()),
        };
        let existed = self.0.service().invalidate(&wanted).map_err(status)?;
        if existed {
            self.0.write_cache().await.map_err(|problem| {
                Status::unavailable(format!("removed from RAM, but not from the disk: {problem}"))
            })?;
        }
        Ok(Response::new(InvalidateResponse { existed }))
    }

    async fn rekey(
        &self,
        request: Request<RekeyRequest>,
    ) -> Result<Response<RekeyResponse>, Status> {
        let call = RecordedCall::of(self.0.trail(), &request);
        let seal = request.into_inner().seal.map(seal_options);
        // A task of its own completes the rekey even if the caller disconnects.
        let daemon = Arc::clone(&self.0);
        let rekeyed = tokio::spawn(async move {
            let rekeyed = daemon.rekey(seal).await.map_err(failed_precondition);
            call.ended(Event::Rekey, TrailSubject::None, &rekeyed);
            rekeyed
        });
        flatten(rekeyed.await)?;
        Ok(Response::new(RekeyResponse {}))
    }

    async fn recover(
        &self,
        request: Request<RecoverRequest>,
    ) -> Result<Response<RecoverResponse>, Status> {
        let call = RecordedCall::of(self.0.trail(), &request);
        let RecoverRequest { recovery_key, seal } = request.into_inner();
        let recovery = RecoveryKey::parse(&SecretBytes::new(recovery_key)).map_err(|error| {
            Status::invalid_argument(format!("{error}; type it as it was shown"))
        })?;
        let seal = seal.map(seal_options);
        let daemon = Arc::clone(&self.0);
        let recovered = tokio::spawn(async move {
            let recovered = daemon.recover_key(recovery, seal).await.map_err(failed_precondition);
            call.ended(Event::Recover, TrailSubject::None, &recovered);
            recovered
        });
        flatten(recovered.await)?;
        let report = self.0.service().report(clock::now());
        Ok(Response::new(RecoverResponse {
            entries: report.entries as u64,
            literals: report.literals as u64,
        }))
    }

    async fn make_recovery_key(
        &self,
        request: Request<MakeRecoveryKeyRequest>,
    ) -> Result<Response<MakeRecoveryKeyResponse>, Status> {
        let call = RecordedCall::of(self.0.trail(), &request);
        let made = self.0.make_recovery_key().await.map_err(failed_precondition);
        call.ended(Event::RecoveryKey, TrailSubject::None, &made);
        let recovery_key = made?.to_text().into_exposed();
        Ok(Response::new(MakeRecoveryKeyResponse { recovery_key }))
    }
}

/// What a refresh for this caller covers.
pub(super) fn scope_of(caller: Principal) -> RefreshScope {
    match caller {
        Principal::Admin => RefreshScope::All,
        Principal::User(uid) => RefreshScope::OfUser(uid),
    }
}

/// The sources that a caller may see: a user's refresh may have joined that of an admin.
pub(super) enum VisibleSources {
    All,
    Only(BTreeSet<String>),
}

impl VisibleSources {
    pub(super) fn of(daemon: &dyn Control, caller: Principal) -> Self {
        if caller == Principal::Admin {
            return Self::All;
        }
        let upstreams = daemon.service().upstreams();
        let workloads = upstreams.workloads_of(caller);
        let sources = workloads.flat_map(|(_, workload)| workload.sources.iter());
        Self::Only(sources.map(|source| source.to_string()).collect())
    }

    pub(super) fn has(&self, source: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(sources) => sources.contains(source),
        }
    }

    /// The number of sources of a refresh of `all`.
    pub(super) fn count(&self, all: usize) -> usize {
        match self {
            Self::All => all,
            Self::Only(sources) => sources.len().min(all),
        }
    }
}

fn seal_options(seal: Seal) -> SealOptions {
    SealOptions { with_key: seal.with_key, tpm2_pcrs: seal.tpm2_pcrs }
}

/// The result of an operation that ran as a task.
fn flatten(ended: Result<Result<(), Status>, JoinError>) -> Result<(), Status> {
    ended.map_err(|_| Status::internal("the operation crashed; see `journalctl -u psid`"))?
}

#[expect(clippy::needless_pass_by_value, reason = "it is for map_err")]
fn failed_precondition(problem: Problem) -> Status {
    Status::failed_precondition(for_own_scope(&problem.to_string()))
}

pub(super) fn event(done: &SourceResult, sources: usize) -> RefreshEvent {
    let source = done.source.clone();
    let sources = u32::try_from(sources).unwrap_or(u32::MAX);
    match &done.result {
        Ok(counts) => RefreshEvent {
            source,
            added: counts.added,
            changed: counts.changed,
            unchanged: counts.unchanged,
            removed: counts.removed,
            error: String::new(),
            sources,
            withheld: counts.withheld,
        },
        Err(why) => RefreshEvent { source, error: why.clone(), sources, ..RefreshEvent::default() },
    }
}
