//! A decoded request.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    /// Path and query, exactly as sent; Fastify repeats it in its 404
    pub target: String,
    /// The path alone, still percent-encoded
    pub path: String,
    /// Names in lower case; repeated headers joined by a comma
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// The length that was sent, even if `body` was not kept
    pub body_bytes: usize,
    pub wants_close: bool,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The decoded path, split; a trailing slash is ignored, as the server does.
    pub fn segments(&self) -> Vec<String> {
        let path = self.path.strip_suffix('/').unwrap_or(&self.path);
        path.split('/')
            .skip(1)
            .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
            .collect()
    }

    /// Whether `decodeURIComponent` accepts the path.
    pub fn is_decodable(&self) -> bool {
        let bytes = self.path.as_bytes();
        let escaped = |at: usize| {
            let digits = bytes.get(at + 1..at + 3);
            digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        };
        let mut percents = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%');
        percents.all(|(at, _)| escaped(at)) && percent_decode_str(&self.path).decode_utf8().is_ok()
    }

    /// The query as the server validates it: a repeated key is an array, hence invalid.
    pub fn query_map(&self) -> Map<String, Value> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let mut map = Map::new();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = Value::String(value.into_owned());
            match map.get_mut(key.as_ref()) {
                None => {
                    map.insert(key.into_owned(), value);
                }
                Some(Value::Array(values)) => values.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn trailing_slash_and_escapes_do_not_change_the_route() {
        let request =
            Request { path: "/api/v4/secrets/MY%20KEY/".to_owned(), ..Request::default() };
        assert_eq!(request.segments(), ["api", "v4", "secrets", "MY KEY"]);
    }

    #[test]
    fn repeated_query_key_becomes_an_array() {
        let request = Request { target: "/x?a=1&b=%2Fp&a=2+3".to_owned(), ..Request::default() };
        let expected = json!({"a": ["1", "2 3"], "b": "/p"});
        assert_eq!(Value::Object(request.query_map()), expected);
    }
}
