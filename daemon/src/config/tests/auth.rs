//! `auth`: each method's keys.

use super::*;
use crate::provider::infisical::{AwsIam, Azure, Gcp, TokenFile, TokenKind};

/// [`FULL`] with other lines in place of those of `auth`, of which there are three from line 19 on.
fn with_auth(lines: &str) -> String {
    let lines =
        format!("{lines}{}", "\n".repeat(2_usize.saturating_sub(lines.matches('\n').count())));
    let (before, rest) = FULL.split_once("method = ").unwrap();
    let (_, after) = rest.split_once("infisical-client-secret\"").unwrap();
    format!("{before}{lines}{after}")
}

#[test]
fn auth_methods_have_their_defaults() {
    let auth = |lines: &str| {
        let config = parse(&with_auth(lines)).unwrap();
        assert!(config.warnings.is_empty(), "{lines}");
        config.infisical.unwrap().projects["myproject"].auth.clone()
    };
    let metadata_url: url::Url = "http://169.254.169.254".parse().unwrap();
    let identity_id = "i-1".to_owned();
    assert_eq!(
        auth("method = \"aws-iam\"\nidentity_id = \"i-1\""),
        AuthConfig::AwsIam(AwsIam {
            identity_id: identity_id.clone(),
            region: None,
            metadata_url: metadata_url.clone()
        })
    );
    assert_eq!(
        auth("method = \"gcp\"\nidentity_id = \"i-1\"\nmetadata_url = \"http://[::1]:8080/x\""),
        AuthConfig::Gcp(Gcp {
            identity_id: identity_id.clone(),
            metadata_url: "http://[::1]:8080/x".parse().unwrap()
        })
    );
    assert_eq!(
        auth("method = \"azure\"\nidentity_id = \"i-1\"\nclient_id = \"c\""),
        AuthConfig::Azure(Azure {
            identity_id: identity_id.clone(),
            resource: "https://management.azure.com/".into(),
            client_id: Some("c".into()),
            metadata_url
        })
    );
    assert_eq!(
        auth("method = \"kubernetes\"\nidentity_id = \"i-1\""),
        AuthConfig::TokenFile(TokenFile {
            kind: TokenKind::Kubernetes,
            identity_id: identity_id.clone(),
            token_file: "/var/run/secrets/kubernetes.io/serviceaccount/token".into()
        })
    );
    for (method, kind) in
        [("jwt", TokenKind::Jwt), ("oidc", TokenKind::Oidc), ("spiffe", TokenKind::Spiffe)]
    {
        let lines = format!("method = \"{method}\"\nidentity_id = \"i-1\"\ntoken_file = \"/t\"");
        let (identity_id, token_file) = (identity_id.clone(), "/t".into());
        let expected = AuthConfig::TokenFile(TokenFile { kind, identity_id, token_file });
        assert_eq!((auth(&lines), kind.name()), (expected, method));
    }
    assert_eq!(
        auth("method = \"token\"\ntoken_credential = \"infisical-token\""),
        AuthConfig::AccessToken(SecretLocation::Credential("infisical-token".into()))
    );
    assert_eq!(
        auth("method = \"token\"\ntoken_file = \"/t\""),
        AuthConfig::AccessToken(SecretLocation::File("/t".into()))
    );
}

#[test]
fn key_of_another_auth_method_is_refused() {
    let case = |lines: &str, expected: &str| {
        let error = parse(&with_auth(lines)).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    };
    let gcp = "method = \"gcp\"\nidentity_id = \"i-1\"\n";
    case(
        &format!("{gcp}region = \"eu-central-1\""),
        "config.toml:21: region is not a key of gcp, but of aws-iam",
    );
    case(
        &format!("{gcp}client_id = \"c\""),
        "config.toml:21: client_id is not a key of gcp, but of universal-auth and azure",
    );
    case(
        &format!("{gcp}client_secret = \"hunter2\""),
        "config.toml:21: client_secret is not a key of gcp, but of universal-auth",
    );
    case(&format!("{gcp}audience = \"a\""), "config.toml:21: unknown field `audience`");
    case(&format!("{gcp}metadata_url = \"x\""), "config.toml:21: metadata_url is not a URL");
    case(&format!("{gcp}metadata_url = \"ftp://h\""), "config.toml:21: metadata_url must be http");
    case(
        &format!("{gcp}metadata_url = \"http://u@h\""),
        "config.toml:21: metadata_url must hold neither a user",
    );
    case("method = \"gcp\"", "config.toml:18: gcp needs an identity_id");
    case(
        "method = \"aws-iam\"\nidentity_id = \"i-1\"\nregion = \"Frankfurt\"",
        "config.toml:21: region is not an AWS region",
    );
    case(
        "method = \"universal-auth\"\nclient_id = \"c\"\ntoken_file = \"/t\"",
        "config.toml:21: token_file is not a key of universal-auth, but of kubernetes, jwt, oidc, spiffe \
         and token",
    );
    case("method = \"oidc\"\nidentity_id = \"i\"", "config.toml:18: oidc needs a token_file");
    case("method = \"jwt\"\ntoken_file = \"/t\"", "config.toml:18: jwt needs an identity_id");
    case(
        "method = \"token\"",
        "config.toml:18: give exactly one of token_credential and token_file",
    );
    case(
        "method = \"token\"\ntoken_credential = \"../t\"",
        "config.toml:20: token_credential is not a credential name",
    );
    case(
        "method = \"token\"\nidentity_id = \"i\"",
        "config.toml:20: identity_id is not a key of token, but of aws-iam,",
    );
    case(
        "method = \"aws\"",
        "config.toml:19: unknown auth method 'aws', expected universal-auth, aws-iam",
    );
}

