//! systemd-creds(1) run by another process, so that the daemon, which talks to the network, need not be
//! root. `psid-creds.socket` starts `psid creds` for each connection, as root and without a network.
//!
//! A request is one line and bytes to the end: `open NAME\\n` and the sealed credential, `seal NAME KEY PCRS\\n`
//! and the secret, or `tpm\\n`. The answer is one byte, `+` or the kind of a failure, and then what was asked
//! for, or why not.

use std::path::Path;
use std::time::Duration;

use psi_common::{SealMode, SecretBytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::{CredsError, CredsErrorKind, Scope, SealOptions, TpmState, child, names, tpm};

/// Far more than a key or a client secret, sealed.
const LIMIT: u64 = 1 << 20;
/// systemd ends a helper after two minutes.
const PATIENCE: Duration = Duration::from_secs(125);

/// What systemd-creds takes for each part of a request.
enum Request {
    Open { name: String },
    Seal { name: String, seal: SealOptions },
    Tpm,
}

/// Asks the helper to open.
pub(super) async fn open(
    socket: &Path,
    name: &str,
    sealed: &SecretBytes,
) -> Result<SecretBytes, CredsError> {
    ask(socket, &format!("open {name}\n"), sealed).await
}

/// Asks the helper to seal, and to prove that it opens.
pub(super) async fn seal(
    socket: &Path,
    name: &str,
    secret: &SecretBytes,
    seal: &SealOptions,
) -> Result<SecretBytes, CredsError> {
    let SealOptions { with_key, tpm2_pcrs } = seal;
    ask(socket, &format!("seal {name} {with_key} {tpm2_pcrs}\n"), secret).await
}

/// Has the helper ask the TPM.
pub(super) async fn tpm(socket: &Path) -> TpmState {
    match ask(socket, "tpm\n", &SecretBytes::new(Vec::new())).await {
        Ok(line) => TpmState::from_line(&String::from_utf8_lossy(line.expose_secret())),
        Err(error) => TpmState::Unknown(error.why),
    }
}

async fn ask(socket: &Path, line: &str, bytes: &SecretBytes) -> Result<SecretBytes, CredsError> {
    /// A TPM does one thing at a time, and systemd cuts off whoever is one connection too many.
    static TURNS: Semaphore = Semaphore::const_new(4);
    let _turn = TURNS.acquire().await;
    let answer = tokio::time::timeout(PATIENCE, exchange(socket, line, bytes)).await;
    let answer = answer.map_err(|_| {
        let why = format!("{} gave no answer within {} s", socket.display(), PATIENCE.as_secs());
        CredsError::not_done(why)
    })?;
    let answer = answer.map_err(|error| {
        CredsError::new(CredsErrorKind::NoHelper, format!("{}: {error}", socket.display()))
    })?;
    match answer.expose_secret() {
        [b'+', bytes @ ..] => Ok(SecretBytes::new(bytes.to_vec())),
        [kind, why @ ..] if let Some(kind) = kind_of(*kind) => {
            Err(CredsError::new(kind, String::from_utf8_lossy(why)))
        }
        _ => Err(CredsError::not_done(
            "the helper gave no answer: `journalctl -u 'psid-creds@*'` has its reason",
        )),
    }
}

async fn exchange(socket: &Path, line: &str, bytes: &SecretBytes) -> std::io::Result<SecretBytes> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(line.as_bytes()).await?;
    stream.write_all(bytes.expose_secret()).await?;
    stream.shutdown().await?;
    all_of(&mut stream).await
}

fn byte_of(kind: CredsErrorKind) -> u8 {
    match kind {
        CredsErrorKind::Failed => b'-',
        CredsErrorKind::Forbidden => b'!',
        CredsErrorKind::NotDone | CredsErrorKind::NoHelper | CredsErrorKind::Unreadable => b'~',
    }
}

fn kind_of(byte: u8) -> Option<CredsErrorKind> {
    [CredsErrorKind::Failed, CredsErrorKind::Forbidden, CredsErrorKind::NotDone]
        .into_iter()
        .find(|kind| byte_of(*kind) == byte)
}

