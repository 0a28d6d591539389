//! An Infisical with whatever secrets a figure needs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::{Child, Programs};
use crate::Result;

pub const PROJECT: &str = "6f2d1b0e-0000-4000-8000-00000000000a";
pub const CLIENT_SECRET: &str = "the-client-secret-of-the-identity";

/// A running `fake-infisical`.
pub struct FakeInfisical {
    _process: Child,
    _folder: TempDir,
    pub url: String,
    control: String,
}

impl FakeInfisical {
    /// With secrets of 100 bytes under names of 64: `folders` folders `/f0`, `/f1`… of `each`, with the
    /// keys of [`Self::key`].
    pub fn start(programs: &Programs, folders: usize, each: usize) -> Result<Self> {
        let keys = || (0..each).map(|number| (Self::key(number), json!(value(number))));
        let secrets: Map<String, Value> = (0..folders)
            .map(|folder| (format!("/f{folder}"), Value::Object(keys().collect())))
            .collect();
        let seed = json!({
            "identities": [{
                "id": "6f2d1b0e-0000-4000-8000-00000000000b", "name": "host", "clientId": "client",
                "clientSecrets": [{"id": "s-1", "secret": CLIENT_SECRET}],
            }],
            "projects": [{
                "id": PROJECT, "slug": "my-project", "environments": ["prod"],
                "secrets": {"prod": secrets},
            }],
        });
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("seed.json");
        std::fs::write(&path, seed.to_string())?;
        let mut command = Command::new(&programs.fake);
        command.arg("--seed").arg(&path).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Child::start(&mut command)?;
        let stdout = process.inner().stdout.take().ok_or("no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let announced: Value = serde_json::from_str(&line)?;
        let text = |key: &str| announced[key].as_str().map(str::to_owned).ok_or("no address");
        let (url, control) = (text("url")?, text("control")?);
        Ok(Self { _process: process, _folder: folder, url, control })
    }

    /// The name of a secret, of 64 bytes.
    pub fn key(number: usize) -> String {
        format!("SECRET_{number:057}")
    }

    /// Changes a secret.
    pub fn put(&self, path: &str, key: &str, value: &str) -> Result<()> {
        let body = json!({"project": PROJECT, "environment": "prod", "path": path, "key": key, "value": value});
        self.control("PUT", "/secret", &body.to_string())
    }

    /// Forgets what it was asked: a log of a million requests is not what is measured.
    pub fn forget(&self) -> Result<()> {
        self.control("DELETE", "/log", "")
    }

    fn control(&self, method: &str, target: &str, body: &str) -> Result<()> {
        let mut stream = TcpStream::connect(self.control.trim_start_matches("http://"))?;
        write!(
            stream,
            "{method} {target} HTTP/1.1\r\nhost: fake\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
        Err(format!("{method} {target}: {answer}").into())
    }
}

/// A value of 100 bytes.
fn value(number: usize) -> String {
    format!("{number:0100}")
}