#[test]
fn remote_metadata_url_is_warned_of() {
    let warnings = |url: &str| {
        let lines = format!("method = \"gcp\"\nidentity_id = \"i-1\"\nmetadata_url = \"{url}\"");
        parse(&with_auth(&lines)).unwrap().warnings
    };
    for near in ["169.254.169.254", "127.0.0.1:1", "[fd00:ec2::254]", "metadata.google.internal"] {
        assert!(warnings(&format!("http://{near}/")).is_empty(), "{near}");
    }
    assert!(warnings("https://proxy.example/").is_empty());
    assert!(warnings("http://proxy.example/")[0].contains("clear text"));
}

#[test]
fn client_certificate_has_one_key_and_an_https_url() {
    let with = |lines: &str| {
        let tls = "method = \"tls-cert\"\nidentity_id = \"i-1\"\ncertificate_file = \"/c.pem\"\n";
        let config = parse(&with_auth(&format!("{tls}{lines}")))?;
        match config.infisical.unwrap().projects["myproject"].auth.clone() {
            AuthConfig::TlsCert(tls) => Ok(tls),
            other => panic!("{other:?}"),
        }
    };
    let tls = with("key_credential = \"client-key\"").unwrap();
    let key = SecretLocation::Credential("client-key".into());
    assert_eq!(tls.key, PrivateKeyLocation::Stored(key));
    let tls = with("key_file = \"/k\"\nlogin_url = \"https://h:8443/api/\"").unwrap();
    assert_eq!(tls.login_url.as_str(), "https://h:8443/");
    for (lines, words) in [
        ("", "give exactly one of key_credential, key_file, key_label and key_id"),
        ("key_file = \"/k\"\nkey_id = \"01\"", "give exactly one of key_credential"),
        ("key_id = \"xy\"", "key_id 'xy' is not bytes in hex"),
        ("key_file = \"/k\"\nlogin_url = \"http://h\"", "tls-cert needs https: login_url is http"),
        ("key_file = \"/k\"\nlogin_url = \"https://u@h\"", "login_url must hold neither a user"),
        ("key_file = \"/k\"\nlogin_url = \"h\"", "login_url is not a URL"),
    ] {
        let error: String = with(lines).unwrap_err();
        assert!(error.contains(words), "{lines}: {error}");
    }
    let label = "[providers.infisical.auth]\nmethod = \"tls-cert\"\nidentity_id = \"i\"\n\
                 certificate_file = \"/c\"\nkey_label = \"l\"\n";
    let error = parse(label).unwrap_err();
    assert!(error.contains("a key on a token needs [providers.pkcs11]"), "{error}");
}

/// Infisical's cloud takes client certificates on a port of its own.
#[test]
fn login_url_of_the_cloud_has_its_port() {
    let url = |api_url: &str| {
        let text = with_auth(
            "method = \"tls-cert\"\nidentity_id = \"i\"\ncertificate_file = \"/c\"\nkey_file = \"/k\"",
        );
        let line = text.lines().find(|line| line.starts_with("api_url")).unwrap().to_owned();
        let config = parse(&text.replace(&line, &format!("api_url = \"{api_url}\""))).unwrap();
        match &config.infisical.unwrap().projects["myproject"].auth {
            AuthConfig::TlsCert(tls) => tls.login_url.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(url("https://eu.infisical.com/api"), "https://eu.infisical.com:8443/");
    assert_eq!(url("https://eu.infisical.com:444"), "https://eu.infisical.com:444/");
    assert_eq!(url("https://infisical.example/x/"), "https://infisical.example/x");
}
