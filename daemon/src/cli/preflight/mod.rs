//! `psid preflight`: checks step by step what psid needs to use the token's key, and stops at the first failure.

mod report;

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use psi_common::BackendTag;

use super::error::CommandError;
use crate::config::Config;
use crate::crypto::aead::DataKey;
use crate::keys::pkcs11::{
    KeyDescription, PinStatus, Token, TokenConfig, TokenDescription, TokenError, TokenErrorKind,
    Unwrapping,
};
use crate::runtime::build::{self, Environment};

pub use report::PreflightReport;

use report::Step;

/// How long the logout may take: a module may hang.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// The result of a step: a value for the next steps, and a sentence for the report.
type StepResult<T> = Result<(T, String), CommandError>;

/// The config of the token, and its use.
struct TokenSetup {
    token: TokenConfig,
    /// Whether the key must sign, for the hsm key backend; the provider only decrypts.
    must_sign: bool,
}

/// Runs the steps. `print` gets the line of each step when it is done, because a token is slow. `pcscd` is the path of
/// pcscd's socket; with `retry`, a refused PIN is tried once more.
pub async fn run<'a>(
    environment: &Environment,
    pcscd: &Path,
    retry: bool,
    print: &'a dyn Fn(&str),
) -> PreflightReport<'a> {
    let mut report = PreflightReport::new(print);
    if let Some(mut setup) = report.record(Step::Config, config(environment)) {
        setup.token.retry = retry;
        let token = Token::new(setup.token.clone());
        // The report holds the failure that ends the check.
        let _ = check_token(&mut report, &setup, &token, pcscd).await;
        token.with_timeout(SHUTDOWN_GRACE).close().await;
    }
    report.skip_rest();
    report
}

async fn check_token(
    report: &mut PreflightReport<'_>,
    setup: &TokenSetup,
    token: &Token,
    pcscd: &Path,
) -> Option<()> {
    report.record(Step::Module, module(token, &setup.token.module).await)?;
    if uses_pcscd(&setup.token.module) {
        report.record(Step::Socket, socket(pcscd))?;
    } else {
        report.skip(Step::Socket, "not needed: the module does without pcscd");
    }
    // This logs in, unless the PIN was refused before.
    let described = report.record(Step::Token, token_found(token.describe().await))?;
    report.record(Step::Pin, pin(&described, &setup.token))?;
    let key = report.record(Step::Key, key(&described, setup.must_sign))?;
    report.record(Step::Mechanisms, mechanisms(&described, &key, setup.must_sign))?;
    let signs = key.may_sign && described.mechanisms.sha256_rsa_pkcs;
    report.record(Step::RoundTrip, round_trip(token, signs).await)
}

fn config(environment: &Environment) -> StepResult<TokenSetup> {
    let path = &environment.paths.config;
    let config = Config::read(path)?;
    let token = build::token_config(&config, environment).ok_or_else(|| {
        CommandError::bad_input(
            format!("{} has no [providers.pkcs11]", path.display()),
            "add it, see psi.toml(5)",
        )
    })?;
    let must_sign = config.cache.backend == Some(BackendTag::Hsm);
    Ok((TokenSetup { token, must_sign }, format!("{} names a token", path.display())))
}

async fn module(token: &Token, path: &Path) -> StepResult<()> {
    let install =
        "install it (Debian: opensc-pkcs11), or correct pkcs11_module in [providers.pkcs11]";
    if let Err(error) = std::fs::File::open(path) {
        return Err(CommandError::bad_input(format!("{}: {error}", path.display()), install));
    }
    match token.load().await {
        Ok(info) => Ok(((), format!("{} loads: {info}", path.display()))),
        // Unlike an absent token, a module that does not load must be corrected.
        Err(error) => Err(CommandError::bad_input(error.problem.what, error.problem.remedy)),
    }
}

/// Whether a module connects to pcscd: OpenSC's modules link libopensc, which loads libpcsclite; others link the latter.
fn uses_pcscd(module: &Path) -> bool {
    let bytes = std::fs::read(module).unwrap_or_default();
    let names = |library: &[u8]| bytes.windows(library.len()).any(|window| window == library);
    names(b"libopensc.so") || names(b"libpcsclite.so")
}

