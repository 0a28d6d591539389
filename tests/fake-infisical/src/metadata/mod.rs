//! The metadata port: the services of three clouds, distinguished by their paths. On a real machine
//! each of them is at 169.254.169.254.

mod aws;
mod azure;
mod gcp;

pub use aws::Sessions;

use crate::fake::FakeInfisical;
use crate::http::request::Request;
use crate::http::response::Response;

/// The answer without a fault.
pub fn answer(fake: &mut FakeInfisical, request: &Request) -> Response {
    let segments = request.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["latest", path @ ..] => aws::answer(fake, request, path),
        ["computeMetadata", "v1", path @ ..] => gcp::answer(fake, request, path),
        // Google's own clients detect the cloud by this.
        [""] | [] if request.header("metadata-flavor").is_some() => gcp::answer(fake, request, &[]),
        ["metadata", path @ ..] => azure::answer(fake, request, path),
        _ => html(404, "404 - Not Found"),
    }
}

fn html(status: u16, words: &str) -> Response {
    let page = format!(
        "<!DOCTYPE html>\n<html><head><title>{words}</title></head>\n<body><h1>{words}</h1></body></html>\n"
    );
    Response::html(status, &page)
}

/// A query parameter that is present and not empty.
fn parameter(request: &Request, name: &str) -> Option<String> {
    let text = request.query_map().get(name)?.as_str()?.to_owned();
    Some(text).filter(|text| !text.is_empty())
}
