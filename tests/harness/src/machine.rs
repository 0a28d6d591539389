//! A host in a cloud or a cluster, for each login method.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{Config, FakeInfisical, IDENTITY, Instance, seed};

/// A login method: its name in the config, in the server's route, and in the fake's seed.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Its name in the config.
    pub name: &'static str,
    /// Its name in the login's route.
    pub route: &'static str,
    settings: &'static str,
}

/// The instance role of AWS.
pub const AWS: Method = Method { name: "aws-iam", route: "aws-auth", settings: "aws" };
/// The service account of a GCE instance.
pub const GCP: Method = Method { name: "gcp", route: "gcp-auth", settings: "gcp" };
/// The managed identity of an Azure VM.
pub const AZURE: Method = Method { name: "azure", route: "azure-auth", settings: "azure" };
/// A pod's service account.
pub const KUBERNETES: Method =
    Method { name: "kubernetes", route: "kubernetes-auth", settings: "kubernetes" };
/// A token of an issuer whose public key Infisical has.
pub const JWT: Method = Method { name: "jwt", route: "jwt-auth", settings: "jwt" };
/// A token of an OpenID Connect provider.
pub const OIDC: Method = Method { name: "oidc", route: "oidc-auth", settings: "oidc" };
/// A JWT-SVID.
pub const SPIFFE: Method = Method { name: "spiffe", route: "spiffe-auth", settings: "spiffe" };
/// The methods whose token an issuer signs and an agent keeps in a file.
pub const ISSUED: [Method; 3] = [JWT, OIDC, SPIFFE];
/// The methods with a metadata service.
pub const CLOUDS: [Method; 3] = [AWS, GCP, AZURE];
/// Every method that proves itself by a token or a signature.
pub const METHODS: [Method; 7] = [AWS, GCP, AZURE, KUBERNETES, JWT, OIDC, SPIFFE];

/// A fake, and an instance whose psid logs in by one method, without a client secret.
pub struct Machine {
    /// The login method.
    pub method: Method,
    /// The fake Infisical.
    pub infisical: FakeInfisical,
    /// The files of psi.
    pub instance: Instance,
}

impl Machine {
    /// A machine whose identity has the method's default settings.
    pub fn of(method: Method, secrets: &Value) -> Self {
        Self::with_settings(method, secrets, &json!({}))
    }

    /// A machine whose identity has these settings of the method.
    pub fn with_settings(method: Method, secrets: &Value, settings: &Value) -> Self {
        let mut seed = seed(secrets);
        seed["identities"][0]["methods"] = json!({method.settings: settings});
        Self::launch(method, &seed)
    }

    /// A machine whose fake has this seed.
    pub fn launch(method: Method, seed: &Value) -> Self {
        let infisical = FakeInfisical::launch(seed, &[]);
        let instance = Instance::empty();
        instance.give_key(&[7; 32]);
        let machine = Self { method, infisical, instance };
        machine.give_token(&json!({}));
        machine.instance.configure(&machine.config());
        machine
    }

    /// Its config.
    pub fn config(&self) -> Config {
        let mut config = Config::of(&self.infisical);
        config.auth = format!("method = \"{}\"\nidentity_id = \"{IDENTITY}\"\n", self.method.name);
        config.auth += &match self.method.name {
            "aws-iam" | "gcp" | "azure" => {
                format!("metadata_url = \"{}\"\n", self.infisical.metadata())
            }
            _ => format!("token_file = \"{}\"\n", self.token_file().display()),
        };
        config
    }

    /// The file in which kubelet or another agent would write the token.
    pub fn token_file(&self) -> PathBuf {
        self.instance.credentials().join("token")
    }

    /// Writes a new token there and returns it.
    pub fn give_token(&self, order: &Value) -> String {
        let token = match self.method.name {
            issuer @ ("jwt" | "oidc" | "spiffe") => self.infisical.issuer_token(issuer, order),
            _ => self.infisical.kubernetes_token(order),
        };
        fs::write(self.token_file(), format!("{token}\n")).unwrap();
        token
    }

    /// The number of logins so far.
    pub fn logins(&self) -> u64 {
        self.infisical.logins_by(self.method.route)
    }

    /// The bodies of the logins so far.
    pub fn login_bodies(&self) -> Vec<Value> {
        let log = self.infisical.log();
        let logins = log.iter().filter(|request| request.text("path").ends_with("/login"));
        logins.map(|request| serde_json::from_str(request.text("body")).unwrap()).collect()
    }

    /// The number of requests to the metadata service: each of its paths is below one of these.
    pub fn metadata_requests(&self) -> u64 {
        let paths = ["/latest/", "/computeMetadata/", "/metadata/"];
        let methods = ["GET", "PUT"];
        let count =
            |path| methods.map(|method| self.infisical.count(method, path)).iter().sum::<u64>();
        paths.into_iter().map(count).sum()
    }

    /// Applies this fault to every request of the metadata port from now on.
    pub fn metadata_fault(&self, fault: &Value) {
        self.infisical.faults(&json!([{"port": "metadata", "fault": fault}]));
    }
}
