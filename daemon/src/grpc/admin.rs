//! `psi.v1.CacheAdmin`

use std::pin::Pin;
use std::sync::Arc;

use psi_common::{CacheHeader, SecretBytes};
use psi_proto::v1::cache_admin_server::CacheAdmin;
use psi_proto::v1::{
    InvalidateRequest, InvalidateResponse, MakeRecoveryKeyRequest, MakeRecoveryKeyResponse,
    ProviderStatus, RecoverRequest, RecoverResponse, RefreshEvent, RefreshRequest, RefreshSummary,
    RekeyRequest, RekeyResponse, Seal, StatusRequest, StatusResponse, VerifyResult,
    invalidate_request,
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, async_trait};

use super::{no_key, secret_id, status};
use crate::clock::{self, Timestamp};
use crate::daemon::Daemon;
use crate::key::SealOptions;
use crate::recovery::RecoveryKey;
use crate::refresh::{Progress, SourceResult};
use crate::registry::Registered;
use crate::service::Wanted;

/// How many ids a status names.
const NAMED: usize = 20;

pub(super) struct Admin(pub(super) Arc<Daemon>);

#[async_trait]
impl CacheAdmin for Admin {
    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let mut answer = told(&self.0, clock::now().wall);
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
        _: Request<RefreshRequest>,
    ) -> Result<Response<Self::RefreshStream>, Status> {
        let mut progress = self.0.refresher.start(clock::now());
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

    async fn invalidate(
        &self,
        request: Request<InvalidateRequest>,
    ) -> Result<Response<InvalidateResponse>, Status> {
        let wanted = match request.into_inner().key {
            Some(invalidate_request::Key::Id(id)) => Wanted::Id(secret_id(&id)?),
            Some(invalidate_request::Key::Name(name)) => Wanted::Name(name),
            None => return Err(no_key()),
        };
        let existed = self.0.service.invalidate(&wanted).map_err(status)?;
        if existed
            && let Some(persister) = self.0.persister()
            && !persister.write().await
        {
            let why = persister.state().error.unwrap_or_default();
            return Err(Status::unavailable(format!(
                "dropped from RAM, but not from the disk: {why}; psid keeps trying, see `psi-driver cache status`"
            )));
        }
        Ok(Response::new(InvalidateResponse { existed }))
    }

    async fn rekey(
        &self,
        request: Request<RekeyRequest>,
    ) -> Result<Response<RekeyResponse>, Status> {
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
            entries: self.0.service.cache.read(|cache| cache.len() as u64),
            literals: literals.count() as u64,
        }))
    }

    async fn make_recovery_key(
        &self,
        _: Request<MakeRecoveryKeyRequest>,
    ) -> Result<Response<MakeRecoveryKeyResponse>, Status> {
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

fn event(done: &SourceResult, sources: usize) -> RefreshEvent {
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
        },
        Err(why) => RefreshEvent { source, error: why.clone(), sources, ..RefreshEvent::default() },
    }
}

fn told(daemon: &Daemon, now: Timestamp) -> StatusResponse {
    let service = &daemon.service;
    let (hits, misses) = service.hits_and_misses();
    let (entries, span) = service.cache.read(|cache| (cache.len() as u64, cache.fetch_span()));
    let registered = service.registry.all();
    let count =
        |is: fn(&Registered) -> bool| registered.iter().filter(|(_, what)| is(what)).count() as u64;
    let persister = daemon.persister();
    // A change that is about to be written counts as written; one that cannot be, does not.
    let persisted = persister.as_ref().is_some_and(|persister| persister.state().error.is_none());
    let would_fail = service.would_fail(now, persisted);
    let file = std::fs::metadata(&daemon.cache_path).ok();
    StatusResponse {
        version: env!("CARGO_PKG_VERSION").into(),
        backend: daemon
            .backend
            .as_ref()
            .map_or_else(String::new, |backend| backend.tag().to_string()),
        path: daemon.cache_path.display().to_string(),
        size_bytes: file.as_ref().map(std::fs::Metadata::len),
        last_write_ms: file
            .and_then(|file| file.modified().ok())
            .map(|time| Timestamp::from(time).as_millis()),
        format_version: format_version(daemon),
        generation: persister.as_ref().map_or(0, |persister| persister.state().generation),
        entries,
        oldest_fetch_ms: span.map(|(oldest, _)| oldest.as_millis()),
        newest_fetch_ms: span.map(|(_, newest)| newest.as_millis()),
        references: count(|what| matches!(what, Registered::Reference(_))),
        literals: count(|what| matches!(what, Registered::Literal(_))),
        last_refresh: daemon.refresher.last().map(|last| RefreshSummary {
            at_ms: last.at.as_millis(),
            added: last.counts.added,
            changed: last.counts.changed,
            unchanged: last.counts.unchanged,
            removed: last.counts.removed,
            failed: last.failed,
        }),
        providers: providers(daemon),
        degraded: daemon.degraded(),
        survives_outage: would_fail.is_empty(),
        would_fail: would_fail.iter().take(NAMED).map(ToString::to_string).collect(),
        would_fail_count: would_fail.len() as u64,
        verify: None,
        hits,
        misses,
        has_recovery_key: daemon.recovery_path().exists(),
    }
}

fn format_version(daemon: &Daemon) -> Option<u32> {
    use std::io::Read;
    let mut header = [0; CacheHeader::LEN];
    std::fs::File::open(&daemon.cache_path).ok()?.read_exact(&mut header).ok()?;
    CacheHeader::parse(&header).ok().map(|header| header.version.into())
}

fn providers(daemon: &Daemon) -> Vec<ProviderStatus> {
    let upstreams = daemon.service.upstreams();
    let all = upstreams.providers.values().map(|upstream| {
        let outage = upstream.health().breaker.outage().cloned();
        ProviderStatus {
            name: upstream.name.clone(),
            up: outage.is_none(),
            out_since_ms: outage.as_ref().map(|outage| outage.since.as_millis()),
            next_try_ms: outage.as_ref().map(|outage| outage.next_try.as_millis()),
            why: outage.map_or_else(String::new, |outage| outage.why),
        }
    });
    all.collect()
}
