//! The known routes. Any other one gets Fastify's bare 404.

use serde::{Deserialize, Serialize};

use crate::dialect::{Api, Dialect};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Status,
    Login(LoginMethod),
    Renew,
    Revoke,
    ListSecrets(Api),
    GetSecret(Api, String),
    CreateSecret(Api, String),
    UpdateSecret(Api, String),
    DeleteSecret(Api, String),
    CreateBatch(Api),
    UpdateBatch(Api),
    DeleteBatch(Api),
    ListFolders(FolderApi),
    CreateFolder(FolderApi),
    ListImports(FolderApi),
    CreateImport(FolderApi),
}

/// A route's name, by which rules match and rate limits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Route {
    Status,
    Login,
    Renew,
    Revoke,
    List,
    Get,
    Write,
    Batch,
    Folders,
    CreateFolder,
    Imports,
    CreateImport,
}

/// `v1` has `workspaceId` and fewer fields; the Node SDK still uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FolderApi {
    V1,
    V2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoginMethod {
    Universal,
    Aws,
    Gcp,
    Azure,
    Kubernetes,
    Jwt,
    Oidc,
    Spiffe,
    TlsCert,
}

impl LoginMethod {
    pub const ALL: [Self; 9] = [
        Self::Universal,
        Self::Aws,
        Self::Gcp,
        Self::Azure,
        Self::Kubernetes,
        Self::Jwt,
        Self::Oidc,
        Self::Spiffe,
        Self::TlsCert,
    ];

    /// The spelling in the route and the token.
    pub fn name(self) -> &'static str {
        match self {
            Self::Universal => "universal-auth",
            Self::Aws => "aws-auth",
            Self::Gcp => "gcp-auth",
            Self::Azure => "azure-auth",
            Self::Kubernetes => "kubernetes-auth",
            Self::Jwt => "jwt-auth",
            Self::Oidc => "oidc-auth",
            Self::Spiffe => "spiffe-auth",
            Self::TlsCert => "tls-cert-auth",
        }
    }
}

/// The sizes of the rate limiter's windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    Read,
    Write,
    Secret,
}

impl Endpoint {
    pub fn route(&self) -> Route {
        match self {
            Self::Status => Route::Status,
            Self::Login(_) => Route::Login,
            Self::Renew => Route::Renew,
            Self::Revoke => Route::Revoke,
            Self::ListSecrets(_) => Route::List,
            Self::GetSecret(..) => Route::Get,
            Self::CreateSecret(..) | Self::UpdateSecret(..) | Self::DeleteSecret(..) => {
                Route::Write
            }
            Self::CreateBatch(_) | Self::UpdateBatch(_) | Self::DeleteBatch(_) => Route::Batch,
            Self::ListFolders(_) => Route::Folders,
            Self::CreateFolder(_) => Route::CreateFolder,
            Self::ListImports(_) => Route::Imports,
            Self::CreateImport(_) => Route::CreateImport,
        }
    }

    /// `None` if the server has no limit.
    pub fn category(&self) -> Option<Category> {
        match self.route() {
            Route::Status => None,
            Route::Folders | Route::Imports => Some(Category::Read),
            Route::Login | Route::Renew | Route::Revoke => Some(Category::Write),
            _ => Some(Category::Secret),
        }
    }

    /// The route's pattern, independent of the secret in the path.
    pub fn pattern(&self) -> Self {
        let mut pattern = self.clone();
        if let Self::GetSecret(_, key)
        | Self::CreateSecret(_, key)
        | Self::UpdateSecret(_, key)
        | Self::DeleteSecret(_, key) = &mut pattern
        {
            key.clear();
        }
        pattern
    }

    /// The secret in the path, if there is one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::GetSecret(_, key)
            | Self::CreateSecret(_, key)
            | Self::UpdateSecret(_, key)
            | Self::DeleteSecret(_, key) => Some(key),
            _ => None,
        }
    }
}

