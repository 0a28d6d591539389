//! `psid preflight`: what lies between psid and the token's key, link by link, up to the first one
//! that is broken.

mod report;

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use psi_common::BackendTag;

use crate::config::Config;
use crate::crypto::aead::DataKey;
use crate::keys::pkcs11::{
    KeyDescription, PinStatus, Token, TokenConfig, TokenDescription, TokenError, TokenErrorKind,
    Unwrapping,
};
use crate::runtime::build::{self, Environment};

pub use report::{PreflightReport, StepFault};

use report::Step;

/// How long logging out may take; a module that hangs is left to itself.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// What a good link hands over to the next one, and its sentence.
type Found<T> = Result<(T, String), StepFault>;

/// What the config says that matters here.
struct Wanted {
    token: TokenConfig,
    /// The hsm key backend signs; the provider does not.
    must_sign: bool,
}

/// Walks the chain, and has each step told as it is done: a token takes its time. `pcscd` is where
/// pcscd's socket is, if that matters; `retry` tries a PIN once more that was refused.
pub async fn run<'a>(
    surroundings: &Environment,
    pcscd: &Path,
    retry: bool,
    tell: &'a dyn Fn(&str),
) -> PreflightReport<'a> {
    let mut report = PreflightReport::new(tell);
    if let Some(mut wanted) = report.take(Step::Config, config(surroundings)) {
        wanted.token.retry = retry;
        let token = Token::new(wanted.token.clone());
        // The fault that ends the walk is in the report.
        let _ = walk(&mut report, &wanted, &token, pcscd).await;
        token.with_timeout(SHUTDOWN_GRACE).close().await;
    }
    report.skip_rest();
    report
}

async fn walk(
    report: &mut PreflightReport<'_>,
    wanted: &Wanted,
    token: &Token,
    pcscd: &Path,
) -> Option<()> {
    report.take(Step::Module, module(token, &wanted.token.module).await)?;
    if uses_pcscd(&wanted.token.module) {
        report.take(Step::Socket, socket(pcscd))?;
    } else {
        report.skip(Step::Socket, "not needed: the module does without pcscd");
    }
    // Here the PIN is tried, unless it was refused before.
    let described = report.take(Step::Token, found(token.describe().await))?;
    report.take(Step::Pin, pin(&described, &wanted.token))?;
    let key = report.take(Step::Key, key(&described, wanted.must_sign))?;
    report.take(Step::Mechanisms, mechanisms(&described, &key, wanted.must_sign))?;
    let signs = key.may_sign && described.mechanisms.sha256_rsa_pkcs;
    report.take(Step::RoundTrip, round_trip(token, signs).await)
}

fn config(surroundings: &Environment) -> Found<Wanted> {
    let path = &surroundings.paths.config;
    let config = Config::read(path).map_err(|error| {
        StepFault::of_config(error.to_string(), "correct it; `psid check` checks it")
    })?;
    let token = build::token_config(&config, surroundings).ok_or_else(|| {
        StepFault::of_config(
            format!("{} has no [providers.pkcs11]", path.display()),
            "add it: psi.toml tells how",
        )
    })?;
    let must_sign = config.cache.backend == Some(BackendTag::Hsm);
    Ok((Wanted { token, must_sign }, format!("{} names a token", path.display())))
}

async fn module(token: &Token, path: &Path) -> Found<()> {
    let install =
        "install it (Debian: opensc-pkcs11), or correct pkcs11_module in [providers.pkcs11]";
    if let Err(error) = std::fs::File::open(path) {
        return Err(StepFault::of_config(format!("{}: {error}", path.display()), install));
    }
    match token.load().await {
        Ok(told) => Ok(((), format!("{} loads: {told}", path.display()))),
        // That it does not load is no reason to wait for it.
        Err(error) => Err(StepFault::of_config(error.problem.what, error.problem.remedy)),
    }
}

/// OpenSC's modules are linked with libopensc, which loads libpcsclite; others are linked with the latter.
fn uses_pcscd(module: &Path) -> bool {
    let bytes = std::fs::read(module).unwrap_or_default();
    let names = |library: &[u8]| bytes.windows(library.len()).any(|window| window == library);
    names(b"libopensc.so") || names(b"libpcsclite.so")
}

fn socket(pcscd: &Path) -> Found<()> {
    match UnixStream::connect(pcscd) {
        Ok(_) => Ok(((), format!("pcscd listens at {}", pcscd.display()))),
        Err(error) => Err(StepFault::of_absence(
            format!("pcscd does not listen at {}: {error}", pcscd.display()),
            "install it (Debian: pcscd), and `systemctl enable --now pcscd.socket`",
        )),
    }
}

