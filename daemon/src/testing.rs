//! The items of this crate for tests, fuzz targets and benchmarks. psid itself does not use this module.

/// `cache`.
pub mod cache {
    pub use crate::cache::{BootId, Cache, FetchEpoch, Policy, ReconcileOptions, Snapshot};
}
/// `config`.
pub mod config {
    pub use crate::config::{Config, ConfigError};
}
/// `crypto`.
pub mod crypto {
    /// `crypto::aead`.
    pub mod aead {
        pub use crate::crypto::aead::{Aead, DataKey};
    }
    /// `crypto::envelope`.
    pub mod envelope {
        pub use crate::crypto::envelope::{AadContext, Envelope, EnvelopeError, WrappedKeyHeader};
    }
    /// `crypto::keyring`.
    pub mod keyring {
        pub use crate::crypto::keyring::Keyring;
    }
    /// `crypto::hybrid`.
    pub mod hybrid {
        pub use crate::crypto::hybrid::Hybrid;
    }
    /// `crypto::recovery_key`.
    pub mod recovery_key {
        pub use crate::crypto::recovery_key::*;
    }
}
/// `grpc`.
pub mod grpc {
    pub use crate::grpc::*;
}
/// `keys`.
pub mod keys {
    pub use crate::keys::{HsmKey, KeyBackend, KeyError, LoadedKey, SealWith, TpmKey};
    /// `keys::credential`.
    pub mod credential {
        pub use crate::keys::credential::*;
    }
    /// `keys::pkcs11`.
    pub mod pkcs11 {
        pub use crate::keys::pkcs11::{
            KeyChoice, PinSource, Token, TokenChoice, TokenConfig, TokenError, TokenState,
        };
    }
}
/// `legacy`.
pub mod legacy {
    pub use crate::legacy::*;
    /// `legacy::mapping`.
    pub mod mapping {
        pub use crate::legacy::mapping::*;
    }
}
/// `lookup`.
pub mod lookup {
    pub use crate::lookup::{DataKind, SecretSelector, Service, ServiceError};
}
/// `model`.
pub mod model {
    /// `model::clock`.
    pub mod clock {
        pub use crate::model::clock::*;
    }
    /// `model::principal`.
    pub mod principal {
        pub use crate::model::principal::*;
    }
    /// `model::reference`.
    pub mod reference {
        pub use crate::model::reference::{CacheKey, Listing, ListingScope, Namespace, Reference};
    }
}
/// `provider`.
pub mod provider {
    pub use crate::provider::{
        CredentialExpiry, Fetched, InvalidReference, Listed, Persistence, ProviderError,
        SecretProvider, SecretWriter, Source,
    };
    /// `provider::infisical`.
    pub mod infisical {
        pub use crate::provider::infisical::{
            AwsIam, Azure, Gcp, Infisical, Method, Project, SecretSource, UniversalAuth,
            token_source,
        };
    }
    /// `provider::pkcs11_sealed`.
    pub mod pkcs11_sealed {
        pub use crate::provider::pkcs11_sealed::Pkcs11Sealed;
    }
    /// `provider::upstream`.
    pub mod upstream {
        pub use crate::provider::upstream::{Upstream, Upstreams};
    }
}
/// `registry`.
pub mod registry {
    pub use crate::registry::{Keys, Registered, Registry};
    /// `registry::reference_file`.
    pub mod reference_file {
        pub use crate::registry::reference_file::*;
    }
}
/// `runtime`.
pub mod runtime {
    /// `runtime::build`.
    pub mod build {
        pub use crate::runtime::build::*;
    }
    /// `runtime::listener`.
    pub mod listener {
        pub use crate::runtime::listener::*;
    }
}
/// `storage`.
pub mod storage {
    /// `storage::payload`.
    pub mod payload {
        pub use crate::storage::payload::*;
    }
    /// `storage::failed_logins`.
    pub mod failed_logins {
        pub use crate::storage::failed_logins::FailedLogins;
    }
}
