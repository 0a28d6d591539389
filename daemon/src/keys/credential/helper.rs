//! systemd-creds(1) run by a helper process, so that the daemon, which has network access, need not be root.
//! `psid-creds.socket` starts `psid creds` for each connection, as root and without a network.
//!
//! A request is one line and the rest of the stream: `open NAME\\n` and the sealed credential,
//! `seal NAME KEY PCRS\\n` and the secret, or `tpm\\n`. The response is one byte, `+` or the kind of a failure, and
//! then the result or the message.

use std::path::Path;
use std::time::Duration;

use psi_common::{SealMode, SecretBytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::{CredsError, CredsErrorKind, Scope, SealOptions, TpmState, child, names, tpm};

/// The longest request and response, far longer than a sealed key or client secret.
const MAX_BYTES: u64 = 1 << 20;
/// systemd kills a helper after two minutes.
const TIMEOUT: Duration = Duration::from_secs(125);

/// A parsed request.
enum Request {
    Open { name: String },
    Seal { name: String, seal: SealOptions },
    Tpm,
}

/// Asks the helper to open a credential.
pub(super) async fn open(
    socket: &Path,
    name: &str,
    sealed: &SecretBytes,
) -> Result<SecretBytes, CredsError> {
    call(socket, &format!("open {name}\n"), sealed).await
}

/// Asks the helper to seal a secret and to verify that it opens.
pub(super) async fn seal(
    socket: &Path,
    name: &str,
    secret: &SecretBytes,
    seal: &SealOptions,
) -> Result<SecretBytes, CredsError> {
    let SealOptions { with_key, tpm2_pcrs } = seal;
    call(socket, &format!("seal {name} {with_key} {tpm2_pcrs}\n"), secret).await
}

/// Asks the helper to query the TPM.
pub(super) async fn tpm(socket: &Path) -> TpmState {
    match call(socket, "tpm\n", &SecretBytes::new(Vec::new())).await {
        Ok(line) => TpmState::from_line(&String::from_utf8_lossy(line.expose_secret())),
        Err(error) => TpmState::Unknown(error.why),
    }
}

async fn call(socket: &Path, line: &str, bytes: &SecretBytes) -> Result<SecretBytes, CredsError> {
    /// A TPM runs one command at a time, and systemd refuses more connections than MaxConnections=.
    static PERMITS: Semaphore = Semaphore::const_new(4);
    let _permit = PERMITS.acquire().await;
    let answer = tokio::time::timeout(TIMEOUT, exchange(socket, line, bytes)).await;
    let answer = answer.map_err(|_| {
        let why = format!("{} did not answer within {} s", socket.display(), TIMEOUT.as_secs());
        CredsError::incomplete(why)
    })?;
    let answer = answer.map_err(|error| {
        CredsError::new(CredsErrorKind::NoHelper, format!("{}: {error}", socket.display()))
    })?;
    match answer.expose_secret() {
        [b'+', bytes @ ..] => Ok(SecretBytes::new(bytes.to_vec())),
        [kind, why @ ..] if let Some(kind) = kind_of(*kind) => {
            Err(CredsError::new(kind, String::from_utf8_lossy(why)))
        }
        _ => Err(CredsError::incomplete(
            "the helper did not answer: `journalctl -u 'psid-creds@*'` shows the reason",
        )),
    }
}

async fn exchange(socket: &Path, line: &str, bytes: &SecretBytes) -> std::io::Result<SecretBytes> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(line.as_bytes()).await?;
    stream.write_all(bytes.expose_secret()).await?;
    stream.shutdown().await?;
    read_all(&mut stream).await
}

fn byte_of(kind: CredsErrorKind) -> u8 {
    match kind {
        CredsErrorKind::Failed => b'-',
        CredsErrorKind::Forbidden => b'!',
        CredsErrorKind::Incomplete | CredsErrorKind::NoHelper | CredsErrorKind::Unreadable => b'~',
    }
}

fn kind_of(byte: u8) -> Option<CredsErrorKind> {
    [CredsErrorKind::Failed, CredsErrorKind::Forbidden, CredsErrorKind::Incomplete]
        .into_iter()
        .find(|kind| byte_of(*kind) == byte)
}

/// Serves one request in the helper process. It opens the credentials that `config` names.
pub async fn serve(
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
    config: &Path,
) -> std::io::Result<()> {
    let request = read_all(&mut input).await?;
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
        Some((Request::Tpm, _)) => Ok(SecretBytes::new(tpm::query().await.to_line().into_bytes())),
        None => Err(CredsError::incomplete(
            "the request is malformed: psid and its helper have different versions, `systemctl restart psid`",
        )),
    }
}

/// Parses a request. Each part becomes an argument of a command, so each is checked strictly.
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

async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<SecretBytes> {
    let mut bytes = Vec::with_capacity(64 * 1024);
    stream.take(MAX_BYTES).read_to_end(&mut bytes).await?;
    Ok(SecretBytes::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parse_accepts_well_formed_requests_only() {
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
        assert!(parse(b"open a").is_none(), "no newline");
    }

    #[tokio::test]
    async fn serve_refuses_other_names() {
        for request in ["seal infisical-client-secret host \nx", "open ssh-host-key\nx"] {
            let mut output = Vec::new();
            serve(request.as_bytes(), &mut output, Path::new("/nonexistent")).await.unwrap();
            assert_eq!(output[0], b'!', "{}", String::from_utf8_lossy(&output));
        }
    }

    proptest! {
        #[test]
        fn parse_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"seal ".as_slice(), &bytes].concat());
        }
    }
}
