//! `psi.v1.CacheAdmin`

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use psi_common::SecretBytes;
use psi_proto::v1::cache_admin_server::CacheAdmin;
use psi_proto::v1::{
    DrillEvent, DrillRequest, InvalidateRequest, InvalidateResponse, MakeRecoveryKeyRequest,
    MakeRecoveryKeyResponse, RecoverRequest, RecoverResponse, RefreshEvent, RefreshRequest,
    RekeyRequest, RekeyResponse, Seal, StatusRequest, StatusResponse, VerifyResult,
    invalidate_request,
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, async_trait};

use super::peer::require_admin;
use super::report::told;
use super::{drill, no_key, secret_id, status};
use crate::crypto::recovery_key::RecoveryKey;
use crate::keys::SealOptions;
use crate::lookup::SecretSelector;
use crate::model::clock;
use crate::refresh::{Progress, RefreshScope, SourceResult};
use crate::registry::Registered;
use crate::runtime::Runtime;

/// How long a status waits for the key; a monitor gives up after 3 s.
const KEY_OPENS: Duration = Duration::from_secs(1);

pub(super) struct Admin(pub(super) Arc<Runtime>);

#[async_trait]
impl CacheAdmin for Admin {
    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        // Who asks right after a start means what psid has, and not what it is about to have.
        self.0.service.readiness.wait_ready(clock::now().mono + KEY_OPENS).await;
        let mut answer = told(&self.0, clock::now()).await;
        if request.into_inner().verify {
            let found = match self.0.persister() {
                Some(persister) => persister.verify().await,
                None => Err("there is no key to open the cache with".into()),
            };
            answer.verify = Some(match found {
                Ok(detail) => VerifyResult { ok: true, detail },
                Err(detail) => VerifyResult { ok: false, detail },
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
        if accept || retry {
            require_admin(&request)?;
        }
        if retry {
            let upstreams = self.0.service.upstreams();
            upstreams.providers.values().for_each(|one| one.provider.clear_backoff(true));
        }
        let scope = if accept { RefreshScope::AllAcceptingRemovals } else { RefreshScope::All };
        let mut progress = self.0.refresher.start(scope, clock::now());
        let (events, stream) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            let mut sent = 0;
            loop {
                let Progress { sources, done, ended } = progress.borrow_and_update().clone();
                for result in &done[sent..] {
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
        require_admin(&request)?;
        let events = drill::run(&self.0, request.get_ref().duration_ms, clock::now()).await?;
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(events))))
    }

    async fn invalidate(
        &self,
        request: Request<InvalidateRequest>,
    ) -> Result<Response<InvalidateResponse>, Status> {
        let wanted = match request.into_inner().key {
            Some(invalidate_request::Key::Id(id)) => SecretSelector::Id(secret_id(&id)?),
            Some(invalidate_request::Key::Name(name)) => SecretSelector::Name(name),
            None => return Err(no_key()),
        };
        let existed = self.0.service.invalidate(&wanted).map_err(status)?;
        if existed
            && let Some(persister) = self.0.persister()
            && !persister.write().await
        {
            let why = persister.state().error.unwrap_or_default();
            return Err(Status::unavailable(format!(
                "dropped from RAM, but not from the disk: {why}; psid keeps trying, see `psictl cache status`"
            )));
        }
        Ok(Response::new(InvalidateResponse { existed }))
    }

    async fn rekey(
        &self,
        request: Request<RekeyRequest>,
    ) -> Result<Response<RekeyResponse>, Status> {
        require_admin(&request)?;
        let seal = request.into_inner().seal.map(seal_options);
        // A caller that goes away must not leave the work half done.
        let daemon = Arc::clone(&self.0);
        let rekeyed = tokio::spawn(async move { daemon.rekey(seal.as_ref()).await }).await;
        done(rekeyed)?;
        Ok(Response::new(RekeyResponse {}))
    }

    async fn recover(
        &self,
        request: Request<RecoverRequest>,
    ) -> Result<Response<RecoverResponse>, Status> {
        require_admin(&request)?;
        let RecoverRequest { recovery_key, seal } = request.into_inner();
        let recovery = RecoveryKey::parse(&SecretBytes::new(recovery_key))
            .map_err(|why| Status::invalid_argument(format!("{why}; type it as it was shown")))?;
        let seal = seal.map(seal_options);
        let daemon = Arc::clone(&self.0);
        let recovered =
            tokio::spawn(async move { daemon.recover_key(&recovery, seal.as_ref()).await }).await;
        done(recovered)?;
        let literals = self.0.service.registry.all();
        let literals = literals.iter().filter(|(_, what)| matches!(what, Registered::Literal(_)));
        Ok(Response::new(RecoverResponse {
            entries: self.0.service.cache.len() as u64,
            literals: literals.count() as u64,
        }))
    }

    async fn make_recovery_key(
        &self,
        request: Request<MakeRecoveryKeyRequest>,
    ) -> Result<Response<MakeRecoveryKeyResponse>, Status> {
        require_admin(&request)?;
        let key = self.0.make_recovery_key().await.map_err(Status::failed_precondition)?;
        Ok(Response::new(MakeRecoveryKeyResponse { recovery_key: key.to_text().into_exposed() }))
    }
}

fn seal_options(seal: Seal) -> SealOptions {
    SealOptions { with_key: seal.with_key, tpm2_pcrs: seal.tpm2_pcrs }
}

fn done(ended: Result<Result<(), String>, tokio::task::JoinError>) -> Result<(), Status> {
    ended
        .map_err(|_| Status::internal("it crashed; see `journalctl -u psid`"))?
        .map_err(Status::failed_precondition)
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
            withheld: counts.held,
        },
        Err(why) => RefreshEvent { source, error: why.clone(), sources, ..RefreshEvent::default() },
    }
}
