//! The options of `psictl init` and `psictl seal`.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use psi_common::SealMode;

#[derive(Args)]
pub(crate) struct SealCredentialOptions {
    /// The credential's name, as the config has it: infisical-client-secret, hsm-pin
    pub(crate) name: String,
    /// Seal for the psid of the user that runs it, which is the default unless root runs it
    #[arg(long)]
    pub(crate) user: bool,
    /// What systemd-creds seals it to (default: tpm2, for a user what systemd chooses)
    #[arg(long, value_name = "KEY", value_parser = seal_mode())]
    pub(crate) seal_with: Option<SealMode>,
    /// The PCRs that it is bound to, such as 7 or 7+11; empty for none (default: none, where systemd can)
    #[arg(long, value_name = "PCRS")]
    pub(crate) tpm2_pcrs: Option<String>,
}

/// What a terminal is asked for, as flags; flags that are given are not asked for.
#[derive(Args, Default)]
pub(crate) struct SetUpHostOptions {
    #[command(flatten)]
    pub(crate) provider: ProviderArgs,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// The project: the name for the config, its id at Infisical, and its environment
    #[arg(long, value_name = "NAME=ID:ENV", value_parser = project)]
    pub(crate) project: Option<ProjectArg>,
    /// A workload: the quadlet unit's name without its type, and the project and directory of its secrets
    #[arg(long, value_name = "NAME=PROJECT:/PATH", value_parser = workload)]
    pub(crate) workload: Vec<WorkloadArg>,
    /// Start the workloads' units at the end, again those that run, so that their containers have the secrets
    #[arg(long)]
    pub(crate) start: bool,
    /// Ask for no confirmation; without a terminal it is required
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Print the steps and their commands, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON at the end, and ask nothing
    #[arg(long)]
    pub(crate) json: bool,
    /// Try a refused login or PIN once more
    #[arg(long)]
    pub(crate) retry: bool,
    /// The permanent path of psi-driver (default: the one of `psictl install`)
    #[arg(long, value_name = "PATH")]
    pub(crate) program: Option<PathBuf>,
}

/// Infisical, and how psid logs in there.
#[derive(Args, Default)]
#[command(next_help_heading = "Infisical")]
pub(crate) struct ProviderArgs {
    /// The URL of Infisical
    #[arg(long, value_name = "URL")]
    pub(crate) api_url: Option<String>,
    /// Allow plain http to another host, which sends every secret in plaintext
    #[arg(long)]
    pub(crate) allow_http: bool,
    /// A PEM file of the only CAs that are trusted
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_cert: Option<PathBuf>,
    /// How the machine identity logs in
    #[arg(long)]
    pub(crate) method: Option<LoginMethod>,
    /// The client id, with universal-auth; with azure, the one of one of several managed identities
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: Option<String>,
    /// A file with the client secret (-: stdin), which is sealed and not read again
    #[arg(long, value_name = "FILE")]
    pub(crate) client_secret_file: Option<PathBuf>,
    /// A file with the access token (-: stdin), with token, which is sealed and not read again
    #[arg(long, value_name = "FILE")]
    pub(crate) access_token_file: Option<PathBuf>,
    /// The machine identity's id, with the methods but universal-auth and token
    #[arg(long, value_name = "ID")]
    pub(crate) identity_id: Option<String>,
    /// The file of the JSON web token, with kubernetes, jwt, oidc and spiffe
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The PEM file of the client certificate, with tls-cert
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate_file: Option<PathBuf>,
    /// A PEM file with its private key (-: stdin), with tls-cert, which is sealed and not read again
    #[arg(long, value_name = "FILE", conflicts_with = "private_key_label")]
    pub(crate) private_key_file: Option<PathBuf>,
    /// The label of its private key on the PKCS#11 token, which signs the login then
    #[arg(long, value_name = "LABEL")]
    pub(crate) private_key_label: Option<String>,
    /// The URL at which the login with the certificate is made, if it is not --api-url
    #[arg(long, value_name = "URL")]
    pub(crate) login_url: Option<String>,
}

