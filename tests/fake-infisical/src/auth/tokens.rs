//! The server's state of tokens beyond their claims: revocations and uses.

use std::collections::{HashMap, HashSet};

use super::jwt::Claims;

/// Revocations of an identity or of a client secret apply to tokens issued before them. They are
/// ordered by a counter, not by the seconds of `iat`: a test revokes and logs in within one. A
/// token of another process counts as the oldest.
#[derive(Default)]
pub struct TokenLedger {
    counter: u64,
    issued: HashMap<String, u64>,
    revoked: HashSet<String>,
    revoked_identities: HashMap<String, u64>,
    revoked_client_secrets: HashMap<String, u64>,
    uses_left: HashMap<String, u64>,
}

/// The revocation that applies to a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    Token,
    Identity,
    ClientSecret,
}

impl TokenLedger {
    pub fn issue(&mut self, claims: &Claims) {
        self.counter += 1;
        self.issued.insert(claims.jti.clone(), self.counter);
        if let Some(limit) = claims.num_uses_limit {
            self.uses_left.insert(claims.jti.clone(), limit);
        }
    }

    pub fn revoke_token(&mut self, jti: &str) {
        self.revoked.insert(jti.to_owned());
    }

    pub fn revoke_identity(&mut self, identity: &str) {
        self.revoked_identities.insert(identity.to_owned(), self.counter);
    }

    pub fn revoke_client_secret(&mut self, client_secret: &str) {
        self.revoked_client_secrets.insert(client_secret.to_owned(), self.counter);
    }

    pub fn revocation(&self, claims: &Claims) -> Option<Revoked> {
        let born = self.issued.get(&claims.jti).copied().unwrap_or(0);
        let struck = |marker: Option<&u64>| marker.is_some_and(|at| born <= *at);
        if self.revoked.contains(&claims.jti) {
            Some(Revoked::Token)
        } else if struck(self.revoked_identities.get(&claims.identity_id)) {
            Some(Revoked::Identity)
        } else if struck(self.revoked_client_secrets.get(&claims.client_secret_id)) {
            Some(Revoked::ClientSecret)
        } else {
            None
        }
    }

    pub fn is_used_up(&self, claims: &Claims) -> bool {
        self.uses_left.get(&claims.jti) == Some(&0)
    }

    /// Counts one use. A counter lost in a restart starts again, as with a flushed Redis.
    pub fn spend(&mut self, claims: &Claims) {
        if let Some(limit) = claims.num_uses_limit {
            let left = self.uses_left.entry(claims.jti.clone()).or_insert(limit);
            *left = left.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::jwt::tests::claims;

    fn token(jti: &str) -> Claims {
        Claims { jti: jti.to_owned(), ..claims() }
    }

    #[test]
    fn revocation_affects_only_earlier_tokens() {
        let mut ledger = TokenLedger::default();
        ledger.issue(&token("early"));
        ledger.revoke_identity("i");
        ledger.issue(&token("late"));
        assert_eq!(ledger.revocation(&token("early")), Some(Revoked::Identity));
        assert_eq!(ledger.revocation(&token("foreign")), Some(Revoked::Identity));
        assert_eq!(ledger.revocation(&token("late")), None);
        ledger.revoke_client_secret("c");
        assert_eq!(ledger.revocation(&token("late")), Some(Revoked::ClientSecret));
    }

    #[test]
    fn token_ends_after_its_number_of_uses() {
        let mut ledger = TokenLedger::default();
        let limited = Claims { num_uses_limit: Some(2), ..token("t") };
        ledger.issue(&limited);
        ledger.spend(&limited);
        assert!(!ledger.is_used_up(&limited));
        ledger.spend(&limited);
        assert!(ledger.is_used_up(&limited));
    }
}
