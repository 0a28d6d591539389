//! Reads a directory, one secret, and whether a directory has imports.

use std::slice;

use psi_common::{SecretBytes, SecretString};
use serde::Deserialize;

use super::url::with_query;
use super::versions::ApiVersion;
use super::{Api, DirectoryRef, secret_string};
use crate::provider::ProviderError;
use crate::provider::infisical::response::{ApiError, one_line, parse, send};

const HIDDEN: &str = "<hidden-by-infisical>";

/// The content of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider::infisical) enum View {
    /// Values, with the references in them resolved.
    Expanded,
    /// Values as written.
    Unexpanded,
    /// Names only.
    Names,
}

/// A secret of a listing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::provider::infisical) struct Secret {
    pub secret_key: String,
    #[serde(deserialize_with = "secret_string")]
    pub secret_value: SecretString,
    #[serde(default)]
    pub secret_value_hidden: bool,
    pub secret_path: Option<String>,
}

/// A directory's secrets and imports.
#[derive(Deserialize)]
pub(in crate::provider::infisical) struct DirectoryListing {
    pub secrets: Vec<Secret>,
    #[serde(default)]
    pub imports: Vec<ImportedDirectory>,
}

/// The secrets of an imported directory; of two imports with one key, the last one wins.
#[derive(Deserialize)]
pub(in crate::provider::infisical) struct ImportedDirectory {
    pub secrets: Vec<Secret>,
}

/// A request for a listing or a secret.
struct ReadRequest<'a> {
    token: &'a SecretString,
    directory: DirectoryRef<'a>,
    key: Option<&'a str>,
    view: View,
    imports: bool,
    more: (&'static str, &'static str),
}

impl Api {
    /// One secret by name, imports included.
    pub(in crate::provider::infisical) async fn secret(
        &self,
        token: &SecretString,
        directory: DirectoryRef<'_>,
        key: &str,
        view: View,
    ) -> Result<SecretBytes, ApiError> {
        #[derive(Deserialize)]
        struct Answer {
            secret: Secret,
        }
        let more = ("type", "shared");
        let request = ReadRequest { token, directory, key: Some(key), view, imports: true, more };
        Ok(parse::<Answer>(self.read(&request).await?)?.secret.value()?)
    }

    /// Every secret of a directory, imports included.
    pub(in crate::provider::infisical) async fn secrets(
        &self,
        token: &SecretString,
        directory: DirectoryRef<'_>,
        recursive: bool,
        view: View,
    ) -> Result<DirectoryListing, ApiError> {
        let more = ("recursive", if recursive { "true" } else { "false" });
        let request = ReadRequest { token, directory, key: None, view, imports: true, more };
        Ok(parse(self.read(&request).await?)?)
    }

    /// A directory's own secrets, as written.
    pub(in crate::provider::infisical) async fn own_secrets(
        &self,
        token: &SecretString,
        directory: DirectoryRef<'_>,
    ) -> Result<Vec<Secret>, ApiError> {
        let (view, more) = (View::Unexpanded, ("recursive", "false"));
        let request = ReadRequest { token, directory, key: None, view, imports: false, more };
        Ok(parse::<DirectoryListing>(self.read(&request).await?)?.secrets)
    }

    /// Whether a directory imports others. Replicated imports are not in a listing.
    pub(in crate::provider::infisical) async fn has_imports(
        &self,
        token: &SecretString,
        directory: DirectoryRef<'_>,
    ) -> Result<bool, ApiError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            secret_imports: Vec<Relation>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Relation {
            #[serde(default)]
            is_replication: bool,
        }
        let query = [
            ("projectId", directory.project_id),
            ("environment", directory.environment),
            ("path", directory.path),
        ];
        let url = with_query(&self.base, &["api", "v2", "secret-imports"], &query)?;
        let token = token.expose_secret();
        let request = self.client.get(url).bearer_auth(token);
        let body = send(request, slice::from_ref(&token)).await?;
        let relations = parse::<Answer>(body)?.secret_imports;
        Ok(relations.iter().any(|relation| !relation.is_replication))
    }

    /// Reads by version 4 of the API, or by version 3 where the server has no version 4.
    async fn read(&self, request: &ReadRequest<'_>) -> Result<Vec<u8>, ApiError> {
        self.by_version(|version| self.read_by(version, request)).await
    }

    async fn read_by(
        &self,
        version: ApiVersion,
        request: &ReadRequest<'_>,
    ) -> Result<Vec<u8>, ApiError> {
        let ReadRequest { token, directory, key, view, imports, more } = request;
        let text = |yes| if yes { "true" } else { "false" };
        let imports = text(*imports);
        let (project, route): (_, &[&str]) = match version {
            ApiVersion::V3 => ("workspaceId", &["api", "v3", "secrets", "raw"]),
            ApiVersion::V4 => ("projectId", &["api", "v4", "secrets"]),
        };
        let query = [
            (project, directory.project_id),
            ("environment", directory.environment),
            ("secretPath", directory.path),
            ("viewSecretValue", text(*view != View::Names)),
            ("expandSecretReferences", text(*view == View::Expanded)),
            ("includeImports", imports),
            ("include_imports", imports),
            *more,
        ];
        let segments = [route, key.as_slice()].concat();
        let url = with_query(&self.base, &segments, &query)?;
        let token = token.expose_secret();
        let request = self.client.get(url).bearer_auth(token);
        send(request, slice::from_ref(&token)).await
    }
}

impl Secret {
    /// The value, unless the server hides it.
    pub(in crate::provider::infisical) fn value(self) -> Result<SecretBytes, ProviderError> {
        let value = self.secret_value;
        if self.secret_value_hidden || value.expose_secret() == HIDDEN {
            return Err(ProviderError::Denied(format!(
                "Infisical hides the value of '{}': the identity may describe but not read it",
                one_line(&self.secret_key)
            )));
        }
        Ok(value.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_value_is_denied() {
        let secret = |value: &str, hidden| Secret {
            secret_key: "K".into(),
            secret_value: SecretString::new(value.into()),
            secret_value_hidden: hidden,
            secret_path: None,
        };
        assert!(matches!(secret("v", true).value(), Err(ProviderError::Denied(_))));
        assert!(matches!(
            secret("<hidden-by-infisical>", false).value(),
            Err(ProviderError::Denied(_))
        ));
        assert_eq!(secret("", false).value().unwrap().expose_secret(), b"");
    }
}
