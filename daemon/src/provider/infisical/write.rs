//! Writing secrets into a directory: which values Infisical keeps byte for byte, and how large a request
//! may be.

use std::collections::HashMap;

use async_trait::async_trait;
use psi_common::{SecretBytes, check};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::DirectoryRef;
use super::{Infisical, normal_path};
use crate::provider::{ProviderError, SecretWriter, WriteMode, WriteTarget};

/// The most secrets of one request, as in Infisical's own tools.
const AT_ONCE: usize = 100;
/// The most bytes of a request's secrets as JSON: the server accepts 1 MiB (Fastify's limit) and answers a
/// larger request with a plain 500.
const LARGEST: usize = 900_000;

#[async_trait]
impl SecretWriter for Infisical {
    /// `backend/src/server/lib/schemas.ts` for names; a value is trimmed where it is written
    /// (`secret-v2-bridge`), but for one newline at its end.
    fn rejection(&self, key: &str, value: &SecretBytes) -> Option<String> {
        if let Err(why) = check::key(key) {
            return Some(why.to_string());
        }
        if js_trimmed(key) != key {
            return Some("a key must not be empty, or begin or end with a blank".into());
        }
        if key.contains([':', '/']) {
            return Some("Infisical accepts no colon and no slash in a key".into());
        }
        let Ok(text) = std::str::from_utf8(value.expose_secret()) else {
            return Some(
                "the value is not UTF-8, and Infisical stores text only; encode it, as base64"
                    .into(),
            );
        };
        let trimmed = js_trimmed(text);
        if text != trimmed && text.strip_suffix('\n') != Some(trimmed) {
            return Some(
                "Infisical cuts blanks and newlines off both ends of a value, except one final newline: it would \
                 store another value"
                    .into(),
            );
        }
        (json_length(key, text) > LARGEST)
            .then(|| format!("it is longer than {LARGEST} bytes as JSON"))
    }

    async fn existing(
        &self,
        target: &WriteTarget,
    ) -> Result<HashMap<String, Option<SecretBytes>>, ProviderError> {
        let project = self.project(&target.project)?;
        let path = normal_path(&target.path);
        let environment = target.environment.as_deref().unwrap_or(&project.environment);
        let directory = DirectoryRef { project_id: &project.id, environment, path: &path };
        let api = self.api()?;
        let own = self
            .call(project, |token| async move { api.own_secrets(token.text(), directory).await })
            .await?
            .into_iter();
        Ok(own.map(|secret| (secret.secret_key.clone(), secret.value().ok())).collect())
    }

    async fn make_directory(&self, target: &WriteTarget) -> Result<(), ProviderError> {
        let project = self.project(&target.project)?;
        let path = normal_path(&target.path);
        let environment = target.environment.as_deref().unwrap_or(&project.environment);
        let api = self.api()?;
        for (at, _) in path.match_indices('/') {
            let name = path[at + 1..].split('/').next().unwrap_or_default();
            if name.is_empty() {
                continue;
            }
            let parent = normal_path(&path[..at]);
            let parent = DirectoryRef { project_id: &project.id, environment, path: &parent };
            self.call(project, |token| async move {
                api.make_directory(token.text(), parent, name).await
            })
            .await?;
        }
        Ok(())
    }

    async fn write(
        &self,
        target: &WriteTarget,
        mode: WriteMode,
        secrets: &[&(String, SecretBytes)],
    ) -> Result<(), ProviderError> {
        let project = self.project(&target.project)?;
        let path = normal_path(&target.path);
        let environment = target.environment.as_deref().unwrap_or(&project.environment);
        let directory = DirectoryRef { project_id: &project.id, environment, path: &path };
        let method = match mode {
            WriteMode::Create => Method::POST,
            WriteMode::Update => Method::PATCH,
        };
        let secrets: Value = secrets.iter().map(|(key, value)| entry(key, value)).collect();
        let (api, method, secrets) = (self.api()?, &method, &secrets);
        self.call(project, |token| async move {
            api.write(token.text(), directory, method, secrets).await
        })
        .await
    }

