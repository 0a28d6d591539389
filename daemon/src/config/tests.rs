use super::*;
use crate::keys::pkcs11::{KeyChoice, TokenChoice};
use crate::provider::infisical::{AwsIam, Azure, Gcp, Kubernetes};
use proptest::prelude::*;

/// The config of interface.md, with the lines that this version has.
const FULL: &str = r#"
[cache]
enabled = true
backend = "tpm"
refresh_interval = "1h"
refresh_jitter = "5m"
max_stale = "7d"
on_revoked = "evict"

[access]
allow_uids = [0]
allow_gids = []

[providers.infisical]
api_url = "https://app.infisical.com"
ca_cert = "/etc/pki/ca.pem"
timeout = "10s"
[providers.infisical.auth]
method = "universal-auth"
client_id = "id"
client_secret_credential = "infisical-client-secret"
[providers.infisical.projects.myproject]
id = "project-uuid"
environment = "prod"

[providers.nitrokeyhsm]
pkcs11_module = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"
token_label = "psi"
pin_credential = "hsm-pin"

[workloads.myapp]
provider = "infisical"
depends_on = ["network-online.target"]
secrets = [{ project = "myproject", path = "/myapp", recursive = false }]
[workloads."worker@"]
provider = "infisical"
secrets = [{ project = "myproject", path = "/worker" }]
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("config.toml")).map_err(|error| error.to_string())
}

#[test]
fn the_contract_s_config_is_understood() {
    let config = parse(FULL).unwrap();
    assert_eq!(config.cache.backend, Some(BackendTag::Tpm));
    assert_eq!(config.cache.max_stale, Some(Duration::from_secs(7 * 86_400)));
    assert!(config.cache.evict_revoked);
    let infisical = config.infisical.unwrap();
    let project = &infisical.projects["myproject"];
    let client_secret = ClientSecret::Credential("infisical-client-secret".into());
    assert_eq!(project.auth, AuthConfig::Universal { client_id: "id".into(), client_secret });
    assert_eq!(config.workloads["worker@"].sources[0].path, "/worker");
    let hsm = config.hsm.unwrap();
    assert_eq!(hsm.module, Path::new("/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"));
    assert_eq!(hsm.token, TokenChoice::Label("psi".into()));
    assert_eq!(hsm.key, KeyChoice::Label("podman-secrets".into()), "the default");
    assert_eq!(hsm.pin, HsmPin::Credential("hsm-pin".into()));
    assert!(config.warnings.is_empty());
}

#[test]
fn an_empty_config_has_the_documented_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config.cache.backend, None);
    assert_eq!(config.cache.refresh_interval, Duration::from_secs(3_600));
    assert_eq!(config.cache.max_stale, None);
    assert_eq!(config.access, Access { uids: vec![0], gids: Vec::new() });
}

#[test]
fn a_fault_is_named_with_its_line() {
    let case = |from: &str, to: &str, expected: &str| {
        let text = FULL.replace(from, to);
        assert_ne!(text, FULL, "{from}");
        let error = parse(&text).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
        assert!(!error.contains('\n'), "{error}");
    };
    case("max_stale", "max_stael", "config.toml:7: unknown field `max_stael`");
    case("\"tpm\"", "\"disk\"", "config.toml:4: unknown variant `disk`");
    case("\"1h\"", "\"soon\"", "config.toml:5: 'soon' is no time span");
    case("\"1h\"", "\"1ms\"", "config.toml:5: refresh_interval must be 1s or longer");
    case("\"1h\"", "\"0s\"", "config.toml:5: a time span of nothing");
    case("\"1h\"", "\"11years\"", "config.toml:5: a time span of more than ten years");
    case("[cache]", "[cash]", "config.toml:2: unknown field `cash`");
    case("universal-auth", "magic", "config.toml:19: unknown auth method 'magic'");
    case("https://app", "ftp://app", "config.toml:15: api_url must be https");
    case("https://app", "https://u:p@app", "config.toml:15: api_url must hold neither a user");
    case("client_id = \"id\"", "", "config.toml:18: universal-auth needs a client_id");
    case(
        "project = \"myproject\", path = \"/w",
        "project = \"other\", path = \"/w",
        "config.toml:37: workload 'worker@': there is no",
    );
    case(
        "path = \"/worker\"",
        "path = \"worker\"",
        "config.toml:37: workload 'worker@': the path 'worker'",
    );
    case(
        "client_secret_credential = \"i",
        "client_secret_credential = \"../i",
        "config.toml:21: client_secret_credential",
    );
    case(
        "client_secret_credential",
        "client_secret_file = \"/f\"\nclient_secret_credential",
        "config.toml:18: give exactly one",
    );
    case("[cache]", "[cache", "config.toml:2: ");
}

