//! The routes that exist. Whatever is not here gets Fastify's bare 404.

use crate::dialect::{Api, Dialect};

#[derive(Clone, Debug, PartialEq, Eq)]
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
}

/// `v1` says `workspaceId` and answers less; the Node SDK still speaks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderApi {
    V1,
    V2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginMethod {
    Universal,
    Aws,
    Gcp,
    Azure,
    Kubernetes,
}

impl LoginMethod {
    pub const ALL: [Self; 5] =
        [Self::Universal, Self::Aws, Self::Gcp, Self::Azure, Self::Kubernetes];

    /// As the route and the token have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Universal => "universal-auth",
            Self::Aws => "aws-auth",
            Self::Gcp => "gcp-auth",
            Self::Azure => "azure-auth",
            Self::Kubernetes => "kubernetes-auth",
        }
    }
}

/// The buckets of the rate limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    Read,
    Write,
    Secret,
}

impl Endpoint {
    pub fn category(&self) -> Category {
        match self {
            Self::Status | Self::ListFolders(_) => Category::Read,
            Self::Login(_) | Self::Renew | Self::Revoke => Category::Write,
            _ => Category::Secret,
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
        // They say `projectId`, as v4 does, and are taken to have come with it.
        ("GET", ["v2", "folders"]) if dialect.has_v4() => {
            Some(Endpoint::ListFolders(FolderApi::V2))
        }
        ("POST", ["v2", "folders"]) if dialect.has_v4() => {
            Some(Endpoint::CreateFolder(FolderApi::V2))
        }
        (_, ["v3", "secrets", "raw", rest @ ..]) => secrets(method, rest, Api::V3),
        (_, ["v4", "secrets", rest @ ..]) if dialect.has_v4() => secrets(method, rest, Api::V4),
        _ => None,
    }
}

/// `batch` is a static route where it exists, so it shadows a secret of that name.
fn secrets(method: &str, rest: &[&str], api: Api) -> Option<Endpoint> {
    match (method, rest) {
        ("GET", []) => Some(Endpoint::ListSecrets(api)),
        ("POST", ["batch"]) => Some(Endpoint::CreateBatch(api)),
        ("PATCH", ["batch"]) => Some(Endpoint::UpdateBatch(api)),
        ("DELETE", ["batch"]) => Some(Endpoint::DeleteBatch(api)),
        // A static route of the server's that the double does not offer
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
    fn v4_depends_on_the_dialect_and_batch_is_no_name() {
        let list = ["api", "v4", "secrets"];
        let listed = Some(Endpoint::ListSecrets(Api::V4));
        assert_eq!(resolve("GET", &list, Dialect::V4First), listed);
        assert_eq!(resolve("GET", &list, Dialect::V3Only), None);
        let batch = ["api", "v3", "secrets", "raw", "batch"];
        assert_eq!(resolve("POST", &batch, Dialect::V3Only), Some(Endpoint::CreateBatch(Api::V3)));
        assert_eq!(
            resolve("GET", &batch, Dialect::V3Only),
            Some(Endpoint::GetSecret(Api::V3, "batch".to_owned()))
        );
        assert_eq!(resolve("GET", &["metrics"], Dialect::V4Current), None);
    }
}
