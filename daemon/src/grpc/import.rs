//! `psi.v1.ImportAdmin`

use std::sync::Arc;

use psi_common::SecretBytes;
use psi_proto::v1::import_admin_server::ImportAdmin;
use psi_proto::v1::{ImportConflict, ImportOutcome, ImportRequest, ImportResponse, ImportResult};
use tonic::{Request, Response, Status, async_trait};

use super::peer::require_admin;
use super::status;
use crate::import::{self, Conflict, Fate, Order, Outcome};
use crate::model::clock;
use crate::provider::Target;
use crate::runtime::Runtime;

pub(super) struct Import(pub(super) Arc<Runtime>);

#[async_trait]
impl ImportAdmin for Import {
    async fn import(
        &self,
        request: Request<ImportRequest>,
    ) -> Result<Response<ImportResponse>, Status> {
        require_admin(&request)?;
        let request = request.into_inner();
        let conflict = match request.conflict() {
            ImportConflict::Skip => Conflict::Skip,
            ImportConflict::Overwrite => Conflict::Overwrite,
            ImportConflict::Fail | ImportConflict::Unspecified => Conflict::Fail,
        };
        let secrets = request.secrets.into_iter();
        let order = Order {
            target: Target {
                project: request.project,
                environment: Some(request.environment).filter(|slug| !slug.is_empty()),
                path: request.path,
            },
            secrets: secrets.map(|one| (one.key, SecretBytes::new(one.value))).collect(),
            conflict,
            dry_run: request.dry_run,
            make_folder: request.create_directory,
        };
        let outcomes = import::run(&self.0.service, &order, clock::now()).await.map_err(status)?;
        let results = outcomes.into_iter().zip(&order.secrets).map(to_proto).collect();
        Ok(Response::new(ImportResponse { target: order.target.to_string(), results }))
    }
}

fn to_proto((imported, (key, _)): (Outcome, &(String, SecretBytes))) -> ImportResult {
    let outcome = match imported.fate {
        Fate::Created => ImportOutcome::Created,
        Fate::Overwritten => ImportOutcome::Overwritten,
        Fate::Unchanged => ImportOutcome::Unchanged,
        Fate::Skipped => ImportOutcome::Skipped,
        Fate::Conflicting => ImportOutcome::Conflicting,
        Fate::Unfit => ImportOutcome::Rejected,
        Fate::Failed => ImportOutcome::Failed,
    };
    ImportResult { key: key.clone(), outcome: outcome.into(), reason: imported.why }
}
