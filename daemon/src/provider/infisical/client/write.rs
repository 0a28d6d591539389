//! Writes secrets in batches, and makes directories.

use std::slice;

use psi_common::SecretString;
use reqwest::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::versions::ApiVersion;
use super::{Api, DirectoryRef, below};
use crate::provider::ProviderError;
use crate::provider::infisical::response::{ApiError, parse, send};

impl Api {
    /// Writes secrets into a directory by one request, which the server executes whole or not at all.
    pub(in crate::provider::infisical) async fn write(
        &self,
        token: &SecretString,
        directory: DirectoryRef<'_>,
        method: &Method,
        secrets: &Value,
    ) -> Result<(), ApiError> {
        #[derive(Deserialize)]
        struct Answer {
            secrets: Option<IgnoredAny>,
        }
        let sent = &unquotable(token, secrets);
        let write = |version| async move {
            // In v3, /raw/batch is the secret whose name is "batch".
            let (project, route): (_, &[&str]) = match version {
                ApiVersion::V3 => ("workspaceId", &["api", "v3", "secrets", "batch", "raw"]),
                ApiVersion::V4 => ("projectId", &["api", "v4", "secrets", "batch"]),
            };
            let body = json!({
                (project): directory.project_id,
                "environment": directory.environment,
                "secretPath": directory.path,
                "secrets": secrets,
            });
            let request = self.client.request(method.clone(), below(&self.base, route)?);
            send(request.bearer_auth(token.expose_secret()).json(&body), sent).await
        };
        match parse::<Answer>(self.by_version(write).await?)?.secrets {
            Some(_) => Ok(()),
            None => Err(ApiError::Provider(ProviderError::Denied(
                "Infisical did not write it, because a policy of the directory requires an approval"
                    .into(),
            ))),
        }
    }

    /// Makes the directory `name` in `parent`; it may exist already. Servers of version 3 have route v1 for it.
    pub(in crate::provider::infisical) async fn make_directory(
        &self,
        token: &SecretString,
        parent: DirectoryRef<'_>,
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
            let token = token.expose_secret();
            let request = self.client.post(url).bearer_auth(token).json(&body);
            send(request, slice::from_ref(&token)).await
        };
        let made = match make(false).await {
            Err(ApiError::NoRoute) => make(true).await,
            made => made,
        };
        match made {
            Err(ApiError::Provider(ProviderError::Misbehaved(why)))
                if why.contains("already exists") =>
            {
                Ok(())
            }
            made => made.map(|_| ()),
        }
    }
}

/// The texts that no error may quote: the token, and each value that is too long to occur by chance.
fn unquotable<'a>(token: &'a SecretString, secrets: &'a Value) -> Vec<&'a str> {
    let values = secrets.as_array().into_iter().flatten();
    let values = values.filter_map(|secret| secret["secretValue"].as_str());
    std::iter::once(token.expose_secret()).chain(values.filter(|value| value.len() >= 6)).collect()
}
