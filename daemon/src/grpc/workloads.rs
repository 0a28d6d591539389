//! `psi.v1.WorkloadAdmin`

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use psi_common::{SecretBytes, check};
use psi_proto::v1::workload_admin_server::WorkloadAdmin;
use psi_proto::v1::{
    ChangedWorkload, ChangesRequest, NoteNamesRequest, NoteNamesResponse, PlanEvent, PlanRequest,
    PlannedSecret, PlannedWorkload, Registration, RegistrationsRequest, RepointRequest,
    RepointResponse, SecretName, plan_event,
};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};

use super::admin::{VisibleSources, event, scope_of};
use super::caller::RecordedCall;
use super::control::Control;
use super::limits::UserLimits;
use super::peer::{caller, user_limits};
use super::report::tristate;
use super::{changes, registrations, secret_id, status};
use crate::model::clock;
use crate::model::principal::Principal;
use crate::model::reference::Reference;
use crate::provider::upstream::WorkloadUser;
use crate::refresh::{Progress, RefreshScope, SourceResult};
use crate::registry::PodmanName;
use crate::sys::tasks::caught;
use crate::trail::{Event, TrailSubject};
use crate::workloads::{self, WorkloadPlan};

/// How long a plan waits for the key.
const KEY_OPENS: Duration = Duration::from_secs(60);

/// The number of secrets of a workload in one message.
const MAX_SECRETS: usize = 1_000;

pub(super) struct Workloads(pub(super) Arc<dyn Control>);

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Sender = mpsc::Sender<Result<PlanEvent, Status>>;

#[async_trait]
impl WorkloadAdmin for Workloads {
    type PlanStream = Events<PlanEvent>;

