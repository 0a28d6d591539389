//! `psi.v1.SecretDriver`

use std::sync::Arc;

use psi_common::SecretBytes;
use psi_proto::Bytes;
use psi_proto::v1::secret_driver_server::SecretDriver;
use psi_proto::v1::{
    DeleteRequest, DeleteResponse, ListRequest, ListResponse, LookupRequest, LookupResponse,
    RestorableRequest, RestorableResponse, RestorableSecret, RestoreRequest, RestoreResponse,
    StoreKind, StoreRequest, StoreResponse, lookup_request,
};
use tonic::{Request, Response, Status, async_trait};

use super::{no_key, patience, secret_id, status, whole};
use crate::lookup::{DataKind, SecretSelector, Value};
use crate::model::clock;
use crate::registry::{Registry, RegistryError};
use crate::runtime::Runtime;
use crate::sys::tasks;

pub(super) struct Driver(pub(super) Arc<Runtime>);

/// A value for the wire, in the memory that it is kept in: it is copied once, into what is sent.
struct Kept(Value);

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        self.0.secret().expose_secret()
    }
}

#[async_trait]
impl SecretDriver for Driver {
    async fn lookup(
        &self,
        request: Request<LookupRequest>,
    ) -> Result<Response<LookupResponse>, Status> {
        let now = clock::now();
        let deadline = now.mono + patience(request.metadata());
        let wanted = match request.into_inner().key {
            Some(lookup_request::Key::Id(id)) => SecretSelector::Id(secret_id(&id)?),
            Some(lookup_request::Key::Name(name)) => SecretSelector::Name(name),
            None => return Err(no_key()),
        };
        let value = self.0.service.lookup(&wanted, now, deadline).await.map_err(status)?;
        Ok(Response::new(LookupResponse { value: Bytes::from_owner(Kept(value)) }))
    }

    async fn store(
        &self,
        request: Request<StoreRequest>,
    ) -> Result<Response<StoreResponse>, Status> {
        let deadline = clock::now().mono + patience(request.metadata());
        let request = request.into_inner();
        let kind = request.kind();
        let data = SecretBytes::new(request.data);
        let id = secret_id(&request.id)?;
        whole(&data)?;
        let kind = match kind {
            StoreKind::Unspecified => DataKind::Auto,
            StoreKind::Literal => DataKind::Literal,
            StoreKind::Reference => DataKind::Reference,
        };
        // What is stored is sealed.
        self.0.service.readiness.wait_ready(deadline).await;
        self.0.service.store(id, data, kind).await.map_err(status)?;
        Ok(Response::new(StoreResponse {}))
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteResponse>, Status> {
        let deadline = clock::now().mono + patience(request.metadata());
        let DeleteRequest { id, force } = request.into_inner();
        let id = secret_id(&id)?;
        if !force {
            self.0.service.readiness.wait_ready(deadline).await;
        }
        let existed = self.0.service.delete(id, clock::now(), force).await.map_err(status)?;
        Ok(Response::new(DeleteResponse { existed }))
    }

    async fn list(&self, _: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let all = self.0.service.registry.list().map_err(|error| status(error.into()))?;
        let ids = all.into_iter().map(|(id, _)| id.to_string()).collect();
        Ok(Response::new(ListResponse { ids }))
    }

    async fn restore(
        &self,
        request: Request<RestoreRequest>,
    ) -> Result<Response<RestoreResponse>, Status> {
        let deadline = clock::now().mono + patience(request.metadata());
        let id = secret_id(&request.into_inner().id)?;
        self.0.service.readiness.wait_ready(deadline).await;
        self.0.service.registry.restore(id).await.map_err(|error| status(error.into()))?;
        Ok(Response::new(RestoreResponse {}))
    }

    async fn restorable(
        &self,
        _: Request<RestorableRequest>,
    ) -> Result<Response<RestorableResponse>, Status> {
        let registry = Arc::clone(&self.0.service.registry);
        let secrets = tasks::blocking(move || restorable(&registry)).await;
        let secrets = secrets.transpose().map_err(|error| status(error.into()))?;
        Ok(Response::new(RestorableResponse { secrets: secrets.unwrap_or_default() }))
    }
}

/// Reads what each deleted reference referred to.
fn restorable(registry: &Registry) -> Result<Vec<RestorableSecret>, RegistryError> {
    let names = registry.names();
    let secrets = registry.restorable(clock::now())?.into_iter();
    let secrets = secrets.map(|(id, left)| RestorableSecret {
        id: id.to_string(),
        seconds_left: left.as_secs(),
        name: names.get(&id).map(|noted| noted.name.clone()).unwrap_or_default(),
        description: registry.describe_deleted(id),
    });
    Ok(secrets.collect())
}
