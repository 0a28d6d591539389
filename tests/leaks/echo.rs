//! A server that quotes requests, as debug pages, proxies and firewalls do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use serde_json::{Value, json};

/// An answer in place of Infisical's; it quotes the whole request and a value.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: &'static str,
    pub(super) kind: &'static str,
    pub(super) shape: Shape,
}

/// The position of the quote.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// The quote alone.
    Text,
    /// JSON that ends after the quote.
    BrokenJson,
    /// Infisical's JSON members with values of other types.
    OtherTypes,
    /// Infisical's form of an error, without the marks that identify it.
    Unmarked,
    /// Infisical's form of a validation error.
    Issues,
    /// A redirect to another host with the quote in its query.
    Location,
    /// Infisical's form of an error, which quotes the request in its message.
    Message,
}

/// A running server.
pub(super) struct Echo {
    /// The `api_url` of the server.
    pub(super) url: String,
    now: Arc<Mutex<Option<(bool, Answer)>>>,
}

impl Echo {
    /// Starts a server that accepts each login with `token`, and quotes `value` besides the
    /// request.
    pub(super) fn start(token: &str, value: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let now: Arc<Mutex<Option<(bool, Answer)>>> = Arc::default();
        let (current, token, value) = (Arc::clone(&now), token.to_owned(), value.to_owned());
        // The thread ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                // A client may disconnect before the answer.
                let _ = answer(&mut stream, &current, &token, &value);
            }
        });
        Self { url, now }
    }

    /// Sets the answer of logins, or of reads.
    pub(super) fn answers(&self, logins: bool, answer: &Answer) {
        *self.now.lock() = Some((logins, answer.clone()));
    }
}

/// The answers whose text must not be repeated.
pub(super) fn quoting() -> Vec<Answer> {
    let (html, json) = ("text/html; charset=utf-8", "application/json; charset=utf-8");
    let mut answers = Vec::new();
    let mut add = |status, kind, shape| answers.push(Answer { status, kind, shape });
    for status in ["200 OK", "400 Bad Request", "401 Unauthorized", "403 Forbidden"] {
        add(status, html, Shape::Text);
    }
    for status in ["404 Not Found", "429 Too Many Requests", "500 Oops", "502 Bad Gateway"] {
        add(status, html, Shape::Text);
    }
    for shape in [Shape::Text, Shape::BrokenJson, Shape::OtherTypes] {
        add("200 OK", json, shape);
    }
    for status in ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found"] {
        add(status, json, Shape::Unmarked);
    }
    for status in ["500 Oops", "503 Busy", "418 Teapot"] {
        add(status, json, Shape::Unmarked);
    }
    add("422 Unprocessable Content", json, Shape::Issues);
    add("400 Bad Request", json, Shape::Issues);
    add("302 Found", html, Shape::Location);
    answers
}

fn answer(
    stream: &mut TcpStream,
    now: &Mutex<Option<(bool, Answer)>>,
    token: &str,
    value: &str,
) -> std::io::Result<()> {
    let request = read(stream)?;
    let is_login = request.starts_with("POST ");
    let now = now.lock().clone();
    match now {
        Some((logins, answer)) if logins == is_login => {
            let quote = match answer.shape {
                Shape::Message => format!("you sent: {request}"),
                _ => format!("you sent: {request} and the value is {value}"),
            };
            answer.send(stream, &quote)
        }
        _ if is_login => {
            let body = json!({"accessToken": token, "expiresIn": 7200}).to_string();
            send(stream, "200 OK", "application/json", "", &body)
        }
        _ => {
            let secret = json!({"secretKey": "A", "secretValue": value});
            let body = json!({"secret": secret}).to_string();
            send(stream, "200 OK", "application/json", "", &body)
        }
    }
}

impl Answer {
    fn send(&self, stream: &mut TcpStream, quote: &str) -> std::io::Result<()> {
        let code: u16 = self.status[..3].parse().unwrap();
        let marked = |message: Value| json!({"reqId": "req-1", "statusCode": code, "error": "Oops", "message": message});
        let mut location = String::new();
        let body = match self.shape {
            Shape::Text => quote.to_owned(),
            Shape::BrokenJson => format!("{{\"secret\": {}", json!(quote)),
            Shape::OtherTypes => json!({
                "accessToken": [quote], "expiresIn": quote, "secrets": quote,
                "secret": {"secretKey": "A", "secretValue": {"text": quote}},
            })
            .to_string(),
            Shape::Unmarked => json!({"error": "Oops", "message": quote}).to_string(),
            Shape::Issues => {
                marked(json!([{"path": ["clientSecret"], "message": quote, "received": quote}]))
                    .to_string()
            }
            Shape::Location => {
                let query: String = quote.chars().filter(char::is_ascii_graphic).collect();
                location = format!("location: http://elsewhere.invalid/?{query}\r\n");
                String::new()
            }
            Shape::Message => marked(json!(quote)).to_string(),
        };
        send(stream, self.status, self.kind, &location, &body)
    }
}

fn send(
    stream: &mut TcpStream,
    status: &str,
    kind: &str,
    more: &str,
    body: &str,
) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{more}connection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One request, head and body, as text.
fn read(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut reader = BufReader::new(stream);
    let mut text = String::new();
    let mut length = 0;
    while !text.ends_with("\r\n\r\n") {
        let start = text.len();
        if reader.read_line(&mut text)? == 0 {
            return Ok(text);
        }
        let line = text[start..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    reader.take(length).read_to_string(&mut text)?;
    Ok(text)
}