/// [`FULL`] with other lines in place of those of `auth`, of which there are three from line 19 on.
fn with_auth(lines: &str) -> String {
    let lines =
        format!("{lines}{}", "\n".repeat(2_usize.saturating_sub(lines.matches('\n').count())));
    let (before, rest) = FULL.split_once("method = ").unwrap();
    let (_, after) = rest.split_once("infisical-client-secret\"").unwrap();
    format!("{before}{lines}{after}")
}

#[test]
fn each_method_has_its_defaults() {
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
        AuthConfig::Kubernetes(Kubernetes {
            identity_id,
            token_file: "/var/run/secrets/kubernetes.io/serviceaccount/token".into()
        })
    );
}

#[test]
fn a_key_of_another_method_is_named_with_its_line() {
    let case = |lines: &str, expected: &str| {
        let error = parse(&with_auth(lines)).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    };
    let gcp = "method = \"gcp\"\nidentity_id = \"i-1\"\n";
    case(
        &format!("{gcp}region = \"eu-central-1\""),
        "config.toml:21: region is no key of gcp, but of aws-iam",
    );
    case(
        &format!("{gcp}client_id = \"c\""),
        "config.toml:21: client_id is no key of gcp, but of universal-auth and azure",
    );
    case(
        &format!("{gcp}client_secret = \"hunter2\""),
        "config.toml:21: client_secret is no key of gcp, but of universal-auth",
    );
    case(&format!("{gcp}audience = \"a\""), "config.toml:21: unknown field `audience`");
    case(&format!("{gcp}metadata_url = \"x\""), "config.toml:21: metadata_url is no URL");
    case(&format!("{gcp}metadata_url = \"ftp://h\""), "config.toml:21: metadata_url must be http");
    case(
        &format!("{gcp}metadata_url = \"http://u@h\""),
        "config.toml:21: metadata_url must hold neither a user",
    );
    case("method = \"gcp\"", "config.toml:18: gcp needs an identity_id");
    case(
        "method = \"aws-iam\"\nidentity_id = \"i-1\"\nregion = \"Frankfurt\"",
        "config.toml:21: region is no AWS region",
    );
    case(
        "method = \"universal-auth\"\nclient_id = \"c\"\ntoken_file = \"/t\"",
        "config.toml:21: token_file is no key of universal-auth, but of kubernetes",
    );
    case(
        "method = \"aws\"",
        "config.toml:19: unknown auth method 'aws', expected universal-auth, aws-iam",
    );
}