    fn batch(&self, secrets: &[&(String, SecretBytes)]) -> usize {
        let mut bytes = 0;
        let fit = secrets.iter().take(AT_ONCE).take_while(|(key, value)| {
            bytes +=
                json_length(key, std::str::from_utf8(value.expose_secret()).unwrap_or_default());
            bytes <= LARGEST
        });
        fit.count().max(1)
    }
}

fn entry(key: &str, value: &SecretBytes) -> Value {
    let value = std::str::from_utf8(value.expose_secret()).unwrap_or_default();
    json!({"secretKey": key, "secretValue": value})
}

/// An upper bound of a secret's length in a request.
fn json_length(key: &str, value: &str) -> usize {
    let escaped = |text: &str| {
        text.bytes()
            .map(|byte| match byte {
                b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 2,
                0..32 => 6,
                _ => 1,
            })
            .sum::<usize>()
    };
    escaped(key) + escaped(value) + r#"{"secretKey":"","secretValue":""},"#.len()
}

/// Trims as JavaScript does: its white space is Unicode's, with the byte order mark and without U+0085 (ECMA-262,
/// 12.2 and 12.3).
fn js_trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| (c.is_whitespace() && c != '\u{85}') || c == '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn provider() -> Infisical {
        let timeout = std::time::Duration::from_secs(1);
        Infisical::new("http://127.0.0.1:1", None, timeout, HashMap::new())
    }

    fn rejection(key: &str, value: &[u8]) -> Option<String> {
        provider().rejection(key, &SecretBytes::new(value.to_vec()))
    }

    #[test]
    fn values_that_infisical_would_change_are_rejected() {
        let values: [&[u8]; 5] = [b"", b"a", b"a b\nc\n", b"\n", "\u{85}a".as_bytes()];
        for value in values {
            assert_eq!(rejection("KEY", value), None, "{value:?}");
        }
        let values: [&[u8]; 6] = [b" a", b"a ", b"a\n\n", b"\ta", b"a\r\n", "\u{feff}a".as_bytes()];
        for value in values {
            assert!(rejection("KEY", value).unwrap().contains("cuts blanks"), "{value:?}");
        }
        assert!(rejection("KEY", b"\xff").unwrap().contains("not UTF-8"));
        for key in ["", " ", "a ", "a:b", "a/b", ".", ".."] {
            assert!(rejection(key, b"x").is_some(), "{key:?}");
        }
        assert_eq!(rejection("a key.with-all_that", b"x"), None);
        assert!(rejection("KEY", &[1; 200_000]).unwrap().contains("longer than"));
    }

    proptest! {
        #[test]
        fn json_length_is_an_upper_bound(key in any::<String>(), value in any::<String>()) {
            let entry = entry(&key, &SecretBytes::new(value.clone().into_bytes()));
            let taken = serde_json::to_string(&entry).unwrap().len() + 1;
            prop_assert!(json_length(&key, &value) >= taken);
        }

        #[test]
        fn batches_cover_every_secret_once(sizes in prop::collection::vec(0..400_000_usize, 1..20)) {
            let secrets: Vec<_> =
                sizes.iter().map(|size| ("K".to_owned(), SecretBytes::new(vec![b'x'; *size]))).collect();
            let secrets: Vec<_> = secrets.iter().collect();
            let (mut rest, provider) = (&secrets[..], provider());
            while !rest.is_empty() {
                let batch = provider.batch(rest);
                let bytes: usize = rest[..batch].iter().map(|(key, value)| key.len() + value.len()).sum();
                prop_assert!((1..=rest.len()).contains(&batch) && (batch == 1 || bytes <= LARGEST));
                rest = &rest[batch..];
            }
        }
    }
}
