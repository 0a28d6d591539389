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
use tokio::time::Instant;
use tonic::{Request, Response, Status, async_trait};

use super::caller::RecordedCall;
use super::control::Control;
use super::peer::{caller, user_limits};
use super::{check_size, missing_key, secret_id, status, timeout};
use crate::lookup::{DataKind, SecretSelector, Value};
use crate::model::clock;
use crate::trail::{Event, TrailSubject};

/// What a user's lookup by name costs beside the call.
const COST_OF_NAME: u32 = 20;

pub(super) struct Driver(pub(super) Arc<dyn Control>);

/// A value that is sent from the memory in which it is cached: it is copied once, into the frame.
struct CachedBytes(Value);

impl AsRef<[u8]> for CachedBytes {
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
        let (now, caller) = (clock::now(), caller(&request)?);
        let call = RecordedCall::of(self.0.trail(), &request);
        let deadline = now.mono + timeout(request.metadata());
        let limits = user_limits(&request);
        let wanted = match request.into_inner().key {
            Some(lookup_request::Key::Id(id)) => SecretSelector::Id(secret_id(&id)?),
            Some(lookup_request::Key::Name(name)) => SecretSelector::Name(name),
            None => return Err(missing_key()),
        };
        // The provider may be asked for each name, and it limits the rate of this whole host.
        if let (SecretSelector::Name(_), Some(limits)) = (&wanted, limits) {
            limits.wait_turn(COST_OF_NAME).await?;
        }
        let service = self.0.service();
        let found = service.lookup(&wanted, caller, now, deadline).await.map_err(status);
        call.looked_up(service, &wanted, (&found, now));
        Ok(Response::new(LookupResponse { value: Bytes::from_owner(CachedBytes(found?)) }))
    }

    async fn store(
        &self,
        request: Request<StoreRequest>,
    ) -> Result<Response<StoreResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, deadline(&request));
        let call = RecordedCall::of(self.0.trail(), &request);
        let request = request.into_inner();
        let kind = request.kind();
        let data = SecretBytes::new(request.data);
        let id = secret_id(&request.id)?;
        check_size(&data)?;
        let kind = match kind {
            StoreKind::Unspecified => DataKind::Auto,
            StoreKind::Literal => DataKind::Literal,
            StoreKind::Reference => DataKind::Reference,
        };
        // A literal is encrypted.
        self.0.service().wait_ready(deadline).await;
        let stored = self.0.service().store(id, data, kind, caller).await.map_err(status);
        call.ended(Event::Store, TrailSubject::Id(id), &stored);
        stored.map(|()| Response::new(StoreResponse {}))
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, deadline(&request));
        let call = RecordedCall::of(self.0.trail(), &request);
        let DeleteRequest { id, force } = request.into_inner();
        let id = secret_id(&id)?;
        if !force {
            self.0.service().wait_ready(deadline).await;
        }
        let deleted = self.0.service().delete(id, clock::now(), force, caller).await;
        let deleted = deleted.map_err(status);
        call.ended(Event::Delete, TrailSubject::Id(id), &deleted);
        deleted.map(|existed| Response::new(DeleteResponse { existed }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let ids = self.0.service().ids(caller(&request)?).map_err(status)?;
        let ids = ids.iter().map(ToString::to_string).collect();
        Ok(Response::new(ListResponse { ids }))
    }

    async fn restore(
        &self,
        request: Request<RestoreRequest>,
    ) -> Result<Response<RestoreResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, deadline(&request));
        let call = RecordedCall::of(self.0.trail(), &request);
        let id = secret_id(&request.into_inner().id)?;
        self.0.service().wait_ready(deadline).await;
        let restored = self.0.service().restore(id, caller).await.map_err(status);
        call.ended(Event::Restore, TrailSubject::Id(id), &restored);
        restored.map(|()| Response::new(RestoreResponse {}))
    }

    async fn restorable(
        &self,
        request: Request<RestorableRequest>,
    ) -> Result<Response<RestorableResponse>, Status> {
        let caller = caller(&request)?;
        let secrets = self.0.service().restorable(clock::now(), caller).await.map_err(status)?;
        let secrets = secrets.into_iter().map(|secret| RestorableSecret {
            id: secret.id.to_string(),
            seconds_left: secret.left.as_secs(),
            name: secret.name,
            description: secret.description,
        });
        Ok(Response::new(RestorableResponse { secrets: secrets.collect() }))
    }
}

fn deadline<T>(request: &Request<T>) -> Instant {
    clock::now().mono + timeout(request.metadata())
}
