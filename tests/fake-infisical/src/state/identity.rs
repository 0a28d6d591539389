//! A machine identity and its login methods.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::auth::lockout::{Lockout, LockoutPolicy};
use crate::clock::Millis;
use crate::state::method::Methods;

/// 30 days, the server's default for a token's life and for its renewals.
const DEFAULT_TOKEN_TTL: u64 = 2_592_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Identity {
    pub id: String,
    pub name: String,
    pub client_id: String,
    pub client_secrets: Vec<ClientSecret>,
    #[serde(rename = "accessTokenTTL")]
    pub access_token_ttl: u64,
    #[serde(rename = "accessTokenMaxTTL")]
    pub access_token_max_ttl: u64,
    pub access_token_num_uses_limit: u64,
    pub access_token_period: u64,
    pub client_secret_trusted_ips: Vec<String>,
    pub access_token_trusted_ips: Vec<String>,
    pub lockout: LockoutPolicy,
    /// False: its membership in the organisation is inactive
    pub active: bool,
    /// Besides universal auth
    pub methods: Methods,
    #[serde(skip)]
    pub attempts: Lockout,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            id: Uuid::new_v4().to_string(),
            name: "machine".to_owned(),
            client_id: Uuid::new_v4().to_string(),
            client_secrets: Vec::new(),
            access_token_ttl: DEFAULT_TOKEN_TTL,
            access_token_max_ttl: DEFAULT_TOKEN_TTL,
            access_token_num_uses_limit: 0,
            access_token_period: 0,
            client_secret_trusted_ips: everywhere(),
            access_token_trusted_ips: everywhere(),
            lockout: LockoutPolicy::default(),
            active: true,
            methods: Methods::default(),
            attempts: Lockout::default(),
        }
    }
}

impl Identity {
    pub fn settle(&mut self, now: Millis) {
        for secret in &mut self.client_secrets {
            secret.created_at = now;
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ClientSecret {
    pub id: String,
    pub secret: String,
    /// 0: for ever
    pub ttl_seconds: u64,
    /// 0: any number of logins
    pub uses_limit: u64,
    /// Expired already, regardless of `ttlSeconds`
    pub expired: bool,
    pub uses: u64,
    pub revoked: bool,
    #[serde(skip)]
    pub created_at: Millis,
}

impl Default for ClientSecret {
    fn default() -> Self {
        Self {
            id: Uuid::new_v4().to_string(),
            secret: Uuid::new_v4().to_string(),
            ttl_seconds: 0,
            uses_limit: 0,
            expired: false,
            uses: 0,
            revoked: false,
            created_at: 0,
        }
    }
}

impl ClientSecret {
    pub fn is_expired(&self, now: Millis) -> bool {
        let end = self.created_at + self.ttl_seconds * 1000;
        self.expired || (self.ttl_seconds > 0 && now > end)
    }

    pub fn is_used_up(&self) -> bool {
        self.uses_limit > 0 && self.uses >= self.uses_limit
    }
}

fn everywhere() -> Vec<String> {
    vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()]
}
