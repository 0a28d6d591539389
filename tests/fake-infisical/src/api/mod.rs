//! The public API: endpoint, caller and answer.

pub mod batch;
pub mod call;
pub mod error;
pub mod etag;
pub mod fields;
pub mod folders;
pub mod identity;
pub mod imports;
pub mod limiter;
pub mod read;
pub mod route;
pub mod session;
pub mod status;
pub mod tags;
pub mod write;

use std::net::IpAddr;

use crate::dialect::Dialect;
use crate::fake::FakeInfisical;
use crate::http::request::Request;
use crate::http::response::Response;
use call::Call;
use error::{ApiError, request_id, route_not_found};
use route::{Endpoint, LoginMethod};

pub fn route(request: &Request, dialect: Dialect) -> Option<Endpoint> {
    let segments = request.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    route::resolve(&request.method, &segments, dialect)
}

/// The answer without a fault.
pub fn answer(
    fake: &mut FakeInfisical,
    request: &Request,
    endpoint: Option<Endpoint>,
    from: IpAddr,
) -> Response {
    let Some(endpoint) = endpoint else {
        return route_not_found(request);
    };
    let limits = fake.settings.rate_limit;
    let now = fake.clock.now();
    let window = fake.limiter.hit(limits.as_ref(), &endpoint, from, now);
    let outcome = match &window {
        Some(window) if window.exceeded => Err(ApiError::rate_limited(window.reset_seconds)),
        _ => handle(endpoint, Call::new(fake, request, from)),
    };
    let response = outcome.unwrap_or_else(|error| error.respond(request_id()));
    match window {
        Some(window) => window.announce(response),
        None => response,
    }
}

fn handle(endpoint: Endpoint, call: Call<'_>) -> Result<Response, ApiError> {
    match endpoint {
        Endpoint::Status => Ok(status::status(&call)),
        Endpoint::Login(LoginMethod::Universal) => identity::login(call),
        Endpoint::Login(method) => identity::login_by(call, method),
        Endpoint::Renew => identity::renew(call),
        Endpoint::Revoke => identity::revoke(call),
        Endpoint::ListSecrets(api) => read::list(call, api),
        Endpoint::GetSecret(api, name) => read::get(call, api, &name),
        Endpoint::CreateSecret(api, name) => write::create(call, api, &name),
        Endpoint::UpdateSecret(api, name) => write::update(call, api, &name),
        Endpoint::DeleteSecret(api, name) => write::delete(call, api, &name),
        Endpoint::CreateBatch(api) => batch::create(call, api),
        Endpoint::UpdateBatch(api) => batch::update(call, api),
        Endpoint::DeleteBatch(api) => batch::delete(call, api),
        Endpoint::ListFolders(api) => folders::list(call, api),
        Endpoint::CreateFolder(api) => folders::create(call, api),
        Endpoint::ListImports(api) => imports::list(call, api),
        Endpoint::CreateImport(api) => imports::create(call, api),
    }
}
