mod auth;
mod workloads;

use super::*;
use crate::keys::pkcs11::{KeyChoice, TokenChoice};
use crate::provider::upstream::WorkloadUser;
use proptest::prelude::*;

/// A config with every table.
const FULL: &str = r#"
[cache]
enabled = true
backend = "tpm"
refresh_interval = "1h"
refresh_jitter = "5m"
max_stale = "7d"
on_revoked = "evict"

# Comments, which
# are
# no configuration.

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

[providers.pkcs11]
pkcs11_module = "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"
token_label = "psi"
pin_credential = "hsm-pin"

[workloads.myapp]
provider = "infisical"
depends_on = ["network-online.target"]
secrets = [{ project = "myproject", path = "/myapp", recursive = false }]
[workloads."worker@"]
user = "web"
provider = "infisical"
secrets = [{ project = "myproject", path = "/worker" }]
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("config.toml")).map_err(|error| error.to_string())
}

#[test]
fn documented_config_parses() {
    let config = parse(FULL).unwrap();
    assert_eq!(config.cache.backend, Some(BackendTag::Tpm));
    assert_eq!(config.cache.max_stale, Some(Duration::from_secs(7 * 86_400)));
    assert!(config.cache.evict_revoked);
    let infisical = config.infisical.unwrap();
    let project = &infisical.projects["myproject"];
    let client_secret = SecretLocation::Credential("infisical-client-secret".into());
    assert_eq!(project.auth, AuthConfig::Universal { client_id: "id".into(), client_secret });
    assert_eq!(config.workloads["worker@"].sources[0].path, "/worker");
    assert_eq!(config.workloads["worker@"].user, Some(WorkloadUser::named("web".into())));
    assert_eq!(config.workloads["myapp"].user, None);
    let hsm = config.pkcs11.unwrap();
    assert_eq!(hsm.module, Path::new("/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"));
    assert_eq!(hsm.token, TokenChoice::Label("psi".into()));
    assert_eq!(hsm.key, KeyChoice::Label("podman-secrets".into()), "the default");
    assert_eq!(hsm.pin, Pkcs11Pin::Credential("hsm-pin".into()));
    assert!(config.warnings.is_empty());
}

#[test]
fn empty_config_has_the_documented_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config.cache.backend, None);
    assert_eq!(config.cache.refresh_interval, Duration::from_secs(3_600));
    assert_eq!(config.cache.max_stale, None);
}

#[test]
fn user_is_a_name_or_a_uid() {
    let user = |text: &str| {
        let config = parse(&FULL.replace("\"web\"", text))?;
        Ok(config.workloads["worker@"].user.clone().unwrap())
    };
    assert_eq!(user("1000"), Ok(WorkloadUser::Uid(1_000)));
    assert_eq!(user("\"1000\""), Ok(WorkloadUser::Uid(1_000)));
    assert_eq!(user("\"a.b-c$\""), Ok(WorkloadUser::named("a.b-c$".into())));
    for text in [
        "\"\"",
        "\"a:b\"",
        "\"../x\"",
        "\"a\\nb\"",
        "4294967295",
        "\"99999999999\"",
        "-1",
        "1.5",
        "[0]",
    ] {
        let error: String = user(text).unwrap_err();
        assert!(error.starts_with("config.toml:36: ") && error.contains("user"), "{text}: {error}");
    }
}

#[test]
fn access_of_earlier_versions_is_an_error_that_names_user() {
    for access in ["[access]\n", "[access]\nallow_uids = [0]\n", "access = 1\n"] {
        let error = parse(access).unwrap_err();
        assert!(error.starts_with("config.toml:1: there is no [access] any more"), "{error}");
        assert!(error.contains("user = \"NAME\" in [workloads."), "{error}");
    }
}