/// The key of the cache.
#[derive(Args, Default)]
#[command(next_help_heading = "Key")]
pub(crate) struct KeyArgs {
    /// Where the key of the cache is kept: tpm (sealed by systemd-creds) or hsm (a PKCS#11 token)
    #[arg(long)]
    pub(crate) backend: Option<super::Backend>,
    /// What systemd-creds seals the key and the client secret to (default: tpm2, for a user host)
    #[arg(long, value_name = "KEY", value_parser = seal_mode())]
    pub(crate) seal_with: Option<SealMode>,
    /// The PCRs that the key of the cache is bound to, such as 7 or 7+11; empty for none (default: 7)
    #[arg(long, value_name = "PCRS")]
    pub(crate) tpm2_pcrs: Option<String>,
    /// Write the recovery key to this new file of mode 0600, instead of showing it and asking for it
    #[arg(long, value_name = "FILE", conflicts_with = "no_recovery_key")]
    pub(crate) recovery_key_file: Option<PathBuf>,
    /// Create no recovery key
    #[arg(long)]
    pub(crate) no_recovery_key: bool,
    /// The PKCS#11 module of the token, with --backend hsm or --private-key-label
    #[arg(long, value_name = "FILE")]
    pub(crate) pkcs11_module: Option<PathBuf>,
    /// The label of the token
    #[arg(long, value_name = "LABEL")]
    pub(crate) token_label: Option<String>,
    /// The label of the token's key
    #[arg(long, value_name = "LABEL")]
    pub(crate) key_label: Option<String>,
    /// A file with the user PIN (-: stdin), which is sealed and not read again
    #[arg(long, value_name = "FILE")]
    pub(crate) pin_file: Option<PathBuf>,
}

/// The login methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LoginMethod {
    UniversalAuth,
    AwsIam,
    Gcp,
    Azure,
    Kubernetes,
    Jwt,
    Oidc,
    Spiffe,
    Token,
    TlsCert,
}

/// `NAME=ID:ENV`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProjectArg {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) environment: String,
}

/// `NAME=PROJECT:/PATH`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkloadArg {
    pub(crate) name: String,
    pub(crate) project: String,
    pub(crate) path: String,
}

impl LoginMethod {
    /// The name in the config.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::UniversalAuth => "universal-auth",
            Self::AwsIam => "aws-iam",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
            Self::Kubernetes => "kubernetes",
            Self::Jwt => "jwt",
            Self::Oidc => "oidc",
            Self::Spiffe => "spiffe",
            Self::Token => "token",
            Self::TlsCert => "tls-cert",
        }
    }

    /// The method of this name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// Each method.
    pub(crate) const ALL: [Self; 10] = [
        Self::UniversalAuth,
        Self::AwsIam,
        Self::Gcp,
        Self::Azure,
        Self::Kubernetes,
        Self::Jwt,
        Self::Oidc,
        Self::Spiffe,
        Self::Token,
        Self::TlsCert,
    ];
}

fn project(text: &str) -> Result<ProjectArg, String> {
    let parts = text.split_once('=').and_then(|(name, rest)| Some((name, rest.rsplit_once(':')?)));
    match parts {
        Some((name, (id, environment))) if ![name, id, environment].contains(&"") => {
            Ok(ProjectArg { name: name.into(), id: id.into(), environment: environment.into() })
        }
        _ => {
            Err("not NAME=ID:ENV, as in myproject=6f2d1b0e-0000-4000-8000-00000000000a:prod".into())
        }
    }
}

fn workload(text: &str) -> Result<WorkloadArg, String> {
    let parts = text.split_once('=').and_then(|(name, rest)| Some((name, rest.split_once(':')?)));
    match parts {
        Some((name, (project, path))) if ![name, project, path].contains(&"") => {
            Ok(WorkloadArg { name: name.into(), project: project.into(), path: path.into() })
        }
        _ => Err("not NAME=PROJECT:/PATH, as in myapp=myproject:/myapp".into()),
    }
}

/// Parses a [`SealMode`]; its names are the possible values in the help.
fn seal_mode() -> impl TypedValueParser<Value = SealMode> {
    PossibleValuesParser::new(SealMode::NAMES).try_map(|name| name.parse::<SealMode>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_and_workload_have_three_parts() {
        let id = "6f2d1b0e-0000-4000-8000-00000000000a";
        let parsed = project(&format!("p={id}:prod")).unwrap();
        assert_eq!(
            (parsed.name.as_str(), parsed.id.as_str(), parsed.environment.as_str()),
            ("p", id, "prod")
        );
        let parsed = workload("app=p:/a:b").unwrap();
        assert_eq!(
            (parsed.name.as_str(), parsed.project.as_str(), parsed.path.as_str()),
            ("app", "p", "/a:b")
        );
        for text in ["", "p", "p=x", "=x:y", "p=:y", "p=x:"] {
            assert!(project(text).is_err() && workload(text).is_err(), "{text}");
        }
    }
}
