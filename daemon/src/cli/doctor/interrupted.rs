//! What an interrupted `psictl cache init` or `psictl cache rekey` leaves behind.

use psi_common::{BackendTag, Finding};

use crate::config::Config;
use crate::runtime::build::{self, Environment};

/// The finding about a key that was made but not taken into use in full.
pub(super) fn init(config: &Config, environment: &Environment) -> Option<Finding> {
    if !config.cache.enabled || config.cache.backend != Some(BackendTag::Tpm) {
        return None;
    }
    let key = build::tpm(&config.cache, environment);
    let present = key.credential.sealed.exists();
    let shown = key.credential.sealed.display();
    let complete = "`systemctl restart psid` completes it";
    if let Some(next) = key.next_key() {
        let next = next.display();
        return Some(if present {
            let what = format!(
                "{next} is left beside {shown}: `psictl cache rekey` or `psictl cache init` was interrupted, and files are \
                 encrypted under either key"
            );
            Finding::warning(what, complete).of("rekey")
        } else {
            let what =
                format!("there is {next} and no {shown}: `psictl cache init` was interrupted");
            let more = format!("{complete}, then `psictl cache recovery-key` makes a recovery key");
            Finding::warning(what, more).of("init-interrupted")
        });
    }
    let cache = environment.paths.cache_file();
    let recovery = cache.with_file_name("recovery.enc");
    let is_cut = present && !cache.exists() && !recovery.exists();
    is_cut.then(|| {
        let what = format!(
            "there is a key in {shown}, and neither a cache nor a recovery key, as after an interrupted `psictl cache init`"
        );
        Finding::warning(what, "`psictl cache recovery-key` makes a recovery key").of("init-interrupted")
    })
}
