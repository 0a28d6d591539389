//! Podman's coming provider API: a secret is asked for by its name, in JSON on stdin, and podman keeps nothing of
//! it (contrib/design-docs/secret-driver-plugins.md of podman's pull request 28144).
//!
//! Podman may hold its locks meanwhile, so a name is only what psid itself knows: podman is not asked for ids.

use psi_common::{Exit, SecretBytes};
use serde_json::{Map, Value};

use crate::failure::Failure;

/// The provider whose references need not name it.
const USUAL: &str = "infisical";

/// The name by which psid knows what a request is for: `WORKLOAD--KEY` of the config, or a reference.
pub(crate) fn name(request: &SecretBytes) -> Result<String, Failure> {
    let request: Value = serde_json::from_slice(request.expose_secret())
        .map_err(|cause| bad(&format!("it is no JSON ({cause})")))?;
    let name = request["SecretName"].as_str().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| bad("it has no \"SecretName\""))?;
    match &request["ProviderOpts"] {
        Value::Null => Ok(name.to_owned()),
        Value::Object(options) if options.is_empty() => Ok(name.to_owned()),
        Value::Object(options) => Ok(reference(name, options)),
        _ => Err(bad("its \"ProviderOpts\" is no object")),
    }
}

/// The options are the members of a reference; what they leave out is Infisical, and the secret's name as the key.
fn reference(name: &str, options: &Map<String, Value>) -> String {
    let mut reference = options.clone();
    let provider = reference.entry("provider").or_insert_with(|| USUAL.into());
    if provider == USUAL {
        reference.entry("key").or_insert_with(|| name.into());
    }
    Value::Object(reference).to_string()
}

fn bad(why: &str) -> Failure {
    Failure::new(
        Exit::BadInput,
        format!("the request on stdin is not podman's: {why}"),
        "pass {\"SecretName\":\"WORKLOAD--KEY\",\"ProviderOpts\":{}}",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(request: &str) -> Result<String, Failure> {
        name(&SecretBytes::new(request.as_bytes().to_vec()))
    }

    #[test]
    fn a_name_is_taken_as_it_is_and_options_make_a_reference() {
        for plain in [
            r#"{"SecretName":"app--KEY"}"#,
            r#"{"SecretName":"app--KEY","ProviderOpts":null}"#,
            r#"{"SecretName":"app--KEY","ProviderOpts":{},"ToCome":[1]}"#,
        ] {
            assert_eq!(named(plain).unwrap(), "app--KEY");
        }
        let with = |options: &str| {
            let request = format!(r#"{{"SecretName":"KEY","ProviderOpts":{options}}}"#);
            serde_json::from_str::<Value>(&named(&request).unwrap()).unwrap()
        };
        assert_eq!(
            with(r#"{"project":"p","path":"/a"}"#),
            serde_json::json!({"provider":"infisical","project":"p","path":"/a","key":"KEY"})
        );
        assert_eq!(with(r#"{"project":"p","key":"OTHER"}"#)["key"], "OTHER");
        let sealed = with(r#"{"provider":"nitrokeyhsm","blob":"AA=="}"#);
        assert_eq!(sealed, serde_json::json!({"provider":"nitrokeyhsm","blob":"AA=="}));
    }

    #[test]
    fn what_is_no_request_is_told() {
        for (request, why) in [
            ("", "no JSON"),
            ("[]", "no \"SecretName\""),
            (r#"{"SecretName":1}"#, "no \"SecretName\""),
            (r#"{"SecretName":""}"#, "no \"SecretName\""),
            (r#"{"SecretName":"a","ProviderOpts":"x"}"#, "is no object"),
        ] {
            assert!(named(request).unwrap_err().to_string().contains(why), "{request}");
        }
    }
}