#[test]
fn a_metadata_service_elsewhere_is_warned_of() {
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
fn a_token_is_named_in_one_way_each() {
    let with = |lines: &str| {
        let text = format!("[providers.nitrokeyhsm]\n{lines}\n[cache]\nbackend = \"hsm\"\n");
        parse(&text).map(|config| config.hsm.unwrap())
    };
    let module = "pkcs11_module = \"/m.so\"\n";
    let other = with(&format!("{module}slot = 3\nkey_id = \"02fF\"\npin_file = \"/pin\"")).unwrap();
    assert_eq!(other.token, TokenChoice::Slot(3));
    assert_eq!(other.key, KeyChoice::Id(vec![2, 255]));
    assert_eq!(other.pin, HsmPin::File("/pin".into()));
    let fault = |lines: &str, expected: &str| {
        let error = with(&format!("{module}{lines}")).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    };
    let token = "config.toml:1: give exactly one of token_label and slot";
    fault("pin_file = \"/pin\"", token);
    fault("slot = 0\ntoken_label = \"psi\"\npin_file = \"/pin\"", token);
    let pin = "config.toml:1: give exactly one of pin_credential and pin_file";
    fault("slot = 0", pin);
    fault("slot = 0\npin_file = \"/pin\"\npin_credential = \"hsm-pin\"", pin);
    fault(
        "slot = 0\npin_credential = \"a/b\"",
        "config.toml:4: pin_credential is no credential name",
    );
    fault("slot = 0\npin = \"1234\"", "config.toml:4: unknown field `pin`");
    for id in ["", "2", "0g", "+1", "é"] {
        let expected = format!("config.toml:3: key_id '{id}' is not bytes in hex");
        fault(&format!("key_id = \"{id}\"\nslot = 0\npin_file = \"/pin\""), &expected);
    }
    let both = "slot = 0\nkey_id = \"02\"\nkey_label = \"k\"\npin_file = \"/pin\"";
    fault(both, "config.toml:1: give at most one of key_label and key_id");
    let relative = with("pkcs11_module = \"m.so\"\nslot = 0\npin_file = \"/pin\"").unwrap_err();
    assert!(relative.starts_with("config.toml:2: pkcs11_module must be an absolute path"));
}

#[test]
fn the_hsm_backend_takes_a_token() {
    let error = parse("[cache]\nbackend = \"hsm\"\n").unwrap_err();
    assert!(error.starts_with("config.toml:2: backend = \"hsm\" takes [providers.nitrokeyhsm]"));
}

#[test]
fn what_is_not_wise_is_said() {
    let inline = FULL.replace(
        "client_secret_credential = \"infisical-client-secret\"",
        "client_secret = \"hunter2\"",
    );
    let config = parse(&inline).unwrap();
    assert!(config.warnings[0].contains("clear text"));
    assert!(!format!("{config:?}").contains("hunter2"));
    let http = FULL.replace("https://app", "http://app");
    let http = http.replace("api_url =", "allow_http = true\napi_url =");
    assert!(parse(&http).unwrap().warnings[0].contains("clear text"));
}

/// A name that begins like an address is a name.
#[test]
fn plain_http_leaves_this_host_only_if_the_config_allows_it() {
    let with = |url: &str| parse(&FULL.replace("https://app.infisical.com", url));
    for url in [
        "http://127.0.0.1:80",
        "http://127.9.8.7",
        "http://[::1]:8080/x",
        "http://localhost:3000",
        "http://LOCALHOST",
        // The URL's own rules make an address of these.
        "http://127.1",
        "http://2130706433",
    ] {
        assert!(with(url).unwrap().warnings.is_empty(), "{url}");
    }
    for url in [
        "http://127.evil.example",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://localhost.",
        "http://evil.example/127.0.0.1",
        "http://10.0.0.1",
        "http://128.0.0.1",
        "http://[::ffff:127.0.0.1]",
        "http://[fe80::1]",
        "http://0.0.0.0",
    ] {
        let error = with(url).unwrap_err();
        assert!(
            error.starts_with("config.toml:15: api_url is http to another host"),
            "{url}: {error}"
        );
        assert!(error.contains("allow_http = true"), "{error}");
    }
}

/// TOML writes any character: what is no line of a report, or another directory, is refused by its line.
#[test]
fn control_characters_and_dot_segments_are_refused_in_names_and_paths() {
    for (from, to, expected) in [
        (
            "path = \"/worker\"",
            "path = \"/w\\t/x\"",
            "config.toml:37: workload 'worker@': the path",
        ),
        (
            "path = \"/worker\"",
            "path = \"/a/../b\"",
            "config.toml:37: workload 'worker@': the path",
        ),
        (
            "path = \"/worker\"",
            "path = \"/a/.\\t./b\"",
            "config.toml:37: workload 'worker@': the path",
        ),
        (
            "path = \"/worker\"",
            "path = \"/\\u009b1m\"",
            "config.toml:37: workload 'worker@': the path",
        ),
        ("id = \"project-uuid\"", "id = \"a\\nb\"", "config.toml:22: id"),
        ("environment = \"prod\"", "environment = \"\\u001b[2J\"", "config.toml:22: environment"),
        ("projects.myproject]", "projects.\"my\\tproject\"]", "config.toml:22: the project"),
    ] {
        let text = FULL.replace(from, to);
        assert_ne!(text, FULL, "{from}");
        let error = parse(&text).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
        assert!(!error.contains(char::is_control), "{error:?}");
    }
}

#[test]
fn no_fault_quotes_a_client_secret() {
    for value in ["12345678", "[\"hunter2\"]", "{ hunter2 = 1 }", "hunter2", "\"hunter2"] {
        let text = FULL.replace(
            "client_secret_credential = \"infisical-client-secret\"",
            &format!("client_secret = {value}"),
        );
        let error = parse(&text).unwrap_err();
        assert!(!error.contains("hunter2") && !error.contains("12345678"), "{error}");
        assert!(
            error.starts_with("config.toml:21: ") || error.starts_with("config.toml:18: "),
            "{error}"
        );
    }
}

proptest! {
    #[test]
    fn parsing_is_total(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn an_unknown_key_is_always_refused(key in "[a-z_]{1,12}", table in prop::sample::select(vec!["cache", "access", "providers", "providers.infisical"])) {
        let known = ["enabled", "backend", "refresh_interval", "refresh_jitter", "max_stale", "on_revoked", "allow_uids", "allow_gids", "infisical", "nitrokeyhsm", "api_url", "allow_http", "ca_cert", "timeout", "auth", "projects"];
        prop_assume!(!known.contains(&key.as_str()));
        let error = parse(&format!("\n[{table}]\n{key} = 1\n")).unwrap_err();
        prop_assert!(error.starts_with("config.toml:3: unknown field"), "{error}");
    }

    #[test]
    fn any_cut_of_a_good_config_is_one_line_or_good(at in any::<prop::sample::Index>()) {
        if let Err(error) = parse(&FULL[..at.index(FULL.len())]) {
            prop_assert!(!error.contains('\n'));
        }
    }
}
