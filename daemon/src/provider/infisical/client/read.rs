//! Reading: a directory, one secret, and which directories have imports.

use std::slice;

use psi_common::SecretBytes;
use serde::Deserialize;

use super::url::with_query;
use super::versions::Version;
use super::{Api, Folder, SecretText, text_of};
use crate::provider::infisical::response::{ApiError, answer, one_line, parse};

const HIDDEN: &[u8] = b"<hidden-by-infisical>";

/// How much of a directory a listing shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Values, with the references in them resolved.
    Expanded,
    /// Values as they were written.
    Unexpanded,
    /// Names alone.
    Names,
}

/// A secret of a listing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    pub secret_key: String,
    pub secret_value: SecretText,
    #[serde(default)]
    pub secret_value_hidden: bool,
    pub secret_path: Option<String>,
}

/// A folder's secrets, and what it imports.
#[derive(Deserialize)]
pub struct Listing {
    pub secrets: Vec<Secret>,
    #[serde(default)]
    pub imports: Vec<Import>,
}

/// The secrets of an imported folder; of two imports with one key, the last one wins.
#[derive(Deserialize)]
pub struct Import {
    pub secrets: Vec<Secret>,
}

/// One reading call.
struct Call<'a> {
    token: &'a SecretBytes,
    folder: Folder<'a>,
    key: Option<&'a str>,
    view: View,
    imports: bool,
    more: (&'static str, &'static str),
}

impl Api {
    /// One secret by name, imports included.
    pub async fn secret(
        &self,
        token: &SecretBytes,
        folder: Folder<'_>,
        key: &str,
        view: View,
    ) -> Result<SecretBytes, ApiError> {
        #[derive(Deserialize)]
        struct Answer {
            secret: Secret,
        }
        let more = ("type", "shared");
        let call = Call { token, folder, key: Some(key), view, imports: true, more };
        parse::<Answer>(self.read(&call).await?)?.secret.value()
    }

    /// Every secret of a folder, imports included.
    pub async fn secrets(
        &self,
        token: &SecretBytes,
        folder: Folder<'_>,
        recursive: bool,
        view: View,
    ) -> Result<Listing, ApiError> {
        let more = ("recursive", if recursive { "true" } else { "false" });
        let call = Call { token, folder, key: None, view, imports: true, more };
        parse(self.read(&call).await?)
    }

    /// A folder's own secrets, as they were written.
    pub async fn own_secrets(
        &self,
        token: &SecretBytes,
        folder: Folder<'_>,
    ) -> Result<Vec<Secret>, ApiError> {
        let (view, more) = (View::Unexpanded, ("recursive", "false"));
        let call = Call { token, folder, key: None, view, imports: false, more };
        Ok(parse::<Listing>(self.read(&call).await?)?.secrets)
    }

    /// Whether a folder imports others. Replicated ones are no part of a listing.
    pub async fn has_imports(
        &self,
        token: &SecretBytes,
        folder: Folder<'_>,
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
            ("projectId", folder.project_id),
            ("environment", folder.environment),
            ("path", folder.path),
        ];
        let url = with_query(&self.base, &["api", "v2", "secret-imports"], &query)?;
        let request = self.client.get(url).bearer_auth(text_of(token));
        let body = answer(request, slice::from_ref(token)).await?;
        let relations = parse::<Answer>(body)?.secret_imports;
        Ok(relations.iter().any(|relation| !relation.is_replication))
    }

    /// Reads by v4, and by v3 from servers that have no v4.
    async fn read(&self, call: &Call<'_>) -> Result<Vec<u8>, ApiError> {
        self.by_version(|version| self.read_by(version, call)).await
    }

    async fn read_by(&self, version: Version, call: &Call<'_>) -> Result<Vec<u8>, ApiError> {
        let Call { token, folder, key, view, imports, more } = call;
        let text = |yes| if yes { "true" } else { "false" };
        let imports = text(*imports);
        let (project, route): (_, &[&str]) = match version {
            Version::V3 => ("workspaceId", &["api", "v3", "secrets", "raw"]),
            Version::V4 => ("projectId", &["api", "v4", "secrets"]),
        };
        let query = [
            (project, folder.project_id),
            ("environment", folder.environment),
            ("secretPath", folder.path),
            ("viewSecretValue", text(*view != View::Names)),
            ("expandSecretReferences", text(*view == View::Expanded)),
            ("includeImports", imports),
            ("include_imports", imports),
            *more,
        ];
        let segments = [route, key.as_slice()].concat();
        let url = with_query(&self.base, &segments, &query)?;
        let request = self.client.get(url).bearer_auth(text_of(token));
        answer(request, slice::from_ref(token)).await
    }
}

impl Secret {
    /// The value, unless the server hides it.
    pub fn value(self) -> Result<SecretBytes, ApiError> {
        let value = self.secret_value.0;
        if self.secret_value_hidden || value.expose_secret() == HIDDEN {
            return Err(ApiError::Denied(format!(
                "Infisical hides the value of '{}': the identity may describe but not read it",
                one_line(&self.secret_key)
            )));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_value_is_refused() {
        let secret = |value: &str, hidden| Secret {
            secret_key: "K".into(),
            secret_value: SecretText(SecretBytes::new(value.into())),
            secret_value_hidden: hidden,
            secret_path: None,
        };
        assert!(matches!(secret("v", true).value(), Err(ApiError::Denied(_))));
        assert!(matches!(secret("<hidden-by-infisical>", false).value(), Err(ApiError::Denied(_))));
        assert_eq!(secret("", false).value().unwrap().expose_secret(), b"");
    }
}
