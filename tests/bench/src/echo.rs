//! The rate of tonic alone on this machine: a service whose lookup returns a constant.

use std::path::Path;

use psi_proto::v1::secret_driver_server::{SecretDriver, SecretDriverServer};
use psi_proto::v1::{
    DeleteRequest, DeleteResponse, ListRequest, ListResponse, LookupRequest, LookupResponse,
    RestorableRequest, RestorableResponse, RestoreRequest, RestoreResponse, StoreRequest,
    StoreResponse,
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, async_trait};

use crate::Result;

struct Echo;

type Answer<T> = std::result::Result<Response<T>, Status>;

#[async_trait]
impl SecretDriver for Echo {
    async fn lookup(&self, _: Request<LookupRequest>) -> Answer<LookupResponse> {
        Ok(Response::new(LookupResponse { value: vec![b'x'; 100].into() }))
    }

    async fn store(&self, _: Request<StoreRequest>) -> Answer<StoreResponse> {
        Err(Status::unimplemented(""))
    }

    async fn delete(&self, _: Request<DeleteRequest>) -> Answer<DeleteResponse> {
        Err(Status::unimplemented(""))
    }

    async fn list(&self, _: Request<ListRequest>) -> Answer<ListResponse> {
        Err(Status::unimplemented(""))
    }

    async fn restore(&self, _: Request<RestoreRequest>) -> Answer<RestoreResponse> {
        Err(Status::unimplemented(""))
    }

    async fn restorable(&self, _: Request<RestorableRequest>) -> Answer<RestorableResponse> {
        Err(Status::unimplemented(""))
    }
}

/// Serves at `socket` until the process is ended.
pub fn serve(socket: &Path) -> Result<()> {
    // As many workers as psid has.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = UnixListenerStream::new(tokio::net::UnixListener::bind(socket)?);
        let server = tonic::transport::Server::builder().add_service(SecretDriverServer::new(Echo));
        server.serve_with_incoming(listener).await?;
        Ok(())
    })
}
