//! Starts the real program and makes raw requests.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

pub const PROJECT: &str = "6f2d1b0e-0000-4000-8000-00000000000a";
pub const IDENTITY: &str = "6f2d1b0e-0000-4000-8000-00000000000b";
pub const SECRET_ID: &str = "6f2d1b0e-0000-4000-8000-00000000000c";

pub struct FakeInfisical {
    child: Child,
    pub public: String,
    pub metadata: String,
    control: String,
    pub ca: Option<PathBuf>,
    _directory: TempDir,
}

impl FakeInfisical {
    pub fn start(args: &[&str]) -> Self {
        Self::with_state(&state(), args)
    }

    pub fn with_state(state: &Value, args: &[&str]) -> Self {
        Self::launch(tempfile::tempdir().unwrap(), state, args)
    }

    /// Serves HTTPS with this kind of certificate.
    pub fn secure(kind: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tls = directory.path().join("tls").display().to_string();
        Self::launch(directory, &state(), &["--tls", kind, "--tls-dir", &tls])
    }

    fn launch(directory: TempDir, state: &Value, args: &[&str]) -> Self {
        let seed = directory.path().join("seed.json");
        std::fs::write(&seed, state.to_string()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_fake-infisical"))
            .arg("--seed")
            .arg(seed)
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let announced: Value = serde_json::from_str(&line).unwrap();
        let address = |key: &str| {
            let url = announced[key].as_str().unwrap();
            url.split_once("://").unwrap().1.to_owned()
        };
        Self {
            child,
            public: address("url"),
            metadata: address("metadata"),
            control: address("control"),
            ca: announced["ca"].as_str().map(PathBuf::from),
            _directory: directory,
        }
    }

    /// Sends a signal, and waits for the end.
    pub fn end(mut self, signal: &str) -> ExitStatus {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap()
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.public).unwrap()
    }

    /// A client of the metadata services.
    pub fn machine(&self) -> Client {
        Client::connect(&self.metadata).unwrap()
    }

    /// A client that has logged in.
    pub fn member(&self) -> Client {
        let mut client = self.client();
        let grant = client.login("hunter2").json();
        client.token = Some(grant["accessToken"].as_str().unwrap().to_owned());
        client
    }

    pub fn control(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.try_control(method, path, body);
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.json());
        answer.json()
    }

    pub fn try_control(&self, method: &str, path: &str, body: &Value) -> Answer {
        let mut client = Client::connect(&self.control).unwrap();
        client.send(method, path, &[], Some(body)).unwrap()
    }

    pub fn settings(&self, changes: Value) {
        self.control("PATCH", "/settings", &changes);
    }

    pub fn advance(&self, seconds: u64) {
        self.control("POST", "/clock", &json!({"advanceSeconds": seconds}));
    }

    pub fn fault(&self, fault: Value) {
        self.control("PUT", "/faults", &json!([{"fault": fault}]));
    }

    pub fn permit(&self, rules: Value) {
        let body = json!({"project": PROJECT, "identity": IDENTITY, "rules": rules});
        self.control("PUT", "/permission", &body);
    }
}

impl Drop for FakeInfisical {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        &self.headers[name]
    }

    /// Status, `error` and `message`, after a check of the envelope.
    pub fn error(&self) -> (u16, String, String) {
        let body = self.json();
        let request_id = body["reqId"].as_str().unwrap();
        assert!(request_id.starts_with("req-") && request_id.len() == 18);
        assert_eq!(body["statusCode"], self.status);
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        (self.status, text("error"), text("message"))
    }

    /// The listed secrets, as key and value.
    pub fn listed(&self) -> BTreeMap<String, String> {
        assert_eq!(self.status, 200, "{}", self.text());
        pairs(&self.json()["secrets"])
    }
}

pub fn pairs(secrets: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let secrets = secrets.as_array().unwrap().iter();
    secrets.map(|secret| (text(&secret["secretKey"]), text(&secret["secretValue"]))).collect()
}

pub fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

/// One keep-alive connection.
pub struct Client {
    stream: BufReader<TcpStream>,
    pub token: Option<String>,
}

impl Client {
    pub fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        // So that a broken test fails instead of hanging
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self { stream: BufReader::new(stream), token: None })
    }

    pub fn get(&mut self, target: &str) -> Answer {
        self.send("GET", target, &[], None).unwrap()
    }

    pub fn write(&mut self, method: &str, target: &str, body: &Value) -> Answer {
        self.send(method, target, &[], Some(body)).unwrap()
    }

    pub fn login(&mut self, secret: &str) -> Answer {
        let body = json!({"clientId": "client", "clientSecret": secret});
        self.write("POST", "/api/v1/auth/universal-auth/login", &body)
    }

    pub fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> io::Result<Answer> {
        let body = body.map(Value::to_string);
        let mut headers = headers.to_vec();
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        self.send_raw(method, target, &headers, body.unwrap_or_default().as_bytes())
    }

    pub fn send_raw(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        self.dispatch(method, target, headers, body)?;
        self.receive()
    }

    /// Sends without waiting for the answer.
    pub fn dispatch(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<()> {
        let mut request = format!("{method} {target} HTTP/1.1\r\nhost: fake\r\n");
        if let Some(token) = &self.token {
            request.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        let stream = self.stream.get_mut();
        stream.write_all(&[request.as_bytes(), body].concat())
    }

    pub fn receive(&mut self) -> io::Result<Answer> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line == "\r\n" {
                break;
            }
            lines.push(line.trim_end().to_owned());
        }
        let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
        let headers: BTreeMap<_, _> = lines[1..]
            .iter()
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Answer { status, headers, body })
    }
}

/// `/myapp` imports `/other`, then `/shared`, which imports `/base`.
pub fn state() -> Value {
    json!({
        "identities": [{
            "id": IDENTITY,
            "name": "ci",
            "clientId": "client",
            "clientSecrets": [{"id": SECRET_ID, "secret": "hunter2"}],
        }],
        "projects": [{
            "id": PROJECT,
            "slug": "my-project",
            "environments": ["prod", "dev"],
            "secrets": {"prod": {
                "/": {"ROOT": "r"},
                "/myapp": {
                    "DB_HOST": "db",
                    "URL": "${DB_HOST}:${prod.shared.PORT}/${NOWHERE}",
                    "TAGGED": {
                        "value": "t",
                        "tags": [{"id": "tag-1", "slug": "db", "name": "db"}],
                        "metadata": [{"key": "owner", "value": "team-a"}],
                    },
                },
                "/myapp/deep": {"DEEP": "d"},
                "/other": {"PORT": "1", "ONLY_OTHER": "o"},
                "/shared": {"PORT": "2", "DB_HOST": "shadowed"},
                "/base": {"BASE": "${PORT}"},
                "/empty": {},
            }},
            "imports": [
                {"environment": "prod", "path": "/myapp",
                 "from": {"environment": "prod", "path": "/other"}},
                {"environment": "prod", "path": "/myapp",
                 "from": {"environment": "prod", "path": "/shared"}},
                {"environment": "prod", "path": "/shared",
                 "from": {"environment": "prod", "path": "/base"}},
            ],
        }],
    })
}

/// The query of a `v4` read in `/myapp`.
pub fn myapp(path: &str, more: &str) -> String {
    format!("/api/v4/secrets{path}?projectId={PROJECT}&environment=prod&secretPath=/myapp{more}")
}