/// Serves one request; this is the helper. It opens what `config` names.
pub async fn serve(
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
    config: &Path,
) -> std::io::Result<()> {
    let request = all_of(&mut input).await?;
    match answer(request.expose_secret(), config).await {
        Ok(bytes) => {
            output.write_all(b"+").await?;
            output.write_all(bytes.expose_secret()).await?;
        }
        Err(error) => {
            output.write_all(&[byte_of(error.kind)]).await?;
            output.write_all(error.why.as_bytes()).await?;
        }
    }
    output.flush().await
}

async fn answer(request: &[u8], config: &Path) -> Result<SecretBytes, CredsError> {
    let forbidden = |why: String| CredsError::new(CredsErrorKind::Forbidden, why);
    match parse(request) {
        Some((Request::Open { name }, bytes)) => match names::objection(&name, config) {
            None => child::open(Scope::System, &name, &bytes).await,
            Some(why) => Err(forbidden(why)),
        },
        Some((Request::Seal { name, seal }, bytes)) if name == names::CACHE_KEY => {
            child::seal(Scope::System, &name, &bytes, &seal).await
        }
        Some((Request::Seal { name, .. }, _)) => {
            Err(forbidden(format!("the helper seals {} only, and not {name}", names::CACHE_KEY)))
        }
        Some((Request::Tpm, _)) => Ok(SecretBytes::new(tpm::ask().await.to_line().into_bytes())),
        None => Err(CredsError::not_done(
            "the request makes no sense: psid and its helper are of two versions, restart psid",
        )),
    }
}

/// Each part becomes an argument, so each is taken for what it must be and for nothing else.
fn parse(request: &[u8]) -> Option<(Request, SecretBytes)> {
    let end = request.iter().position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(&request[..end]).ok()?;
    let bytes = SecretBytes::new(request[end + 1..].to_vec());
    let parts: Vec<&str> = line.split(' ').collect();
    let request = match parts.as_slice() {
        ["tpm"] => Request::Tpm,
        ["open", name] => Request::Open { name: plain_name(name)? },
        ["seal", name, with_key, pcrs] => Request::Seal {
            name: plain_name(name)?,
            seal: SealOptions {
                with_key: with_key.parse::<SealMode>().ok()?.to_string(),
                tpm2_pcrs: Some(*pcrs)
                    .filter(|pcrs| pcrs.bytes().all(|byte| byte.is_ascii_digit() || byte == b'+'))?
                    .to_owned(),
            },
        },
        _ => return None,
    };
    Some((request, bytes))
}

fn plain_name(name: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (!name.is_empty() && name.len() < 256 && name.bytes().all(plain)).then(|| name.to_owned())
}

async fn all_of(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<SecretBytes> {
    let mut bytes = Vec::with_capacity(64 * 1024);
    stream.take(LIMIT).read_to_end(&mut bytes).await?;
    Ok(SecretBytes::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_is_meant_becomes_an_argument() {
        let parses = |line: &str| parse(format!("{line}\nbytes").as_bytes()).is_some();
        for line in ["open psi-cache-key", "seal a.b_c tpm2 7+11", "seal a host+tpm2 ", "tpm"] {
            assert!(parses(line), "{line}");
        }
        for line in [
            "",
            "open",
            "open ",
            "open a b",
            "open ../a",
            "open a/b",
            "seal a tpm2",
            "seal a tpm3 7",
            "seal a tpm2 7 x",
            "seal a tpm2 --x",
            "list a",
            "tpm a",
        ] {
            assert!(!parses(line), "{line}");
        }
        assert!(parse(b"open a").is_none(), "no end of the line");
    }

    #[tokio::test]
    async fn only_the_cache_key_is_sealed_and_only_what_the_config_names_is_opened() {
        for request in ["seal infisical-client-secret host \nx", "open ssh-host-key\nx"] {
            let mut output = Vec::new();
            serve(request.as_bytes(), &mut output, Path::new("/nonexistent")).await.unwrap();
            assert_eq!(output[0], b'!', "{}", String::from_utf8_lossy(&output));
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"seal ".as_slice(), &bytes].concat());
        }
    }
}
