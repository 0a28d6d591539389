//! `$NAME`, `${NAME}` and `$$` in values of a Compose env-file (compose-go's `template`).
//!
//! A variable is one that an earlier line sets. Compose also asks its own environment, and takes a variable that nothing
//! sets as empty: a password with a dollar sign would lose its end. So such a line is refused here.

use psi_common::{MAX_SECRET_BYTES, SecretString};

use super::Fault;

/// The operators between a variable and its alternative.
const OPERATORS: [&str; 6] = [":-", ":+", ":?", "-", "+", "?"];

const UNSET: Fault = (
    "refers to a variable by $ that no line before it sets",
    "if the value has a dollar sign of its own, put it into single quotes; otherwise set the variable in the file",
);
const MALFORMED: Fault = (
    "has a ${ that is no reference to a variable",
    "if the value has a dollar sign of its own, put it into single quotes",
);
const NESTED: Fault = (
    "has an alternative of a variable, ${NAME:-...}, with a dollar sign or a brace in it",
    "write the value out, in single quotes",
);

/// Expands the references in a value. `of` has the values of the variables.
pub(super) fn expand(
    value: &str,
    of: &dyn Fn(&str) -> Option<SecretString>,
) -> Result<SecretString, Fault> {
    let mut parts: Vec<SecretString> = Vec::new();
    let mut rest = value;
    while let Some(at) = rest.find('$') {
        parts.push(secret(&rest[..at]));
        let after = &rest[at + 1..];
        if let Some(plain) = after.strip_prefix('$') {
            parts.push(secret("$"));
            rest = plain;
        } else if let Some(braced) = after.strip_prefix('{') {
            let end = braced.find('}').ok_or(MALFORMED)?;
            parts.push(braced_reference(&braced[..end], of)?);
            rest = &braced[end + 1..];
        } else {
            let name = name(after);
            parts.push(if name.is_empty() { secret("$") } else { of(name).ok_or(UNSET)? });
            rest = &after[name.len()..];
        }
    }
    parts.push(secret(rest));
    joined(&parts)
}

/// The text between `${` and `}`.
fn braced_reference(
    text: &str,
    of: &dyn Fn(&str) -> Option<SecretString>,
) -> Result<SecretString, Fault> {
    let name = name(text);
    let operation = &text[name.len()..];
    if name.is_empty() {
        return Err(MALFORMED);
    }
    let value = of(name);
    if operation.is_empty() {
        return value.ok_or(UNSET);
    }
    let operator = OPERATORS.iter().find(|operator| operation.starts_with(**operator));
    let operator = operator.ok_or(MALFORMED)?;
    let alternative = &operation[operator.len()..];
    if alternative.contains(['$', '{']) {
        return Err(NESTED);
    }
    if alternative.contains('\n') {
        return Err(MALFORMED);
    }
    // With a colon, an empty value is none.
    let value = value.filter(|value| !operator.starts_with(':') || !value.is_empty());
    match (operator.trim_start_matches(':'), value) {
        ("+", value) => Ok(secret(value.map_or("", |_| alternative))),
        ("-", value) => Ok(value.unwrap_or_else(|| secret(alternative))),
        (_, value) => value.ok_or(UNSET),
    }
}

/// The name at the beginning of a text; empty if there is none.
fn name(text: &str) -> &str {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit()) { "" } else { &text[..end] }
}

/// One text, allocated at once. References to references grow fast.
fn joined(parts: &[SecretString]) -> Result<SecretString, Fault> {
    let length: usize = parts.iter().map(SecretString::len).sum();
    if length > MAX_SECRET_BYTES {
        return Err(("has a value that is longer than a secret can be", "write less into it"));
    }
    let mut text = String::with_capacity(length);
    parts.iter().for_each(|part| text.push_str(part.expose_secret()));
    Ok(SecretString::new(text))
}

fn secret(text: &str) -> SecretString {
    SecretString::new(text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expanded(value: &str) -> Result<String, Fault> {
        let of = |name: &str| match name {
            "A" => Some(secret("a$B")),
            "EMPTY" => Some(secret("")),
            "_x9" => Some(secret("9")),
            _ => None,
        };
        expand(value, &of).map(SecretString::into_exposed)
    }

    #[test]
    fn expand_replaces_references_once() {
        for (value, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$A-${A}", "a$B-a$B"),
            ("$$A$$$A", "$A$a$B"),
            ("p$1$ $% $", "p$1$ $% $"),
            ("$_x9.${_x9}y", "9.9y"),
            ("${NONE:-d}${NONE-}${EMPTY:-e}${EMPTY-f}", "de"),
            ("${A:-d}${A-d}${A:?why}${A?why}", "a$Ba$Ba$Ba$B"),
            ("${A:+set}${A+set}${EMPTY:+no}${EMPTY+set}${NONE+no}", "setsetset"),
            ("${A:-x} } {", "a$B } {"),
            ("ä${A}ö", "äa$Bö"),
        ] {
            assert_eq!(expanded(value).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn expand_rejects_what_it_cannot_know() {
        for value in ["$NONE", "pa$word", "${NONE}", "${NONE?why}", "${EMPTY:?why}"] {
            assert_eq!(expanded(value), Err(UNSET), "{value}");
        }
        for value in ["${", "${}", "${A", "${A ", "${1}", "${A!}", "${ A}", "${NONE:-a\nb}"] {
            assert_eq!(expanded(value), Err(MALFORMED), "{value}");
        }
        for value in ["${NONE:-$A}", "${NONE:-${A}}", "${NONE:-{}"] {
            assert_eq!(expanded(value), Err(NESTED), "{value}");
        }
        let long = secret(&"x".repeat(MAX_SECRET_BYTES / 2));
        let of = |_: &str| Some(secret(long.expose_secret()));
        assert!(expand("$A$A", &of).is_ok() && expand("$A$A$A", &of).is_err());
    }

    proptest! {
        #[test]
        fn doubled_dollars_are_kept(value in "[^\0]{0,20}") {
            prop_assert_eq!(expanded(&value.replace('$', "$$")).unwrap(), value);
        }

        #[test]
        fn expand_never_panics(value in "[$A{}:+?ä-]{0,16}") {
            let _ = expanded(&value);
        }
    }
}