pub fn resolve(method: &str, segments: &[&str], dialect: Dialect) -> Option<Endpoint> {
    let segments = segments.strip_prefix(&["api"])?;
    match (method, segments) {
        ("GET", ["status"]) => Some(Endpoint::Status),
        ("POST", ["v1", "auth", "token", "renew"]) => Some(Endpoint::Renew),
        ("POST", ["v1", "auth", "token", "revoke"]) => Some(Endpoint::Revoke),
        ("POST", ["v1", "auth", method, "login"]) => {
            LoginMethod::ALL.into_iter().find(|known| known.name() == *method).map(Endpoint::Login)
        }
        ("GET", ["v1", "folders"]) => Some(Endpoint::ListFolders(FolderApi::V1)),
        ("POST", ["v1", "folders"]) => Some(Endpoint::CreateFolder(FolderApi::V1)),
        // These have `projectId`, as v4 does, and are assumed to have come with it.
        ("GET", ["v2", "folders"]) if dialect.has_v4() => {
            Some(Endpoint::ListFolders(FolderApi::V2))
        }
        ("POST", ["v2", "folders"]) if dialect.has_v4() => {
            Some(Endpoint::CreateFolder(FolderApi::V2))
        }
        ("GET", ["v1", "secret-imports"]) => Some(Endpoint::ListImports(FolderApi::V1)),
        ("POST", ["v1", "secret-imports"]) => Some(Endpoint::CreateImport(FolderApi::V1)),
        ("GET", ["v2", "secret-imports"]) if dialect.has_v4() => {
            Some(Endpoint::ListImports(FolderApi::V2))
        }
        ("POST", ["v2", "secret-imports"]) if dialect.has_v4() => {
            Some(Endpoint::CreateImport(FolderApi::V2))
        }
        (_, ["v3", "secrets", "batch", "raw"]) => batch(method, Api::V3),
        (_, ["v3", "secrets", "raw", rest @ ..]) => secrets(method, rest, Api::V3),
        (_, ["v4", "secrets", "batch"]) if dialect.has_v4() && method != "GET" => {
            batch(method, Api::V4)
        }
        (_, ["v4", "secrets", rest @ ..]) if dialect.has_v4() => secrets(method, rest, Api::V4),
        _ => None,
    }
}

/// v4's `batch` is a static route for writes, so it shadows a secret of that name. v3 has it
/// elsewhere: `raw/batch` is the secret "batch" there.
fn batch(method: &str, api: Api) -> Option<Endpoint> {
    match method {
        "POST" => Some(Endpoint::CreateBatch(api)),
        "PATCH" => Some(Endpoint::UpdateBatch(api)),
        "DELETE" => Some(Endpoint::DeleteBatch(api)),
        _ => None,
    }
}

fn secrets(method: &str, rest: &[&str], api: Api) -> Option<Endpoint> {
    match (method, rest) {
        ("GET", []) => Some(Endpoint::ListSecrets(api)),
        // A static route of the server's that the fake does not offer
        ("POST", ["move"]) => None,
        ("GET", [name]) => Some(Endpoint::GetSecret(api, (*name).to_owned())),
        ("POST", [name]) => Some(Endpoint::CreateSecret(api, (*name).to_owned())),
        ("PATCH", [name]) => Some(Endpoint::UpdateSecret(api, (*name).to_owned())),
        ("DELETE", [name]) => Some(Endpoint::DeleteSecret(api, (*name).to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v4_routes_depend_on_the_dialect_and_batch_is_not_a_name() {
        let list = ["api", "v4", "secrets"];
        let listed = Some(Endpoint::ListSecrets(Api::V4));
        assert_eq!(resolve("GET", &list, Dialect::V4First), listed);
        assert_eq!(resolve("GET", &list, Dialect::V3Only), None);
        let batch = ["api", "v3", "secrets", "batch", "raw"];
        assert_eq!(resolve("POST", &batch, Dialect::V3Only), Some(Endpoint::CreateBatch(Api::V3)));
        let name = ["api", "v3", "secrets", "raw", "batch"];
        assert_eq!(
            resolve("PATCH", &name, Dialect::V3Only),
            Some(Endpoint::UpdateSecret(Api::V3, "batch".to_owned()))
        );
        let v4 = ["api", "v4", "secrets", "batch"];
        assert_eq!(resolve("PATCH", &v4, Dialect::V4First), Some(Endpoint::UpdateBatch(Api::V4)));
        assert_eq!(
            resolve("GET", &v4, Dialect::V4First),
            Some(Endpoint::GetSecret(Api::V4, "batch".to_owned()))
        );
        assert_eq!(resolve("GET", &["metrics"], Dialect::V4Current), None);
    }
}
