//! `psi.v1.WorkloadAdmin`

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use psi_common::{SecretBytes, check};
use psi_proto::v1::workload_admin_server::WorkloadAdmin;
use psi_proto::v1::{
    NoteNamesRequest, NoteNamesResponse, PlanEvent, PlanRequest, PlannedSecret, PlannedWorkload,
    Registration, RegistrationKind, RegistrationsRequest, RepointRequest, RepointResponse,
    SecretName, plan_event,
};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};

use super::admin::event;
use super::peer::require_admin;
use super::report::verdict;
use super::{secret_id, status};
use crate::model::clock;
use crate::model::reference::Reference;
use crate::refresh::{Progress, RefreshScope};
use crate::registry::{PodmanName, Registered};
use crate::runtime::Runtime;
use crate::sys::tasks::caught;
use crate::workloads::{self, Planned};

/// How long a plan waits for a key that is being opened.
const KEY_OPENS: Duration = Duration::from_secs(60);

/// How many secrets of a workload one message has.
const SECRETS_AT_ONCE: usize = 1_000;

pub(super) struct Workloads(pub(super) Arc<Runtime>);

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Sender = mpsc::Sender<Result<PlanEvent, Status>>;

#[async_trait]
impl WorkloadAdmin for Workloads {
    type PlanStream = Events<PlanEvent>;

    async fn plan(
        &self,
        request: Request<PlanRequest>,
    ) -> Result<Response<Self::PlanStream>, Status> {
        let pull = request.into_inner().pull;
        let (events, stream) = mpsc::channel(16);
        let daemon = Arc::clone(&self.0);
        tokio::spawn(async move {
            // A caller that went away wants no plan. One that stays must not take half of one for the whole.
            if caught(tell_plan(&daemon, pull, &events)).await.is_none() {
                let crashed = Status::internal("the plan crashed; see `journalctl -u psid`");
                let _ = events.send(Err(crashed)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    type RegistrationsStream = Events<Registration>;

    async fn registrations(
        &self,
        _: Request<RegistrationsRequest>,
    ) -> Result<Response<Self::RegistrationsStream>, Status> {
        let (now, context) = (clock::now(), self.0.circumstances());
        let service = &self.0.service;
        let names = service.registry.names();
        let all = service.registry.list().map_err(|error| status(error.into()))?;
        let all = all.into_iter().map(|(id, what)| {
            let PodmanName { name, store } = names.get(&id).cloned().unwrap_or_default();
            Ok(Registration {
                name,
                store,
                id: id.to_string(),
                kind: kind(&what).into(),
                needs_key: needs_key(&what),
                description: workloads::about(&what),
                survives_outage: verdict(service.registration_survives(&what, now, &context))
                    .into(),
            })
        });
        let all: Vec<_> = all.collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(all))))
    }

    async fn repoint(
        &self,
        request: Request<RepointRequest>,
    ) -> Result<Response<RepointResponse>, Status> {
        require_admin(&request)?;
        let RepointRequest { id, reference } = request.into_inner();
        let reference = SecretBytes::new(reference.into_bytes());
        let changed = self.0.service.repoint(secret_id(&id)?, reference).await.map_err(status)?;
        Ok(Response::new(RepointResponse { changed }))
    }

    async fn note_names(
        &self,
        request: Request<NoteNamesRequest>,
    ) -> Result<Response<NoteNamesResponse>, Status> {
        require_admin(&request)?;
        let names = request.into_inner().names.into_iter();
        let names = names.map(|SecretName { id, name, store }| {
            Ok((secret_id(&id)?, PodmanName { name, store }))
        });
        let names = names.collect::<Result<_, Status>>()?;
        let noted = self.0.service.registry.note_names(names).await;
        let changed = noted.map_err(|error| status(error.into()))?;
        Ok(Response::new(NoteNamesResponse { changed }))
    }
}

async fn tell_plan(
    daemon: &Runtime,
    pull: bool,
    events: &Sender,
) -> Result<(), mpsc::error::SendError<Result<PlanEvent, Status>>> {
    let now = clock::now();
    let service = &daemon.service;
    service.readiness.wait_ready(now.mono + KEY_OPENS).await;
    let mut failed = BTreeMap::new();
    if pull || workloads::is_unknown(service) {
        let mut progress = daemon.refresher.start(RefreshScope::All, now);
        let mut sent = 0;
        loop {
            let Progress { sources, done, ended } = progress.borrow_and_update().clone();
            for result in &done[sent..] {
                if let Err(why) = &result.result {
                    failed.insert(result.source.clone(), why.clone());
                }
                events.send(Ok(told(plan_event::Event::Source(event(result, sources))))).await?;
            }
            sent = done.len();
            if ended {
                break;
            }
            if progress.changed().await.is_err() {
                let crashed = Status::internal("the refresh crashed; see `journalctl -u psid`");
                return events.send(Err(crashed)).await;
            }
        }
    }
    for plan in workloads::plan(service, &failed, now.advanced(), &daemon.circumstances()).await {
        for part in workload(plan) {
            events.send(Ok(told(plan_event::Event::Workload(part)))).await?;
        }
    }
    Ok(())
}

fn told(event: plan_event::Event) -> PlanEvent {
    PlanEvent { event: Some(event) }
}

/// What to register for a key; empty for a key that no reference can name.
fn reference(key: &str, reference: &Reference) -> String {
    let json = reference.to_json();
    let is_good = check::key(key).and(check::without_controls("the reference", &json)).is_ok();
    if is_good { json } else { String::new() }
}

/// In parts, each of a size that a caller takes.
fn workload(plan: Planned) -> Vec<PlannedWorkload> {
    let secrets = plan.secrets.into_iter().map(|(key, secret)| PlannedSecret {
        reference: reference(&key, &secret.reference),
        key: check::printable(&key).into_owned(),
        name: secret.name,
        source: secret.source,
        mount: secret.mount,
        ids: secret.ids.iter().map(ToString::to_string).collect(),
        survives_outage: verdict(secret.survives_outage).into(),
        warnings: secret.warnings,
        error: secret.error.unwrap_or_default(),
    });
    let secrets: Vec<_> = secrets.collect();
    let sources = &plan.workload.sources;
    let overlaps = sources.len() > 1 || sources.iter().any(|source| source.recursive);
    let whole = PlannedWorkload {
        name: plan.name,
        provider: plan.workload.provider,
        depends_on: plan.workload.depends_on,
        prefix: plan.prefix,
        secrets: Vec::new(),
        incomplete: plan.untrusted.unwrap_or_default(),
        error: plan.error.unwrap_or_default(),
        overlaps,
        missing: plan.missing.unwrap_or_default(),
    };
    let mut parts = secrets.chunks(SECRETS_AT_ONCE).map(<[_]>::to_vec).collect::<Vec<_>>();
    if parts.is_empty() {
        parts.push(Vec::new());
    }
    parts.into_iter().map(|secrets| PlannedWorkload { secrets, ..whole.clone() }).collect()
}

/// The registry says so in these words, and in no other case.
fn needs_key(what: &Registered) -> bool {
    matches!(what, Registered::Invalid(why) if why.contains("there is no key to open it"))
}

fn kind(what: &Registered) -> RegistrationKind {
    match what {
        Registered::Reference(_) => RegistrationKind::Reference,
        Registered::Literal(_) => RegistrationKind::Literal,
        Registered::Invalid(_) | Registered::Unreadable(_) => RegistrationKind::Unusable,
    }
}
