//! The calls about workloads and registrations.

use psi_common::SecretId;
use psi_proto::v1::plan_event::Event;
use psi_proto::v1::{
    ChangedWorkload, ChangesRequest, NoteNamesRequest, NoteNamesResponse, PlanEvent, PlanRequest,
    PlannedWorkload, RefreshEvent, Registration, RegistrationsRequest, RepointRequest,
    RepointResponse, SecretName,
};

use crate::client::Client;
use crate::error::CliError;

const WORKLOADS: &str = "/psi.v1.WorkloadAdmin";

impl Client {
    /// The plans of all workloads; calls `on_source` for each source when it was pulled.
    pub(crate) fn plan(
        &self,
        request: &PlanRequest,
        on_source: &mut dyn FnMut(RefreshEvent),
    ) -> Result<Vec<PlannedWorkload>, CliError> {
        let mut planned: Vec<PlannedWorkload> = Vec::new();
        self.stream(WORKLOADS, "Plan", request, &mut |event: PlanEvent| {
            match (event.event, planned.last_mut()) {
                (Some(Event::Source(source)), _) => on_source(source),
                // A workload with many secrets arrives in several messages.
                (Some(Event::Workload(more)), Some(last)) if last.name == more.name => {
                    last.secrets.extend(more.secrets);
                }
                (Some(Event::Workload(workload)), _) => planned.push(workload),
                (None, _) => {}
            }
        })?;
        Ok(planned)
    }

    /// Every registration, sorted by id.
    pub(crate) fn registrations(&self) -> Result<Vec<Registration>, CliError> {
        let mut all = Vec::new();
        let request = RegistrationsRequest {};
        self.stream(WORKLOADS, "Registrations", &request, &mut |one| all.push(one))?;
        Ok(all)
    }

    /// The workloads with a value that replaced another one in this boot, by name.
    pub(crate) fn changes(&self) -> Result<Vec<ChangedWorkload>, CliError> {
        let mut all = Vec::new();
        self.stream(WORKLOADS, "Changes", &ChangesRequest {}, &mut |one| all.push(one))?;
        Ok(all)
    }

    /// Notes the podman names of ids, and the store that has them.
    pub(crate) fn note_names(&self, names: Vec<SecretName>) -> Result<(), CliError> {
        let request = NoteNamesRequest { names };
        self.call::<NoteNamesResponse>(WORKLOADS, "NoteNames", &request).map(|_| ())
    }

    /// Points a registered reference elsewhere.
    pub(crate) fn repoint(&self, id: SecretId, reference: &str) -> Result<(), CliError> {
        let request = RepointRequest { id: id.to_string(), reference: reference.to_owned() };
        self.call::<RepointResponse>(WORKLOADS, "Repoint", &request).map(|_| ())
    }
}
