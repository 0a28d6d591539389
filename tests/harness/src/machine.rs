//! A host in a cloud or a cluster, for each login method.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::ca::{CLIENT, Ca, Subject, generate_ec_key, openssl};
use crate::{CLIENT_SECRET, Config, FakeInfisical, IDENTITY, Instance, Start, Token, seed};

/// A login method: its name in the config, in the server's route, and in the fake's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
/// A client certificate, whose key is in a file.
pub const TLS_CERT: Method =
    Method { name: "tls-cert", route: "tls-cert-auth", settings: "tlsCert" };
/// A static access token; there is no login.
pub const TOKEN: Method = Method { name: "token", route: "none", settings: "" };
/// A client secret.
pub const UNIVERSAL: Method =
    Method { name: "universal-auth", route: "universal-auth", settings: "" };
/// The methods whose token an issuer signs and an agent keeps in a file.
pub const ISSUED: [Method; 3] = [JWT, OIDC, SPIFFE];
/// The methods with a metadata service.
pub const CLOUDS: [Method; 3] = [AWS, GCP, AZURE];
/// Every method that proves itself by a token or a signature in its request.
pub const METHODS: [Method; 7] = [AWS, GCP, AZURE, KUBERNETES, JWT, OIDC, SPIFFE];
/// Every method with an identity's id.
pub const IDENTITIES: [Method; 8] = [AWS, GCP, AZURE, KUBERNETES, JWT, OIDC, SPIFFE, TLS_CERT];
/// Every method.
pub const ALL: [Method; 10] =
    [UNIVERSAL, AWS, GCP, AZURE, KUBERNETES, JWT, OIDC, SPIFFE, TOKEN, TLS_CERT];

/// A fake, and an instance whose psid logs in by one method, without a client secret.
pub struct Machine {
    /// The login method.
    pub method: Method,
    /// The fake Infisical.
    pub infisical: FakeInfisical,
    /// The files of psi.
    pub instance: Instance,
    /// The authority of the client certificate.
    pub ca: Option<Ca>,
    /// The token with the certificate's key.
    pub token: Option<Token>,
}

impl Machine {
    /// A machine whose identity has the method's default settings.
    pub fn of(method: Method, secrets: &Value) -> Self {
        Self::with_settings(method, secrets, &json!({}))
    }

    /// A machine whose identity has these settings of the method.
    pub fn with_settings(method: Method, secrets: &Value, settings: &Value) -> Self {
        let mut seed = seed(secrets);
        let ca = (method == TLS_CERT).then(Ca::new);
        let mut settings = settings.clone();
        if let Some(ca) = &ca {
            settings["caCertificate"] = ca.pem().into();
        }
        if !method.settings.is_empty() {
            seed["identities"][0]["methods"] = json!({method.settings: settings});
        }
        Self::with_ca(method, &seed, ca)
    }

    /// A machine that logs in by a certificate whose key is on this token.
    pub fn on_token(token: Token, secrets: &Value) -> Self {
        let mut machine = Self::of(TLS_CERT, secrets);
        let make =
            ["--keypairgen", "--key-type", "EC:prime256v1", "--label", "login", "--id", "03"];
        token.user_tool(&[&make[..], &["--usage-sign"]].concat());
        machine.token = Some(token);
        machine.certify_token_key(CLIENT);
        fs::remove_file(machine.key_file()).unwrap();
        machine.instance.configure(&machine.config());
        machine
    }

    /// Certifies the key on the token.
    pub fn certify_token_key(&self, subject: Subject<'_>) {
        let (ca, token) = (self.ca.as_ref().unwrap(), self.token.as_ref().unwrap());
        let public = ca.path("public.der");
        let read = ["--read-object", "--type", "pubkey", "--id", "03", "--output-file"];
        token.user_tool(&[&read[..], &[public.to_str().unwrap()]].concat());
        ca.certify(&public, subject, &self.certificate_file());
    }