#[test]
fn faults_name_their_line() {
    let case = |from: &str, to: &str, expected: &str| {
        let text = FULL.replace(from, to);
        assert_ne!(text, FULL, "{from}");
        let error = parse(&text).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
        assert!(!error.contains('\n'), "{error}");
    };
    case("max_stale", "max_stael", "config.toml:7: unknown field `max_stael`");
    case("\"tpm\"", "\"disk\"", "config.toml:4: unknown variant `disk`");
    case("\"1h\"", "\"soon\"", "config.toml:5: 'soon' is not a time span");
    case("\"1h\"", "\"1ms\"", "config.toml:5: refresh_interval must be at least 1s");
    case("\"1h\"", "\"0s\"", "config.toml:5: a time span must be longer than 0s");
    case("\"1h\"", "\"11years\"", "config.toml:5: a time span must be at most ten years");
    case("[cache]", "[cash]", "config.toml:2: unknown field `cash`");
    case("universal-auth", "magic", "config.toml:19: unknown auth method 'magic'");
    case("https://app", "ftp://app", "config.toml:15: api_url must be https");
    case("https://app", "https://u:p@app", "config.toml:15: api_url must hold neither a user");
    case("client_id = \"id\"", "", "config.toml:18: universal-auth needs a client_id");
    case(
        "project = \"myproject\", path = \"/w",
        "project = \"other\", path = \"/w",
        "config.toml:38: workload 'worker@': there is no",
    );
    case(
        "path = \"/worker\"",
        "path = \"worker\"",
        "config.toml:38: workload 'worker@': the path 'worker'",
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

#[test]
fn token_key_and_pin_are_named_exactly_once() {
    let with = |lines: &str| {
        let text = format!("[providers.pkcs11]\n{lines}\n[cache]\nbackend = \"hsm\"\n");
        parse(&text).map(|config| config.pkcs11.unwrap())
    };
    let module = "pkcs11_module = \"/m.so\"\n";
    let other = with(&format!("{module}slot = 3\nkey_id = \"02fF\"\npin_file = \"/pin\"")).unwrap();
    assert_eq!(other.token, TokenChoice::Slot(3));
    assert_eq!(other.key, KeyChoice::Id(vec![2, 255]));
    assert_eq!(other.pin, Pkcs11Pin::File("/pin".into()));
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
        "config.toml:4: pin_credential is not a credential name",
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
fn nitrokeyhsm_is_an_alias_of_pkcs11() {
    let table = "pkcs11_module = \"/m.so\"\nslot = 0\npin_file = \"/pin\"\n";
    let with = |name: &str| parse(&format!("[providers.{name}]\n{table}")).unwrap().pkcs11.unwrap();
    assert_eq!(with("nitrokeyhsm"), with("pkcs11"));
    let both = format!("[providers.nitrokeyhsm]\n{table}[providers.pkcs11]\n{table}");
    assert!(parse(&both).unwrap_err().contains("duplicate field `pkcs11`"));
}

#[test]
fn hsm_backend_needs_a_token() {
    let error = parse("[cache]\nbackend = \"hsm\"\n").unwrap_err();
    assert!(error.starts_with("config.toml:2: backend = \"hsm\" needs [providers.pkcs11]"));
}

#[test]
fn unsafe_settings_are_warned_of() {
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

/// A name that begins like an address is not an address.
#[test]
fn http_to_another_host_needs_allow_http() {
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

/// TOML can write any character; control characters and dot segments are refused with their line.
#[test]
fn control_characters_and_dot_segments_are_refused_in_names_and_paths() {
    for (from, to, expected) in [
        (
            "path = \"/worker\"",
            "path = \"/w\\t/x\"",
            "config.toml:38: workload 'worker@': the path",
        ),
        (
            "path = \"/worker\"",
            "path = \"/a/../b\"",
            "config.toml:38: workload 'worker@': the path",
        ),
        (
            "path = \"/worker\"",
            "path = \"/a/.\\t./b\"",
            "config.toml:38: workload 'worker@': the path",
        ),
        (
            "path = \"/worker\"",
            "path = \"/\\u009b1m\"",
            "config.toml:38: workload 'worker@': the path",
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
fn faults_do_not_quote_a_client_secret() {
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
    fn parse_never_panics(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn unknown_keys_are_refused(key in "[a-z_]{1,12}", table in prop::sample::select(vec!["cache", "providers", "providers.infisical"])) {
        let known = ["enabled", "backend", "refresh_interval", "refresh_jitter", "max_stale", "on_revoked", "infisical", "pkcs11", "nitrokeyhsm", "api_url", "allow_http", "ca_cert", "timeout", "auth", "projects"];
        prop_assume!(!known.contains(&key.as_str()));
        let error = parse(&format!("\n[{table}]\n{key} = 1\n")).unwrap_err();
        prop_assert!(error.starts_with("config.toml:3: unknown field"), "{error}");
    }

    #[test]
    fn errors_of_truncated_configs_are_one_line(at in any::<prop::sample::Index>()) {
        if let Err(error) = parse(&FULL[..at.index(FULL.len())]) {
            prop_assert!(!error.contains('\n'));
        }
    }
}
