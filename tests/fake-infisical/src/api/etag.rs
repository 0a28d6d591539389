//! ETags, which `@fastify/etag` adds to every response, also to errors.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::http::request::Request;
use crate::http::response::Response;

/// Adds the body's hash, and answers 304 to a client that has it. A handler that sets a tag has
/// decided that already.
pub fn apply(request: &Request, mut response: Response) -> Response {
    if response.status == 304 || response.header("etag").is_some() {
        return response;
    }
    let etag = format!("\"{}\"", STANDARD.encode(Sha1::digest(&response.body)));
    response.headers.push(("etag", etag.clone()));
    if matches(request, &etag) {
        return not_modified(response);
    }
    response
}

/// The plugin compares whole headers, without lists and `*`.
pub fn matches(request: &Request, etag: &str) -> bool {
    let weak = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    request.header("if-none-match").is_some_and(|seen| weak(seen) == weak(etag))
}

pub fn not_modified(mut response: Response) -> Response {
    response.status = 304;
    response.body.clear();
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(etag: &str) -> Request {
        let mut request = Request::default();
        request.headers.insert("if-none-match".to_owned(), etag.to_owned());
        request
    }

    #[test]
    fn matching_etag_answers_304_without_body() {
        let body = Response::json(200, &"x");
        let first = apply(&Request::default(), body.clone());
        let etag = first.header("etag").unwrap().to_owned();
        assert!(etag.starts_with('"') && etag.ends_with("=\""));
        for seen in [etag.clone(), format!("W/{etag}")] {
            let again = apply(&asking(&seen), body.clone());
            assert_eq!((again.status, again.body.len()), (304, 0));
            assert_eq!(again.header("etag"), Some(etag.as_str()));
        }
        assert_eq!(apply(&asking("\"other\""), body).status, 200);
    }
}
