//! Google's metadata server: who asks must say that it is one, by a header that no browser sends.

use super::{html, parameter};
use crate::auth::gcp;
use crate::double::Double;
use crate::http::request::Request;
use crate::http::response::Response;

const FLAVOR: &str = "Metadata-Flavor";

pub(super) fn answer(double: &Double, request: &Request, path: &[&str]) -> Response {
    let asked_right = request.header("metadata-flavor") == Some("Google");
    let response = if !asked_right || request.header("x-forwarded-for").is_some() {
        html(403, "Error 403 (Forbidden)!!1")
    } else {
        tell(double, request, path)
    };
    response.with_header(FLAVOR, "Google").with_header("server", "Metadata Server for VM")
}

fn tell(double: &Double, request: &Request, path: &[&str]) -> Response {
    let ["instance", "service-accounts", account, "identity"] = path else {
        return html(404, "Error 404 (Not Found)!!1");
    };
    let own = double.world.cloud.gcp.service_account.as_deref();
    let Some(email) = own.filter(|own| *account == "default" || account == own) else {
        return html(404, "The service account was not found.");
    };
    match parameter(request, "audience") {
        Some(audience) => {
            let token = gcp::mint(double, email, &audience);
            Response::typed(200, "text/html", token.into_bytes())
        }
        None => {
            Response::typed(400, "text/html", b"non-empty audience parameter required\n".to_vec())
        }
    }
}
