//! The documents that `podman kube play` stores: each `kind: Secret` of its YAML becomes a secret of the file driver, in
//! plaintext, and replaces a secret of its name (pkg/domain/infra/abi/play.go).

use psi_common::SecretBytes;
use serde::Deserialize;

#[derive(Deserialize)]
struct Json<'a> {
    kind: &'a str,
}

/// Whether a value is such a document, in YAML or JSON.
pub(crate) fn is_kube_document(value: &SecretBytes) -> bool {
    let Ok(text) = std::str::from_utf8(value.expose_secret()) else { return false };
    let is_kind = |line: &str| {
        let kind = line.strip_prefix("kind:").map(str::trim);
        kind.is_some_and(|kind| kind.trim_matches(['"', '\'']) == "Secret")
    };
    text.lines().any(is_kind)
        || serde_json::from_str::<Json<'_>>(text).is_ok_and(|json| json.kind == "Secret")
}

/// The remedy for a secret of psi that such a document replaced.
pub(crate) fn remedy(name: &str) -> String {
    format!("remove the document from its YAML, run `podman secret rm {name}`, then `psictl setup`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_recognized_by_their_kind() {
        let is_document = |text: &str| is_kube_document(&SecretBytes::new(text.into()));
        for text in [
            "apiVersion: v1\ndata:\n  A: MQ==\nkind: Secret\nmetadata:\n  name: app\n",
            "kind: \"Secret\" \r\n",
            "{\"kind\":\"Secret\",\"data\":{}}",
        ] {
            assert!(is_document(text), "{text}");
        }
        for text in ["", "hunter2", "  kind: Secret\n", "kind: ConfigMap\n", "{\"kind\":1}"] {
            assert!(!is_document(text), "{text}");
        }
        assert!(!is_kube_document(&SecretBytes::new(b"kind: Secret\n\xff".to_vec())));
    }
}
