//! Writing secrets into a folder: what Infisical keeps as it is, and in how large pieces.

use std::collections::HashMap;

use async_trait::async_trait;
use psi_common::{SecretBytes, check};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Folder;
use super::{Infisical, normal_path};
use crate::provider::{ProviderError, SecretWriter, Target, Write};

/// Secrets of one request, as Infisical's own tools have it.
const AT_ONCE: usize = 100;
/// Of a request's secrets as JSON, in bytes: the server takes 1 MiB (Fastify's limit), and says only "500"
/// to more.
const LARGEST: usize = 900_000;

#[async_trait]
impl SecretWriter for Infisical {
    /// `backend/src/server/lib/schemas.ts` for names; a value is trimmed where it is written
    /// (`secret-v2-bridge`), but for one newline at its end.
    fn unfit(&self, key: &str, value: &SecretBytes) -> Option<String> {
        if let Err(why) = check::key(key) {
            return Some(why.to_string());
        }
        if js_trimmed(key) != key {
            return Some("a key begins and ends with no blank, and is not empty".into());
        }
        if key.contains([':', '/']) {
            return Some("no key of Infisical's has a colon or a slash".into());
        }
        let Ok(text) = std::str::from_utf8(value.expose_secret()) else {
            return Some("the value is no UTF-8, and Infisical keeps text only; encode it".into());
        };
        let trimmed = js_trimmed(text);
        if text != trimmed && text.strip_suffix('\n') != Some(trimmed) {
            return Some(
                "Infisical cuts blanks and lines off a value's ends, but for one newline: the value would be \
                 another one"
                    .into(),
            );
        }
        (json_length(key, text) > LARGEST)
            .then(|| format!("it is longer than {LARGEST} bytes in JSON"))
    }

    async fn present(
        &self,
        target: &Target,
    ) -> Result<HashMap<String, Option<SecretBytes>>, ProviderError> {
        let project = self.project(&target.project).map_err(ProviderError::Misbehaved)?;
        let path = normal_path(&target.path);
        let environment = target.environment.as_deref().unwrap_or(&project.environment);
        let folder = Folder { project_id: &project.id, environment, path: &path };
        let api = self.api()?;
        let own = self
            .call(project, |token| async move { api.own_secrets(token.text(), folder).await })
            .await?
            .into_iter();
        Ok(own.map(|secret| (secret.secret_key.clone(), secret.value().ok())).collect())
    }

    async fn make_folder(&self, target: &Target) -> Result<(), ProviderError> {
        let project = self.project(&target.project).map_err(ProviderError::Misbehaved)?;
        let path = normal_path(&target.path);
        let environment = target.environment.as_deref().unwrap_or(&project.environment);
        let api = self.api()?;
        for (at, _) in path.match_indices('/') {
            let name = path[at + 1..].split('/').next().unwrap_or_default();
            if name.is_empty() {
                continue;
            }
            let parent = normal_path(&path[..at]);
            let parent = Folder { project_id: &project.id, environment, path: &parent };
            self.call(
                project,
                |token| async move { api.make_folder(token.text(), parent, name).await },
            )
            .await?;
        }
        Ok(())
    }

    async fn write(
        &self,
        target: &Target,
        how: Write,
        secrets: &[&(String, SecretBytes)],
    ) -> Result<(), ProviderError> {
        let project = self.project(&target.project).map_err(ProviderError::Misbehaved)?;
        let path = normal_path(&target.path);
        let environment = target.environment.as_deref().unwrap_or(&project.environment);
        let folder = Folder { project_id: &project.id, environment, path: &path };
        let method = match how {
            Write::Create => Method::POST,
            Write::Update => Method::PATCH,
        };
        let secrets: Value = secrets.iter().map(|(key, value)| entry(key, value)).collect();
        let (api, method, secrets) = (self.api()?, &method, &secrets);
        self.call(
            project,
            |token| async move { api.write(token.text(), folder, method, secrets).await },
        )
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

/// How long a secret is in a request, at most.
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

/// As JavaScript trims: its white space is Unicode's, with the byte order mark and without U+0085 (ECMA-262,
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

    fn unfit(key: &str, value: &[u8]) -> Option<String> {
        provider().unfit(key, &SecretBytes::new(value.to_vec()))
    }

    #[test]
    fn what_infisical_would_change_is_unfit() {
        let values: [&[u8]; 5] = [b"", b"a", b"a b\nc\n", b"\n", "\u{85}a".as_bytes()];
        for value in values {
            assert_eq!(unfit("KEY", value), None, "{value:?}");
        }
        let values: [&[u8]; 6] = [b" a", b"a ", b"a\n\n", b"\ta", b"a\r\n", "\u{feff}a".as_bytes()];
        for value in values {
            assert!(unfit("KEY", value).unwrap().contains("cuts blanks"), "{value:?}");
        }
        assert!(unfit("KEY", b"\xff").unwrap().contains("no UTF-8"));
        for key in ["", " ", "a ", "a:b", "a/b", ".", ".."] {
            assert!(unfit(key, b"x").is_some(), "{key:?}");
        }
        assert_eq!(unfit("a key.with-all_that", b"x"), None);
        assert!(unfit("KEY", &[1; 200_000]).unwrap().contains("longer than"));
    }

    proptest! {
        #[test]
        fn a_length_is_what_json_takes(key in any::<String>(), value in any::<String>()) {
            let entry = entry(&key, &SecretBytes::new(value.clone().into_bytes()));
            let taken = serde_json::to_string(&entry).unwrap().len() + 1;
            prop_assert!(json_length(&key, &value) >= taken);
        }

        #[test]
        fn every_secret_is_in_one_batch(sizes in prop::collection::vec(0..400_000_usize, 1..20)) {
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
