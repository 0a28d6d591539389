//! Writing: secrets in batches, and folders.

use std::slice;

use psi_common::SecretBytes;
use reqwest::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::versions::Version;
use super::{Api, Folder, below, text_of};
use crate::provider::infisical::response::{ApiError, answer, parse};

impl Api {
    /// Writes secrets into a folder by one request, which the server does whole or not at all.
    pub async fn write(
        &self,
        token: &SecretBytes,
        folder: Folder<'_>,
        method: &Method,
        secrets: &Value,
    ) -> Result<(), ApiError> {
        #[derive(Deserialize)]
        struct Answer {
            secrets: Option<IgnoredAny>,
        }
        let sent = &quotable_by_nobody(token, secrets);
        let write = |version| async move {
            // In v3, /raw/batch is the secret whose name is "batch".
            let (project, route): (_, &[&str]) = match version {
                Version::V3 => ("workspaceId", &["api", "v3", "secrets", "batch", "raw"]),
                Version::V4 => ("projectId", &["api", "v4", "secrets", "batch"]),
            };
            let body = json!({
                (project): folder.project_id,
                "environment": folder.environment,
                "secretPath": folder.path,
                "secrets": secrets,
            });
            let request = self.client.request(method.clone(), below(&self.base, route)?);
            answer(request.bearer_auth(text_of(token)).json(&body), sent).await
        };
        match parse::<Answer>(self.by_version(write).await?)?.secrets {
            Some(_) => Ok(()),
            None => Err(ApiError::Denied(
                "Infisical did not write it: a policy of the folder wants it approved first".into(),
            )),
        }
    }

    /// Makes the folder `name` in a folder; one that is there is no error. By v1 from servers of v3.
    pub async fn make_folder(
        &self,
        token: &SecretBytes,
        parent: Folder<'_>,
        name: &str,
    ) -> Result<(), ApiError> {
        let make = |v1| async move {
            let url = below(&self.base, &["api", if v1 { "v1" } else { "v2" }, "folders"])?;
            let body = json!({
                (if v1 { "workspaceId" } else { "projectId" }): parent.project_id,
                "environment": parent.environment,
                "path": parent.path,
                "name": name,
            });
            let request = self.client.post(url).bearer_auth(text_of(token)).json(&body);
            answer(request, slice::from_ref(token)).await
        };
        let made = match make(false).await {
            Err(ApiError::NoRoute) => make(true).await,
            made => made,
        };
        match made {
            Err(ApiError::ClientBug(why)) if why.contains("already exists") => Ok(()),
            made => made.map(|_| ()),
        }
    }
}

/// What no error may quote: the token, and each value that no other word is likely to hold.
fn quotable_by_nobody(token: &SecretBytes, secrets: &Value) -> Vec<SecretBytes> {
    let values = secrets.as_array().into_iter().flatten();
    let values = values.filter_map(|secret| secret["secretValue"].as_str());
    let values = values.filter(|value| value.len() >= 6).map(|value| value.as_bytes().to_vec());
    std::iter::once(token.expose_secret().to_vec()).chain(values).map(SecretBytes::new).collect()
}
