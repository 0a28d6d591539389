//! `psid check --online`: the same check as `psictl login` makes through a running psid, without one.

use psi_common::{OnlineReport, Problem};

use super::CheckOptions;
use crate::config::{AuthConfig, Config};
use crate::keys::pkcs11::{Token, TokenConfig};
use crate::model::clock;
use crate::runtime::build::{self, Environment};
use crate::workloads::{LoginCheckOptions, check_logins};

/// Logs in and lists, then logs out.
pub(super) async fn check(
    config: &Config,
    environment: &Environment,
    options: &CheckOptions,
) -> Result<OnlineReport, Problem> {
    if environment.given_secret.is_some() {
        one_secret(config)?;
    }
    // It may sign a login.
    let token = build::token_config(config, environment);
    let token = token.map(|token| Token::new(TokenConfig { retry: options.retry, ..token }));
    let (upstreams, _) = build::upstreams(config, environment, token);
    if let Some(name) = &options.provider
        && !upstreams.providers.contains_key(name)
    {
        let what = format!("the config has no [providers.{name}] with logins");
        return Err(Problem::new(what, "leave the name out"));
    }
    let wanted = LoginCheckOptions { provider: options.provider.as_deref(), retry: options.retry };
    let report = check_logins(&upstreams, wanted, clock::now()).await;
    for upstream in upstreams.providers.values() {
        upstream.provider.close().await;
    }
    if report.servers.is_empty() {
        let what = "the config has no provider with logins";
        return Err(Problem::new(what, "add [providers.infisical]"));
    }
    Ok(report)
}

/// One secret cannot be that of several identities.
fn one_secret(config: &Config) -> Result<(), Problem> {
    let mut identities: Vec<&AuthConfig> = Vec::new();
    for auth in config.logins() {
        if auth.secret().is_some() && !identities.contains(&auth) {
            identities.push(auth);
        }
    }
    match identities.len() {
        1 => Ok(()),
        count => Err(Problem::new(
            format!(
                "--secret-fd gives the secret of one identity, and the config has {count} with a secret"
            ),
            "leave it out",
        )),
    }
}
