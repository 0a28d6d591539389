//! systemd-creds(1) run by another process, so that the daemon, which talks to the network, need not be
//! root. `psid-creds.socket` starts `psid creds` for each connection, as root and without a network.
//!
//! A request is one line and bytes to the end: `open NAME\\n` and the sealed credential, or
//! `seal NAME KEY PCRS\\n` and the secret. The answer is one byte, `+` or `-`, and then what was asked
//! for, or why not.

use std::path::Path;

use psi_common::SecretBytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::{Scope, SealOptions, child};

/// Far more than a key or a client secret, sealed.
const LIMIT: u64 = 1 << 20;

/// What systemd-creds takes for each part of a request.
enum Request {
    Open { name: String },
    Seal { name: String, seal: SealOptions },
}

/// Asks the helper to open.
pub(super) async fn open(
    socket: &Path,
    name: &str,
    sealed: &SecretBytes,
) -> Result<SecretBytes, String> {
    ask(socket, &format!("open {name}\n"), sealed).await
}

/// Asks the helper to seal, and to prove that it opens.
pub(super) async fn seal(
    socket: &Path,
    name: &str,
    secret: &SecretBytes,
    seal: &SealOptions,
) -> Result<SecretBytes, String> {
    let SealOptions { with_key, tpm2_pcrs } = seal;
    ask(socket, &format!("seal {name} {with_key} {tpm2_pcrs}\n"), secret).await
}

async fn ask(socket: &Path, line: &str, bytes: &SecretBytes) -> Result<SecretBytes, String> {
    /// A TPM does one thing at a time, and systemd cuts off whoever is one connection too many.
    static TURNS: Semaphore = Semaphore::const_new(4);
    let _turn = TURNS.acquire().await;
    let failed =
        |error: std::io::Error| format!("{}: {error}; is psid-creds.socket up?", socket.display());
    let mut stream = UnixStream::connect(socket).await.map_err(failed)?;
    stream.write_all(line.as_bytes()).await.map_err(failed)?;
    stream.write_all(bytes.expose_secret()).await.map_err(failed)?;
    stream.shutdown().await.map_err(failed)?;
    let answer = all_of(&mut stream).await.map_err(failed)?;
    match answer.expose_secret() {
        [b'+', bytes @ ..] => Ok(SecretBytes::new(bytes.to_vec())),
        [b'-', words @ ..] => Err(String::from_utf8_lossy(words).into_owned()),
        _ => Err("the helper gave no answer; see `journalctl -u 'psid-creds@*'`".into()),
    }
}

/// Serves one request; this is the helper.
pub async fn serve(
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    let request = all_of(&mut input).await?;
    let answer = match parse(request.expose_secret()) {
        Some((Request::Open { name }, bytes)) => child::open(Scope::System, &name, &bytes).await,
        Some((Request::Seal { name, seal }, bytes)) => {
            child::seal(Scope::System, &name, &bytes, &seal).await
        }
        None => Err("the request makes no sense; psid and its helper are of two versions".into()),
    };
    match answer {
        Ok(bytes) => {
            output.write_all(b"+").await?;
            output.write_all(bytes.expose_secret()).await?;
        }
        Err(why) => output.write_all(format!("-{why}").as_bytes()).await?,
    }
    output.flush().await
}

/// Each part becomes an argument, so each is taken for what it must be and for nothing else.
fn parse(request: &[u8]) -> Option<(Request, SecretBytes)> {
    let end = request.iter().position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(&request[..end]).ok()?;
    let bytes = SecretBytes::new(request[end + 1..].to_vec());
    let mut parts = line.split(' ');
    let request = match (parts.next()?, parts.next()?, parts.next(), parts.next(), parts.next()) {
        ("open", name, None, None, None) => Request::Open { name: plain_name(name)? },
        ("seal", name, Some(with_key), Some(pcrs), None) => Request::Seal {
            name: plain_name(name)?,
            seal: SealOptions {
                with_key: ["tpm2", "host", "host+tpm2", "auto"]
                    .into_iter()
                    .find(|known| *known == with_key)?
                    .to_owned(),
                tpm2_pcrs: Some(pcrs)
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
        for line in ["open psi-cache-key", "seal a.b_c tpm2 7+11", "seal a host+tpm2 "] {
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
        ] {
            assert!(!parses(line), "{line}");
        }
        assert!(parse(b"open a").is_none(), "no end of the line");
    }

    proptest! {
        #[test]
        fn parsing_is_total(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"seal ".as_slice(), &bytes].concat());
        }
    }
}
