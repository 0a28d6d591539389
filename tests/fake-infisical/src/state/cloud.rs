//! The clouds around a machine, all of them at once.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Cloud {
    pub aws: Aws,
    pub gcp: Gcp,
    pub azure: Azure,
    pub tokens: Tokens,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Aws {
    /// False: the instance's metadata service is turned off
    pub enabled: bool,
    pub region: String,
    /// None: the instance has no role
    pub role: Option<String>,
    /// The metadata service's status of the role's credentials
    pub code: String,
    pub account: String,
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: String,
    /// STS rejects the credentials
    pub revoked: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Gcp {
    /// None: the machine has none
    pub service_account: Option<String>,
    pub project: String,
    pub zone: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Azure {
    pub tenant: String,
    pub identities: Vec<ManagedIdentity>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManagedIdentity {
    pub client_id: String,
    pub object_id: String,
}

/// The common settings of Google's and Azure's tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Tokens {
    /// Negative: expired from the beginning
    pub lifetime_seconds: i64,
    /// Signed by another key
    pub forged: bool,
}

impl Default for Aws {
    fn default() -> Self {
        Self {
            enabled: true,
            region: "eu-central-1".to_owned(),
            role: Some("host-role".to_owned()),
            code: "Success".to_owned(),
            account: "123456789012".to_owned(),
            access_key_id: "ASIADOUBLEEXAMPLE000".to_owned(),
            secret_access_key: "the+secret/access+key+of+the+role+at+the+fake".to_owned(),
            session_token: "FwoGZXIvYXdzEDouble/session+token/of+the+role//////////wEaDA=="
                .to_owned(),
            revoked: false,
        }
    }
}

impl Default for Gcp {
    fn default() -> Self {
        Self {
            service_account: Some("host@my-project.iam.gserviceaccount.com".to_owned()),
            project: "my-project".to_owned(),
            zone: "europe-west3-a".to_owned(),
        }
    }
}

impl Default for Azure {
    fn default() -> Self {
        let identity = ManagedIdentity {
            client_id: "0c0c0c0c-0000-4000-8000-000000000001".to_owned(),
            object_id: "0d0d0d0d-0000-4000-8000-000000000001".to_owned(),
        };
        Self {
            tenant: "0e0e0e0e-0000-4000-8000-000000000001".to_owned(),
            identities: vec![identity],
        }
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self { lifetime_seconds: 3600, forged: false }
    }
}
