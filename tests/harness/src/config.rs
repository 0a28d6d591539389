//! The config of a test, as an admin would write it.

use std::fmt::{self, Display, Formatter};

use super::fake_infisical::{FakeInfisical, PROJECT};
use super::token::Token;

/// A config for one fake. [`Config::with`] adds other lines.
#[derive(Clone)]
pub struct Config {
    /// Lines of `[cache]`.
    pub cache: String,
    /// Lines of `[providers.infisical]`; empty for no provider at all.
    pub infisical: String,
    /// Lines of `[providers.infisical.auth]`.
    pub auth: String,
    /// Other tables.
    pub rest: String,
}

impl Config {
    /// The tpm backend, one project `myproject`, and no scheduled refresh.
    pub fn of(fake: &FakeInfisical) -> Self {
        let mut infisical = format!("api_url = \"{}\"\ntimeout = \"5s\"\n", fake.url());
        if let Some(ca) = fake.ca() {
            infisical += &format!("ca_cert = \"{}\"\n", ca.display());
        }
        Self {
            cache: "backend = \"tpm\"\n".into(),
            infisical,
            auth: "method = \"universal-auth\"\nclient_id = \"client\"\n\
                   client_secret_credential = \"infisical-client-secret\"\n"
                .into(),
            rest: String::new(),
        }
    }

    /// Entries are stale after a second: then each lookup makes a request and uses the entry only
    /// if it fails. psid refreshes as often.
    pub fn short_lived(mut self) -> Self {
        self.cache += "refresh_interval = \"1s\"\nrefresh_jitter = \"1ms\"\n";
        self
    }

    /// No key backend.
    pub fn without_backend(mut self) -> Self {
        self.cache = self.cache.replace("backend = \"tpm\"\n", "");
        self
    }

    /// The hsm backend, with this token.
    pub fn hsm(mut self, token: &Token) -> Self {
        self.cache = self.cache.replace("\"tpm\"", "\"hsm\"");
        self.rest += &token.config();
        self
    }

    /// The timeout of one request to the provider.
    pub fn timeout(mut self, timeout: &str) -> Self {
        self.infisical = self.infisical.replace("\"5s\"", &format!("\"{timeout}\""));
        self
    }

    /// More lines of `[cache]`.
    pub fn cache(mut self, lines: &str) -> Self {
        self.cache += &format!("{lines}\n");
        self
    }

    /// A user's workload that reads one directory of the project, without those below it.
    pub fn workload_of(mut self, user: impl Display, name: &str, path: &str) -> Self {
        self.rest += &format!(
            "[workloads.\"{name}\"]\nprovider = \"infisical\"\nuser = \"{user}\"\n\
             secrets = [{{ project = \"myproject\", path = \"{path}\" }}]\n"
        );
        self
    }

    /// A workload that reads one directory of the project.
    pub fn workload(mut self, name: &str, path: &str, recursive: bool) -> Self {
        self.rest += &format!(
            "[workloads.\"{name}\"]\nprovider = \"infisical\"\n\
             secrets = [{{ project = \"myproject\", path = \"{path}\", recursive = {recursive} }}]\n"
        );
        self
    }
}

impl Display for Config {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "[cache]\n{}", self.cache)?;
        if !self.infisical.is_empty() {
            write!(f, "[providers.infisical]\n{}", self.infisical)?;
            write!(f, "[providers.infisical.auth]\n{}", self.auth)?;
            write!(
                f,
                "[providers.infisical.projects.myproject]\nid = \"{PROJECT}\"\n\
                 environment = \"prod\"\n"
            )?;
        }
        f.write_str(&self.rest)
    }
}
