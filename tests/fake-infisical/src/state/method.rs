//! The login methods besides universal auth, with their settings; an empty list allows everything.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Methods {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsAuth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gcp: Option<GcpAuth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureAuth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesAuth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Bindings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oidc: Option<OidcAuth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spiffe: Option<SpiffeAuth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<TlsCertAuth>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AwsAuth {
    pub allowed_account_ids: List,
    pub allowed_principal_arns: List,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct GcpAuth {
    pub allowed_service_accounts: List,
    pub allowed_projects: List,
    pub allowed_zones: List,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AzureAuth {
    pub tenant_id: String,
    pub resource: String,
    pub allowed_service_principal_ids: List,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct KubernetesAuth {
    pub allowed_namespaces: List,
    pub allowed_names: List,
    pub allowed_audience: String,
}

/// What a token must say. An empty one binds nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Bindings {
    pub bound_issuer: String,
    pub bound_subject: String,
    /// Parted by a comma and a blank, as the server has it
    pub bound_audiences: String,
    pub bound_claims: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct OidcAuth {
    pub oidc_discovery_url: String,
    /// False: the server gets no discovery document there
    pub reachable: bool,
    pub bound_issuer: String,
    pub bound_subject: String,
    pub bound_audiences: String,
    pub bound_claims: BTreeMap<String, String>,
}

impl Default for OidcAuth {
    fn default() -> Self {
        let bound_issuer = "https://issuer.example".to_owned();
        Self {
            oidc_discovery_url: bound_issuer.clone(),
            reachable: true,
            bound_issuer,
            bound_subject: String::new(),
            bound_audiences: String::new(),
            bound_claims: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SpiffeAuth {
    pub trust_domain: String,
    pub allowed_spiffe_ids: String,
    pub allowed_audiences: String,
}

impl Default for SpiffeAuth {
    fn default() -> Self {
        Self {
            trust_domain: "example.org".to_owned(),
            allowed_spiffe_ids: "spiffe://example.org/*".to_owned(),
            allowed_audiences: "infisical".to_owned(),
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TlsCertAuth {
    /// In PEM
    pub ca_certificate: String,
    pub allowed_common_names: String,
    /// `dns:`, `uri:`, `ip:` or `email:` and a name
    pub allowed_subject_alt_names: Vec<String>,
    /// True: the CA is a trust anchor, and the client presents the intermediates
    pub verify_client_certificate_chain: bool,
}

/// A list with commas, as the server keeps it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct List(String);

impl List {
    pub fn is_empty(&self) -> bool {
        self.0.split(',').all(|item| item.trim().is_empty())
    }

    pub fn allows(&self, value: &str) -> bool {
        self.allows_by(|item| item == value)
    }

    pub fn allows_by(&self, is: impl Fn(&str) -> bool) -> bool {
        self.0.is_empty() || self.0.split(',').map(str::trim).any(is)
    }
}

/// Whether `text` matches `pattern`, in which `*` stands for any text.
pub fn is_like(text: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => text == pattern,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.is_char_boundary(at) && is_like(&rest[at..], after))
        }),
    }
}

impl Default for AzureAuth {
    fn default() -> Self {
        Self {
            tenant_id: "0e0e0e0e-0000-4000-8000-000000000001".to_owned(),
            resource: "https://management.azure.com/".to_owned(),
            allowed_service_principal_ids: List::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn star_matches_any_text() {
        for (text, pattern, like) in [
            ("abc", "abc", true),
            ("abc", "a*", true),
            ("abc", "*b*", true),
            ("abc", "a*c", true),
            ("abc", "a*b", false),
            ("abc", "", false),
            ("\u{e9}", "*", true),
        ] {
            assert_eq!(is_like(text, pattern), like, "{text} {pattern}");
        }
        let list = List("a, b".to_owned());
        assert!(list.allows("b") && !list.allows("c") && List::default().allows("c"));
    }
}
