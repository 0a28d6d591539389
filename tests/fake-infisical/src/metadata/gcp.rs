//! Google's metadata server: it requires a header that no browser sends.

use serde_json::json;

use super::{html, parameter};
use crate::auth::gcp;
use crate::fake::FakeInfisical;
use crate::http::request::Request;
use crate::http::response::Response;

const FLAVOR: &str = "Metadata-Flavor";

pub(super) fn answer(fake: &FakeInfisical, request: &Request, path: &[&str]) -> Response {
    let asked_right = request.header("metadata-flavor") == Some("Google");
    let response = if !asked_right || request.header("x-forwarded-for").is_some() {
        html(403, "Error 403 (Forbidden)!!1")
    } else {
        answer_to(fake, request, path)
    };
    response.with_header(FLAVOR, "Google").with_header("server", "Metadata Server for VM")
}

fn answer_to(fake: &FakeInfisical, request: &Request, path: &[&str]) -> Response {
    let (account, what) = match path {
        [] => return typed(200, "application/text", "computeMetadata/\n"),
        ["instance", "service-accounts", account, what @ ..] => (*account, what),
        _ => return html(404, "Error 404 (Not Found)!!1"),
    };
    let own = fake.state.cloud.gcp.service_account.as_deref();
    let Some(email) = own.filter(|own| account == "default" || account == *own) else {
        return html(404, "The service account was not found.");
    };
    match (what, parameter(request, "audience")) {
        ([], _) => {
            let about = json!({"aliases": ["default"], "email": email, "scopes": []});
            Response::json(200, &about)
        }
        (["identity"], Some(audience)) => {
            typed(200, "text/html", &gcp::mint(fake, email, &audience))
        }
        (["identity"], None) => typed(400, "text/html", "non-empty audience parameter required\n"),
        _ => html(404, "Error 404 (Not Found)!!1"),
    }
}

fn typed(status: u16, kind: &str, text: &str) -> Response {
    Response::typed(status, kind, text.as_bytes().to_vec())
}