    async fn plan(
        &self,
        request: Request<PlanRequest>,
    ) -> Result<Response<Self::PlanStream>, Status> {
        let call = RecordedCall::of(self.0.trail(), &request);
        let caller = caller(&request)?;
        let limits = user_limits(&request);
        // A user's pulls are few; others take what is cached.
        let may_pull = |limits: Arc<UserLimits>| limits.check_refresh().is_ok();
        let mut request = request.into_inner();
        request.pull = request.pull && limits.is_none_or(may_pull);
        let (events, stream) = mpsc::channel(16);
        let daemon = Arc::clone(&self.0);
        tokio::spawn(async move {
            // The caller must not take an incomplete plan for a complete one.
            let planned = caught(send_plan(&*daemon, caller, &request, &events)).await;
            let planned = planned
                .map(drop)
                .ok_or_else(|| Status::internal("the plan crashed; see `journalctl -u psid`"));
            if request.setup {
                call.ended(Event::Setup, TrailSubject::None, &planned);
            }
            if let Err(crashed) = planned {
                let _ = events.send(Err(crashed)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    type ChangesStream = Events<ChangedWorkload>;

    async fn changes(
        &self,
        request: Request<ChangesRequest>,
    ) -> Result<Response<Self::ChangesStream>, Status> {
        let caller = caller(&request)?;
        let now = clock::now();
        self.0.service().wait_ready(now.mono + KEY_OPENS).await;
        let all = changes::list(&*self.0, caller, now.advanced()).await.into_iter().map(Ok);
        Ok(Response::new(Box::pin(tokio_stream::iter(all.collect::<Vec<_>>()))))
    }

    type RegistrationsStream = Events<Registration>;

    async fn registrations(
        &self,
        request: Request<RegistrationsRequest>,
    ) -> Result<Response<Self::RegistrationsStream>, Status> {
        let caller = caller(&request)?;
        let all = registrations::list(&self.0, caller).await?.into_iter().map(Ok);
        Ok(Response::new(Box::pin(tokio_stream::iter(all))))
    }

    async fn repoint(
        &self,
        request: Request<RepointRequest>,
    ) -> Result<Response<RepointResponse>, Status> {
        let call = RecordedCall::of(self.0.trail(), &request);
        let caller = caller(&request)?;
        let RepointRequest { id, reference } = request.into_inner();
        let (id, reference) = (secret_id(&id)?, SecretBytes::new(reference.into_bytes()));
        let repointed =
            self.0.service().repoint(id, reference, caller, clock::now()).await.map_err(status);
        call.ended(Event::Repoint, TrailSubject::Id(id), &repointed);
        repointed.map(|changed| Response::new(RepointResponse { changed }))
    }

    async fn note_names(
        &self,
        request: Request<NoteNamesRequest>,
    ) -> Result<Response<NoteNamesResponse>, Status> {
        let caller = caller(&request)?;
        let names = request.into_inner().names.into_iter();
        let names = names.map(|SecretName { id, name, store }| {
            Ok((secret_id(&id)?, PodmanName { name, store }))
        });
        let names = names.collect::<Result<_, Status>>()?;
        let noted = self.0.service().note_names(names, caller).await;
        let changed = noted.map_err(status)?;
        Ok(Response::new(NoteNamesResponse { changed }))
    }
}

async fn send_plan(
    daemon: &dyn Control,
    caller: Principal,
    request: &PlanRequest,
    events: &Sender,
) -> Result<(), mpsc::error::SendError<Result<PlanEvent, Status>>> {
    let now = clock::now();
    let service = daemon.service();
    service.wait_ready(now.mono + KEY_OPENS).await;
    let mut failed = BTreeMap::new();
    if request.pull || workloads::has_uncached_source(service, caller) {
        let scope = match scope_of(caller) {
            RefreshScope::All if !request.provider.is_empty() => {
                RefreshScope::OfProvider(request.provider.clone())
            }
            scope => scope,
        };
        let mut progress = daemon.start_refresh(scope, now);
        let visible = VisibleSources::of(daemon, caller);
        // The refresh may have joined one of all providers.
        let is_asked = |one: &&SourceResult| {
            visible.has(&one.source) && [&one.provider, ""].contains(&request.provider.as_str())
        };
        let mut sent = 0;
        loop {
            let Progress { sources, done, ended } = progress.borrow_and_update().clone();
            let sources = visible.count(sources);
            for result in done[sent..].iter().filter(is_asked) {
                if let Err(why) = &result.result {
                    failed.insert(result.source.clone(), why.clone());
                }
                events
                    .send(Ok(plan_event(plan_event::Event::Source(event(result, sources)))))
                    .await?;
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
    let context = daemon.self_test_context();
    for plan in workloads::plan(service, caller, &failed, now.advanced(), &context).await {
        for part in to_proto(plan) {
            events.send(Ok(plan_event(plan_event::Event::Workload(part)))).await?;
        }
    }
    Ok(())
}

fn plan_event(event: plan_event::Event) -> PlanEvent {
    PlanEvent { event: Some(event) }
}

/// The reference to register; empty for a key that no reference can name.
fn reference(reference: &Reference) -> String {
    let json = reference.to_json();
    let is_good = reference.member("key").is_none_or(|key| check::key(key).is_ok())
        && check::without_controls("the reference", &json).is_ok();
    if is_good { json } else { String::new() }
}

fn secret_to_proto(key: &str, secret: workloads::PlannedSecret) -> PlannedSecret {
    let mount = secret.mount.as_ref();
    PlannedSecret {
        reference: reference(&secret.reference),
        key: check::printable(key).into_owned(),
        name: secret.name,
        source: secret.source,
        mount: mount.is_some(),
        ids: secret.ids.iter().map(ToString::to_string).collect(),
        survives_outage: tristate(secret.survives_outage).into(),
        warnings: secret.warnings,
        error: secret.error.unwrap_or_default(),
        uid: mount.and_then(|mount| mount.uid),
        gid: mount.and_then(|mount| mount.gid),
        mode: mount.and_then(|mount| mount.mode),
        target: mount.and_then(|mount| mount.target.clone()).unwrap_or_default(),
    }
}

/// The messages of a workload, each within the size limit.
fn to_proto(plan: WorkloadPlan) -> Vec<PlannedWorkload> {
    let secrets = plan.secrets.into_iter();
    let secrets: Vec<_> = secrets.map(|(key, secret)| secret_to_proto(&key, secret)).collect();
    let sources = &plan.workload.sources;
    let overlaps = sources.len() > 1 || sources.iter().any(|source| source.recursive);
    let whole = PlannedWorkload {
        name: plan.name,
        user: plan.workload.user.as_ref().map(ToString::to_string).unwrap_or_default(),
        uid: plan.workload.user.as_ref().and_then(WorkloadUser::uid),
        provider: plan.workload.provider,
        depends_on: plan.workload.depends_on,
        prefix: plan.prefix,
        secrets: Vec::new(),
        incomplete: plan.incomplete.unwrap_or_default(),
        error: plan.error.unwrap_or_default(),
        overlaps,
        missing: plan.missing.unwrap_or_default(),
        kube: plan.kube.map(|secret| secret_to_proto("", secret)),
    };
    let mut parts = secrets.chunks(MAX_SECRETS).map(<[_]>::to_vec).collect::<Vec<_>>();
    if parts.is_empty() {
        parts.push(Vec::new());
    }
    parts.into_iter().map(|secrets| PlannedWorkload { secrets, ..whole.clone() }).collect()
}
