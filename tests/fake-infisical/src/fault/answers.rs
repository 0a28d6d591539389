//! Faults of an answer's content, as opposed to its delivery.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::Fault;
use super::subject::Subject;
use crate::api::error::{ApiError, request_id, route_not_found};
use crate::api::route::Route;
use crate::http::response::Response;

const BAD_GATEWAY: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
    <center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";
const UNAVAILABLE: &str = "<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n\
    <body>\r\n<center><h1>503 Service Temporarily Unavailable</h1></center>\r\n<hr><center>nginx</center>\r\n\
    </body>\r\n</html>\r\n";
const NOT_FOUND: &str = "<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n\
    <center><h1>404 Not Found</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";
const BLOCKED: &str = "<!DOCTYPE html>\n<html><head><title>Attention Required!</title></head>\n\
    <body><h1>Sorry, you have been blocked</h1><p>This website is using a security service to \
    protect itself from online attacks.</p></body></html>\n";
const PORTAL: &str = "<!DOCTYPE html>\n<html><head><title>Welcome to the guest network</title></head>\n\
    <body><form action=\"/accept\"><button>Accept the terms</button></form></body></html>\n";

/// The fields that clients need.
const LOAD_BEARING: [&str; 4] = ["accessToken", "expiresIn", "secretKey", "secretValue"];

impl Fault {
    /// An answer in place of the server's, which never gets the request.
    pub fn substitute(&self, subject: &Subject<'_>) -> Option<Response> {
        match self {
            Self::Status { code, error, message, details, retry_after } => {
                let mut refusal = ApiError::new(*code, error.clone(), message);
                if let Some(details) = details {
                    refusal = refusal.with_details(details.clone());
                }
                let response = refusal.respond(request_id());
                Some(match retry_after {
                    Some(seconds) => response.with_header("retry-after", seconds.to_string()),
                    None => response,
                })
            }
            Self::DatabaseError => Some(ApiError::database().respond(request_id())),
            Self::PostgresDown => {
                let refusal = ApiError::new(500, database_call(subject), "Something went wrong");
                Some(refusal.respond(request_id()))
            }
            Self::LockContended => Some(ApiError::lock_contended().respond(request_id())),
            Self::RouteNotFound => Some(route_not_found(subject.request)),
            Self::EmptyListing => Some(Response::json(200, &json!({"secrets": [], "imports": []}))),
            Self::Maintenance => Some(ApiError::internal().respond(request_id())),
            Self::Html502 => Some(Response::html(502, BAD_GATEWAY)),
            Self::Html503 => Some(Response::html(503, UNAVAILABLE)),
            Self::Html404 => Some(Response::html(404, NOT_FOUND)),
            Self::Html403Waf => Some(Response::html(403, BLOCKED)),
            Self::CaptivePortal => Some(Response::html(200, PORTAL)),
            Self::Redirect { location, code } => {
                Some(Response::html(*code, "").with_header("location", location))
            }
            Self::GarbageJson => Some(Response::typed(
                200,
                "application/json; charset=utf-8",
                b"{\"secrets\": [{\"secretKey\": \"A\", ".to_vec(),
            )),
            _ => None,
        }
    }

    /// Whether the fault needs a whole answer, even if the client has it already.
    pub fn rewrites(&self) -> bool {
        matches!(self, Self::WrongShape | Self::HugeList { .. })
    }

    /// Changes the server's own answer, before its ETag is made.
    pub fn rewrite(&self, mut response: Response) -> Response {
        if !self.rewrites() {
            return response;
        }
        let Ok(mut body) = serde_json::from_slice(&response.body) else {
            return response;
        };
        match self {
            Self::HugeList { entries } => lengthen(&mut body, *entries),
            _ => strip(&mut body),
        }
        response.body = body.to_string().into_bytes();
        response.remove_header("etag");
        response
    }

    /// Changes the encoded answer.
    pub fn encode(&self, mut response: Response) -> Response {
        if *self != Self::Gzip || response.status == 304 {
            return response;
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let zipped = encoder.write_all(&response.body).and_then(|()| encoder.finish());
        response.body = zipped.expect("a Vec takes every byte");
        response.with_header("content-encoding", "gzip")
    }
}

/// The first database call of a route.
fn database_call(subject: &Subject<'_>) -> &'static str {
    match subject.route {
        Some(Route::Login) => "FindOne",
        Some(Route::Renew | Route::Revoke) => "IdAccessTokenFindOne",
        _ => "FindMembership",
    }
}

fn lengthen(body: &mut Value, entries: usize) {
    let Some(Value::Array(secrets)) = body.get_mut("secrets") else {
        return;
    };
    secrets.extend((0..entries).map(|n| {
        json!({
            "id": format!("00000000-0000-4000-8000-{n:012}"),
            "_id": format!("00000000-0000-4000-8000-{n:012}"),
            "workspace": "", "environment": "", "version": 1, "type": "shared",
            "secretKey": format!("GENERATED_{n}"),
            "secretValue": format!("generated value number {n}"),
            "secretValueHidden": false, "secretComment": "", "secretPath": "/",
            "createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:00.000Z",
        })
    }));
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !LOAD_BEARING.contains(&key.as_str()));
            map.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewrite_empties_or_enlarges_answers() {
        let list = Response::json(200, &json!({"secrets": [{"secretKey": "K", "id": "1"}]}))
            .with_header("etag", "\"x\"");
        let body =
            |response: Response| -> Value { serde_json::from_slice(&response.body).unwrap() };
        let stripped = Fault::WrongShape.rewrite(list.clone());
        assert_eq!(stripped.header("etag"), None);
        assert_eq!(body(stripped), json!({"secrets": [{"id": "1"}]}));
        let huge = body(Fault::HugeList { entries: 500 }.rewrite(list));
        assert_eq!(huge["secrets"].as_array().unwrap().len(), 501);
    }
}