fn found(described: Result<TokenDescription, TokenError>) -> Found<TokenDescription> {
    let token = described?;
    let TokenDescription { label, slot, manufacturer, model, serial, firmware, .. } = &token;
    let words = format!(
        "'{label}' in slot {slot}: {manufacturer} {model}, serial {serial}, firmware {firmware}"
    );
    Ok((token, words))
}

fn pin(token: &TokenDescription, config: &TokenConfig) -> Found<()> {
    match &token.key {
        // The key is looked for once the PIN was accepted.
        Err(error) if !matches!(error.kind, TokenErrorKind::Refused | TokenErrorKind::NoKey) => {
            return Err(error.clone().into());
        }
        _ => {}
    }
    let before = match token.pin {
        PinStatus::CountLow => "; a wrong one was given before it",
        _ => "",
    };
    Ok(((), format!("the token accepts the PIN in {}{before}", config.pin)))
}

fn key(token: &TokenDescription, must_sign: bool) -> Found<KeyDescription> {
    let key = token.key.clone()?;
    let KeyDescription { label, id, bits, .. } = &key;
    let named = format!("'{label}', id {id}: RSA of {bits} bits");
    let anew = "make one that may do both, with `pkcs11-tool --login --keypairgen --key-type rsa:2048 \
                --usage-sign --usage-decrypt`";
    let may = match (key.may_decrypt, key.may_sign) {
        (true, true) => "it may decrypt and sign",
        (true, false) if !must_sign => {
            "it may decrypt; it may not sign, which only backend = \"hsm\" would need"
        }
        (true, false) => {
            let what =
                format!("{named}; it may not sign (CKA_SIGN), which backend = \"hsm\" needs");
            return Err(StepFault::of_config(what, anew));
        }
        (false, _) => {
            let what = format!("{named}; it may not decrypt (CKA_DECRYPT)");
            return Err(StepFault::of_config(what, anew));
        }
    };
    let words = format!("{named}; {may}");
    Ok((key, words))
}

fn mechanisms(token: &TokenDescription, key: &KeyDescription, must_sign: bool) -> Found<()> {
    if key.unwrapping != Unwrapping::OaepSha256 {
        return Err(StepFault::of_config(
            format!(
                "the token does not decrypt RSA-OAEP with SHA-256, which psi wraps with: {}",
                key.unwrapping
            ),
            match key.unwrapping {
                Unwrapping::No => "use a token and a key that may decrypt",
                _ => {
                    "use a token or a module that does: OpenSC 0.23 or newer does the padding itself, \
                      SoftHSM does it with SHA-1 only"
                }
            },
        ));
    }
    match token.mechanisms.sha256_rsa_pkcs {
        true => Ok(((), "RSA-OAEP with SHA-256 and CKM_SHA256_RSA_PKCS".into())),
        false if must_sign => Err(StepFault::of_config(
            "the token does not sign with CKM_SHA256_RSA_PKCS, which backend = \"hsm\" needs",
            "use backend = \"tpm\" and the token for secrets alone, or another token",
        )),
        false => Ok((
            (),
            "RSA-OAEP with SHA-256; not CKM_SHA256_RSA_PKCS, which backend = \"hsm\" would need"
                .into(),
        )),
    }
}

/// What psid will do: the public half by itself, the private one by the token.
async fn round_trip(token: &Token, signs: bool) -> Found<()> {
    let broken = |what: String| {
        StepFault::of_config(
            what,
            "report it with the token's and the module's versions; do not use it",
        )
    };
    let public = token.public_key().await?;
    let key = DataKey::generate().map_err(|error| broken(format!("no random numbers: {error}")))?;
    let secret = key.to_secret();
    let wrapped = public.wrap(&secret).map_err(|error| broken(error.to_string()))?;
    if !token.unwrap_key(&wrapped).await?.same_as(&secret) {
        return Err(broken("the token unwrapped something else than what was wrapped".into()));
    }
    if !signs {
        return Ok((
            (),
            "a key wrapped here was unwrapped by the token; nothing was signed".into(),
        ));
    }
    let signature = token.sign(&wrapped).await?;
    if !public.verify(&wrapped, &signature) {
        return Err(broken("the token's signature is not its public key's".into()));
    }
    Ok(((), "a key wrapped here was unwrapped by the token, and its signature verified".into()))
}