fn socket(pcscd: &Path) -> StepResult<()> {
    match UnixStream::connect(pcscd) {
        Ok(_) => Ok(((), format!("pcscd listens at {}", pcscd.display()))),
        Err(error) => Err(CommandError::absent(
            format!("pcscd does not listen at {}: {error}", pcscd.display()),
            "install it (Debian: pcscd), and run `systemctl enable --now pcscd.socket`",
        )),
    }
}

fn token_found(described: Result<TokenDescription, TokenError>) -> StepResult<TokenDescription> {
    let token = described?;
    let TokenDescription { label, slot, manufacturer, model, serial, firmware, .. } = &token;
    let sentence = format!(
        "'{label}' in slot {slot}: {manufacturer} {model}, serial {serial}, firmware {firmware}"
    );
    Ok((token, sentence))
}

fn pin(token: &TokenDescription, config: &TokenConfig) -> StepResult<()> {
    match &token.key {
        // With these two errors, the PIN was accepted: the token looks for the key after the login.
        Err(error) if !matches!(error.kind, TokenErrorKind::Refused | TokenErrorKind::NoKey) => {
            return Err(error.clone().into());
        }
        _ => {}
    }
    let before = match token.pin {
        PinStatus::CountLow => "; a wrong PIN was entered before",
        _ => "",
    };
    Ok(((), format!("the token accepts the PIN in {}{before}", config.pin)))
}

fn key(token: &TokenDescription, must_sign: bool) -> StepResult<KeyDescription> {
    let key = token.key.clone()?;
    let KeyDescription { label, id, bits, .. } = &key;
    let named = format!("'{label}', id {id}: RSA of {bits} bits");
    let remedy = "make a key that may decrypt and sign: `pkcs11-tool --login --keypairgen --key-type rsa:2048 \
                --usage-sign --usage-decrypt`";
    let may = match (key.may_decrypt, key.may_sign) {
        (true, true) => "it may decrypt and sign",
        (true, false) if !must_sign => {
            "it may decrypt; it may not sign, which only backend = \"hsm\" would need"
        }
        (true, false) => {
            let what =
                format!("{named}; it may not sign (CKA_SIGN), which backend = \"hsm\" needs");
            return Err(CommandError::bad_input(what, remedy));
        }
        (false, _) => {
            let what = format!("{named}; it may not decrypt (CKA_DECRYPT)");
            return Err(CommandError::bad_input(what, remedy));
        }
    };
    let sentence = format!("{named}; {may}");
    Ok((key, sentence))
}

fn mechanisms(token: &TokenDescription, key: &KeyDescription, must_sign: bool) -> StepResult<()> {
    if key.unwrapping != Unwrapping::OaepSha256 {
        return Err(CommandError::bad_input(
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
        false if must_sign => Err(CommandError::bad_input(
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

/// Wraps a key as psid does, and lets the token unwrap it and sign.
async fn round_trip(token: &Token, signs: bool) -> StepResult<()> {
    let broken = |what: String| {
        CommandError::bad_input(
            what,
            "do not use this token, and report it with the versions of the token and the module",
        )
    };
    let public = token.public_key().await?;
    let key = DataKey::generate()
        .map_err(|error| broken(format!("the kernel returns no random numbers: {error}")))?;
    let secret = key.to_secret();
    let wrapped = public.wrap(&secret).map_err(|error| broken(error.to_string()))?;
    if !token.unwrap_key(&wrapped).await?.same_as(&secret) {
        return Err(broken("the token unwrapped another key than was wrapped".into()));
    }
    if !signs {
        return Ok((
            (),
            "a key wrapped here was unwrapped by the token; nothing was signed".into(),
        ));
    }
    let signature = token.sign(&wrapped).await?;
    if !public.verify(&wrapped, &signature) {
        return Err(broken("the token's signature does not verify with its public key".into()));
    }
    Ok(((), "a key wrapped here was unwrapped by the token, and its signature verified".into()))
}