    /// A machine whose fake has this seed.
    pub fn launch(method: Method, seed: &Value) -> Self {
        Self::with_ca(method, seed, None)
    }

    fn with_ca(method: Method, seed: &Value, ca: Option<Ca>) -> Self {
        let options: &[&str] = if method == TLS_CERT { &["--tls", "valid"] } else { &[] };
        let infisical = FakeInfisical::launch(seed, options);
        let instance = Instance::empty();
        instance.give_key(&[7; 32]);
        let machine = Self { method, infisical, instance, ca, token: None };
        machine.give_credential();
        machine.instance.configure(&machine.config());
        machine
    }

    /// Provides a new credential, which Infisical accepts.
    pub fn give_credential(&self) {
        match (self.method, &self.ca) {
            (UNIVERSAL, _) => self.instance.give_client_secret(CLIENT_SECRET),
            (TOKEN, _) => fs::write(self.token_file(), self.infisical.access_token()).unwrap(),
            (_, Some(ca)) => {
                generate_ec_key(&self.key_file());
                ca.certify_key(&self.key_file(), CLIENT, &self.certificate_file());
            }
            _ => {
                self.give_token(&json!({}));
            }
        }
    }

    /// A psid that has the token, if there is one.
    pub fn psid(&self) -> Start {
        let start = self.instance.psid();
        self.token.as_ref().map_or(start, |token| token.on(self.instance.psid()))
    }

    /// Its config.
    pub fn config(&self) -> Config {
        let mut config = Config::of(&self.infisical);
        if self.method == UNIVERSAL {
            return config;
        }
        config.rest += &self.token.as_ref().map_or_else(String::new, Token::config);
        let identity = match self.method {
            TOKEN => String::new(),
            _ => format!("identity_id = \"{IDENTITY}\"\n"),
        };
        config.auth = format!("method = \"{}\"\n{identity}", self.method.name);
        let more = match self.method.name {
            "tls-cert" => {
                let key = match &self.token {
                    None => format!("key_file = \"{}\"\n", self.key_file().display()),
                    Some(_) => "key_label = \"login\"\n".to_owned(),
                };
                format!("certificate_file = \"{}\"\n{key}", self.certificate_file().display())
            }
            "aws-iam" | "gcp" | "azure" => {
                format!("metadata_url = \"{}\"\n", self.infisical.metadata())
            }
            _ => format!("token_file = \"{}\"\n", self.token_file().display()),
        };
        config.auth += &more;
        config
    }

    /// The file in which kubelet or another agent would write the token.
    pub fn token_file(&self) -> PathBuf {
        self.instance.credentials().join("token")
    }

    /// The file of the client certificate.
    pub fn certificate_file(&self) -> PathBuf {
        self.instance.directory().join("client.pem")
    }

    /// The file of its private key.
    pub fn key_file(&self) -> PathBuf {
        self.instance.credentials().join("client.key")
    }

    /// What this host keeps secret for the login, in each form that could be shown.
    pub fn secrets(&self) -> Vec<(&'static str, Vec<u8>)> {
        match (self.method, &self.token) {
            (UNIVERSAL, _) => vec![("the client secret", CLIENT_SECRET.into())],
            (TOKEN, _) => vec![("the access token", fs::read(self.token_file()).unwrap())],
            (TLS_CERT, None) => {
                let pem = fs::read_to_string(self.key_file()).unwrap();
                let der =
                    openssl(&["pkey", "-in", self.key_file().to_str().unwrap(), "-outform", "DER"]);
                let line = pem.lines().nth(1).unwrap().to_owned();
                vec![("the private key in PEM", line.into()), ("the private key in DER", der)]
            }
            _ => Vec::new(),
        }
    }

    /// The secret number of the private key, as a process that signs has it in memory.
    pub fn private_number(&self) -> Vec<u8> {
        let key = self.key_file();
        let der = openssl(&["pkey", "-in", key.to_str().unwrap(), "-outform", "DER"]);
        // RFC 5958 and RFC 5915, for an EC key on P-256.
        der[36..68].to_vec()
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
