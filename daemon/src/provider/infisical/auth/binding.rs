//! What a refused login could be bound to: the names in a token that the settings of an identity in Infisical list.
//! A refusal says which check failed, and not always with which value.

use psi_common::SecretString;
use serde_json::Value;

use super::jwt::claims_in;
use crate::provider::infisical::response::one_line;

/// The longest name that is quoted.
const MAX_NAME: usize = 120;

/// The issuer, subject and audience of a token; none if it has none of them.
pub(super) fn of_token(token: &str, text: &SecretString) -> Option<String> {
    let claims = claims_in(text.expose_secret().as_bytes())?;
    let names = [("issuer", "iss"), ("subject", "sub"), ("audience", "aud")];
    let names = names.map(|(word, claim)| (word, shown(&claims[claim])));
    sentence(&format!("{token} has"), &names)
}

/// The service account, project and zone of a Google machine, by its identity token.
pub(super) fn of_google(text: &SecretString) -> Option<String> {
    let claims = claims_in(text.expose_secret().as_bytes())?;
    let engine = &claims["google"]["compute_engine"];
    sentence(
        "this machine has",
        &[
            ("service account", shown(&claims["email"])),
            ("project", shown(&engine["project_id"])),
            ("zone", shown(&engine["zone"])),
        ],
    )
}

/// The principal of a role of EC2 by the ARN of its instance profile, which has the same account.
pub(super) fn of_role(name: &str, profile_arn: &str) -> Option<String> {
    let parts: Vec<&str> = profile_arn.split(':').collect();
    let ["arn", partition, "iam", _, account, _] = parts[..] else { return None };
    let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    let name = one_line(name);
    is_account.then(|| {
        let arn = format!("arn:{}:iam::{account}:role/{name}", one_line(partition));
        format!("this instance has account id {account} and principal ARN {arn}")
    })
}

/// "this machine has project 'p' and zone 'z'"
fn sentence(subject: &str, names: &[(&str, Option<String>)]) -> Option<String> {
    let known: Vec<String> = names
        .iter()
        .filter_map(|(word, name)| Some(format!("{word} {}", name.as_ref()?)))
        .collect();
    let (last, others) = known.split_last()?;
    Some(match others {
        [] => format!("{subject} {last}"),
        others => format!("{subject} {} and {last}", others.join(", ")),
    })
}

/// A claim in quotes; of a list, each element.
fn shown(claim: &Value) -> Option<String> {
    let quoted = |text: &str| {
        let text: String = one_line(text).chars().take(MAX_NAME).collect();
        format!("'{text}'")
    };
    match claim {
        Value::String(text) if !text.is_empty() => Some(quoted(text)),
        Value::Array(list) => {
            let texts: Vec<String> =
                list.iter().take(4).filter_map(Value::as_str).map(quoted).collect();
            (!texts.is_empty()).then(|| texts.join(", "))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;

    fn token(claims: &str) -> SecretString {
        SecretString::new(format!("h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(claims)))
    }

    #[test]
    fn names_of_a_token_are_listed() {
        let of = |claims: &str| of_token("the OIDC token", &token(claims));
        assert_eq!(
            of(r#"{"iss":"https://i","sub":"s","aud":["a","b"]}"#).as_deref(),
            Some("the OIDC token has issuer 'https://i', subject 's' and audience 'a', 'b'")
        );
        assert_eq!(of(r#"{"sub":"s"}"#).as_deref(), Some("the OIDC token has subject 's'"));
        for nothing in ["{}", r#"{"iss":7,"aud":[]}"#, "no json"] {
            assert_eq!(of(nothing), None, "{nothing}");
        }
        let hostile = format!(r#"{{"sub":"a\u001b[2J{}"}}"#, "x".repeat(5_000));
        let shown = of(&hostile).unwrap();
        assert!(shown.len() < 200 && !shown.contains(char::is_control), "{shown:?}");
    }

    #[test]
    fn names_of_a_machine_are_listed() {
        let google = r#"{"email":"a@b","google":{"compute_engine":{"project_id":"p","zone":"z"}}}"#;
        assert_eq!(
            of_google(&token(google)).as_deref(),
            Some("this machine has service account 'a@b', project 'p' and zone 'z'")
        );
        let arn = "arn:aws-cn:iam::123456789012:instance-profile/path/p";
        assert_eq!(
            of_role("r", arn).as_deref(),
            Some(
                "this instance has account id 123456789012 and principal ARN \
                 arn:aws-cn:iam::123456789012:role/r"
            )
        );
        for arn in ["", "arn:aws:iam::12:instance-profile/p", "arn:aws:s3::123456789012:x", "a:b"] {
            assert_eq!(of_role("r", arn), None, "{arn}");
        }
    }
}
