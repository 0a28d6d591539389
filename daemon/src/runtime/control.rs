//! The runtime as `grpc` calls it.

use std::sync::Arc;

use async_trait::async_trait;
use psi_common::{Problem, SecretBytes};
use tokio::sync::watch;

use super::Runtime;
use super::build::{is_token_configured, seal_to_token};
use crate::crypto::recovery_key::RecoveryKey;
use crate::grpc::control::{CacheFileReport, Control, Degradation, TokenReport};
use crate::keys::SealOptions;
use crate::keys::pkcs11::Token;
use crate::lookup::{OutageReport, SelfTestContext, Service, ServiceError};
use crate::model::clock::Now;
use crate::refresh::{Progress, RefreshScope, Summary, Totals};
use crate::trail::Trail;

#[async_trait]
impl Control for Runtime {
    fn service(&self) -> &Arc<Service> {
        &self.service
    }

    fn trail(&self) -> &Arc<Trail> {
        &self.trail
    }

    fn start_refresh(&self, scope: RefreshScope, now: Now) -> watch::Receiver<Progress> {
        self.refresher.start(scope, now)
    }

    fn refreshes(&self) -> (Option<Summary>, Totals) {
        (self.refresher.last(), self.refresher.totals())
    }

    fn cache_file(&self) -> CacheFileReport {
        let written = self.persister().map(|persister| persister.state()).unwrap_or_default();
        CacheFileReport {
            backend: self.backend.as_ref().map(|backend| backend.tag()),
            key_bound_to: self.backend.as_ref().and_then(|backend| backend.bound_to()),
            path: self.cache_path.clone(),
            generation: written.generation,
            write_errors: written.errors,
            has_recovery_key: self.recovery_path().exists(),
        }
    }

    async fn write_cache(&self) -> Result<(), Problem> {
        let Some(persister) = self.persister() else { return Ok(()) };
        if persister.write().await {
            return Ok(());
        }
        let why = persister.state().error.unwrap_or_default();
        Err(Problem::new(why, "psid keeps trying, see `psictl cache status`"))
    }

    async fn verify_cache(&self) -> Result<String, Problem> {
        match self.persister() {
            Some(persister) => persister.verify().await,
            None => Err(Problem::new(
                "there is no key to open the cache with",
                "see `psictl cache status`",
            )),
        }
    }

    fn degradations(&self) -> Vec<Degradation> {
        self.degraded()
    }

    async fn outage_report(&self, now: Now) -> OutageReport {
        Self::outage_report(self, now).await
    }

    fn self_test_context(&self) -> SelfTestContext {
        Self::self_test_context(self)
    }

    async fn rekey(&self, seal: Option<SealOptions>) -> Result<(), Problem> {
        Self::rekey(self, seal.as_ref()).await
    }

    async fn recover_key(
        &self,
        recovery: RecoveryKey,
        seal: Option<SealOptions>,
    ) -> Result<(), Problem> {
        Self::recover_key(self, &recovery, seal.as_ref()).await
    }

    async fn make_recovery_key(&self) -> Result<RecoveryKey, Problem> {
        Self::make_recovery_key(self).await
    }

    async fn seal(&self, secret: &SecretBytes) -> Result<String, ServiceError> {
        seal_to_token(self.configured_token()?, secret).await
    }

    async fn token(&self) -> Result<TokenReport, ServiceError> {
        let token = self.configured_token()?;
        let described = token.describe().await;
        Ok(TokenReport { state: token.state(), described })
    }
}

impl Runtime {
    /// The token, if the current config names one: a token stays open when a reload removes it.
    fn configured_token(&self) -> Result<Token, ServiceError> {
        let token = Self::token(self).filter(|_| is_token_configured(&self.service));
        token.ok_or_else(|| {
            ServiceError::NoKey(
                "the config has no [providers.pkcs11]; add it, see psi.toml(5), and run `systemctl reload psid`"
                    .into(),
            )
        })
    }
}
