//! What a config is written of: the names of credentials, and TOML.

/// The credential of the client secret.
pub(super) const CLIENT_SECRET: &str = "infisical-client-secret";
/// The credential of a static access token.
pub(super) const ACCESS_TOKEN: &str = "infisical-token";
/// The credential of a client certificate's private key.
pub(super) const CLIENT_KEY: &str = "infisical-client-key";
/// The credential of the token's PIN.
pub(super) const PIN: &str = "hsm-pin";

/// `key = "value"`
pub(super) fn setting(key: &str, value: &str) -> String {
    format!("{key} = {}\n", quoted(value))
}

/// A TOML key: bare where it can be.
pub(super) fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { quoted(name) }
}

/// A TOML basic string.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => quoted += &format!("\\u{:04X}", u32::from(control)),
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn quoted_is_a_toml_string_of_the_same_text(text in ".*") {
            let table: toml::Table = format!("{} = {}", key(&text), quoted(&text)).parse().unwrap();
            proptest::prop_assert_eq!(table[&text].as_str(), Some(text.as_str()));
        }
    }
}
