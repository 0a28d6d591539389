//! `psi.v1.ImportAdmin`

use std::sync::Arc;

use psi_common::SecretBytes;
use psi_proto::v1::import_admin_server::ImportAdmin;
use psi_proto::v1::{ImportConflict, ImportOutcome, ImportRequest, ImportResponse, ImportResult};
use tonic::{Request, Response, Status, async_trait};

use super::caller::RecordedCall;
use super::control::Control;
use super::status;
use crate::import::{self, ConflictPolicy, ImportJob};
use crate::model::clock;
use crate::provider::WriteTarget;
use crate::trail::{Event, TrailSubject};

pub(super) struct Import(pub(super) Arc<dyn Control>);

#[async_trait]
impl ImportAdmin for Import {
    async fn import(
        &self,
        request: Request<ImportRequest>,
    ) -> Result<Response<ImportResponse>, Status> {
        let call = RecordedCall::of(self.0.trail(), &request);
        let request = request.into_inner();
        let conflict = match request.conflict() {
            ImportConflict::Skip => ConflictPolicy::Skip,
            ImportConflict::Overwrite => ConflictPolicy::Overwrite,
            ImportConflict::Fail | ImportConflict::Unspecified => ConflictPolicy::Fail,
        };
        let secrets = request.secrets.into_iter();
        let job = ImportJob {
            target: WriteTarget {
                project: request.project,
                environment: Some(request.environment).filter(|slug| !slug.is_empty()),
                path: request.path,
            },
            secrets: secrets.map(|one| (one.key, SecretBytes::new(one.value))).collect(),
            conflict,
            dry_run: request.dry_run,
            make_directory: request.create_directory,
        };
        let imported = import::run(self.0.service(), &job, clock::now()).await.map_err(status);
        if !job.dry_run {
            call.ended(Event::Import, TrailSubject::name(&job.target.to_string()), &imported);
        }
        let results = imported?.into_iter().zip(&job.secrets).map(to_proto).collect();
        Ok(Response::new(ImportResponse { target: job.target.to_string(), results }))
    }
}

fn to_proto((imported, (key, _)): (import::ImportResult, &(String, SecretBytes))) -> ImportResult {
    let outcome = match imported.outcome {
        import::ImportOutcome::Created => ImportOutcome::Created,
        import::ImportOutcome::Overwritten => ImportOutcome::Overwritten,
        import::ImportOutcome::Unchanged => ImportOutcome::Unchanged,
        import::ImportOutcome::Skipped => ImportOutcome::Skipped,
        import::ImportOutcome::Conflicting => ImportOutcome::Conflicting,
        import::ImportOutcome::Rejected => ImportOutcome::Rejected,
        import::ImportOutcome::Failed => ImportOutcome::Failed,
    };
    ImportResult { key: key.clone(), outcome: outcome.into(), reason: imported.why }
}
